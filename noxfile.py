# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of `make test`. They share the environment that the Makefile made, so that none installs anything twice."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2026.8"
nox.options.default_venv_backend = "none"
nox.options.allow_parallel = True
nox.options.sessions = ["packages", "images", "sanity", "molecule", "targets", "unit", "integration", "lint", "types", "build"]

ROOT = Path(__file__).parent
CACHE = ROOT / ".cache"
COLLECTION = "ansible_collections/loopguard/loopback"
ENV = {
    "HOME": str(CACHE / "home"),  # what the tools keep for themselves
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_COLLECTIONS_PATH": str(CACHE / "collections"),
    "PYTHONPATH": str(CACHE / "collections"),
    "HYPOTHESIS_STORAGE_DIRECTORY": str(CACHE / "hypothesis"),
    "MYPYPATH": str(CACHE / "collections"),
    "MOLECULE_GLOB": "molecule/*/molecule.yml",
}


def run(session: nox.Session, *command: str, **env: str) -> None:
    (CACHE / "home").mkdir(parents=True, exist_ok=True)
    session.run(*command, env={**ENV, **env}, external=True)


def copy_of_the_collection(session: nox.Session, directory: Path) -> Path:
    """ansible-test resolves links, so it needs a real folder of the collection's name."""
    shutil.rmtree(directory, ignore_errors=True)
    copy = directory / COLLECTION
    copy.mkdir(parents=True)
    files = session.run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", silent=True, external=True)
    for name in filter(None, (files or "").split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


@nox.session
def packages(session: nox.Session) -> None:
    """Debian packages of the lab."""
    run(session, "molecule/lab/packages")


@nox.session(requires=["packages"])
def images(session: nox.Session) -> None:
    """Images of the lab."""
    run(session, "molecule/lab/images")


LINTERS = {
    "ruff": ("ruff", "check"),
    "format": ("ruff", "format", "--diff"),
    "yaml": ("yamllint", "--strict", "."),
    "ansible": ("ansible-lint", "--strict"),
    "changelog": ("antsibull-changelog", "lint"),
}


@nox.session
@nox.parametrize("linter", list(LINTERS), ids=list(LINTERS))
def lint(session: nox.Session, linter: str) -> None:
    """Style of Python, YAML, Ansible and the changelog."""
    run(session, *LINTERS[linter])


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict, for the oldest Python that targets have."""
    packages = [f"--package={COLLECTION}/plugins/{folder}".replace("/", ".") for folder in ("module_utils", "filter")]
    run(session, "mypy", f"--cache-dir={CACHE / 'mypy'}", *packages)


@nox.session
def build(session: nox.Session) -> None:
    """The tarball for Galaxy."""
    copy = copy_of_the_collection(session, CACHE / "build")
    run(session, "ansible-galaxy", "collection", "build", "--force", f"--output-path={CACHE / 'dist'}", str(copy))


@nox.session(requires=["packages"])
def sanity(session: nox.Session) -> None:
    """ansible-test sanity, without its download host."""
    copy = copy_of_the_collection(session, CACHE / "sanity")
    downloads = CACHE / "home/.ansible/test/cache"
    downloads.mkdir(parents=True, exist_ok=True)
    for pip in ("24_2", "25_2"):  # of ansible-core 2.19 and 2.21
        shutil.copy(ROOT / "tests/sanity/get_pip.py", downloads / f"get_pip_{pip}.py")
    with session.chdir(copy):
        session.run("git", "init", "--quiet", external=True)  # ansible-test asks git what belongs to the collection
        run(session, "ansible-test", "sanity", "--venv", "--python", f"{sys.version_info.major}.{sys.version_info.minor}", "--color", "no")


@nox.session
def unit(session: nox.Session) -> None:
    """pytest on the controller's Python."""
    run(session, "pytest", "tests/unit", *session.posargs)


@nox.session(requires=["images"])
@nox.parametrize("suite, python", [("bullseye", "3.9"), ("trixie", "3.13")], ids=["3.9", "3.13"])
def targets(session: nox.Session, suite: str, python: str) -> None:
    """pytest on what runs on targets, on their Python."""
    wheels = CACHE / f"python{python}"
    install = (
        "uv",
        "pip",
        "install",
        "--system-certs",
        "--quiet",
        "--only-binary=:all:",
        "--python-version",
        python,
        "--target",
        str(wheels),
    )
    run(session, *install, "--requirement", "requirements/unit.txt", UV_CACHE_DIR=str(CACHE / "uv"))
    mounts = (f"--volume={ROOT}:/collection:ro", f"--volume={wheels}:/wheels:ro", "--workdir=/collection")
    paths = (
        "--env=PYTHONPATH=/wheels:/collection/.cache/collections",
        "--env=PYTHONDONTWRITEBYTECODE=1",
        "--env=HOME=/tmp",
        "--env=HYPOTHESIS_STORAGE_DIRECTORY=/tmp",
    )
    pytest = ("python3", "-m", "pytest", "tests/unit/plugins/module_utils", *session.posargs)
    run(session, "molecule/lab/podman", "run", "--rm", "--network=none", *mounts, *paths, f"localhost/loopguard/{suite}", *pytest)


@nox.session(requires=["packages"])
def integration(session: nox.Session) -> None:
    """Each module against real sockets and rulesets, in namespaces."""
    run(session, "tests/integration/run", *session.posargs)


@nox.session(requires=["images"])
def molecule(session: nox.Session) -> None:
    """Each role on containers that boot systemd; names of scenarios may follow `--`."""
    if not session.posargs:
        run(session, "molecule", "test", "--all", "--workers", "2", "--continue-on-failure", "--destroy", "always")
    for scenario in session.posargs:
        run(session, "molecule", "test", "--scenario-name", scenario, "--destroy", "never")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and memory, against peers."""
    run(session, "pytest", "--capture=no", *(session.posargs or ["tests/bench"]))


@nox.session
def clean(session: nox.Session) -> None:
    """Containers, images and networks of the lab."""
    if (CACHE / "containers").is_dir():
        run(session, "molecule/lab/podman", "system", "reset", "--force")
