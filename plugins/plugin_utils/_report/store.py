# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where reports are kept: one directory per audit, written whole or not at all, and a pointer to the newest."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

LATEST = "latest"
FILES = {"json": "audit.json", "html": "index.html"}


class StoreError(Exception):
    """The reports cannot be written; the message says what to do."""


def links(directory: Path, formats: list[str]) -> dict[str, str]:
    """Return format -> path below `latest`, as short as it can be said from the working directory."""
    shown = Path(os.path.relpath(directory)) if directory.is_relative_to(Path.cwd()) else directory
    return {kind: str(shown / LATEST / FILES[kind]) for kind in formats}


def write(directory: Path, stamp: str, contents: dict[str, str]) -> Path:
    """Write one audit's files (name -> text) below `directory` and point `latest` at them; return their directory.

    Directories are 0700 and files 0600: who is exposed to whom is not for everybody. Raises StoreError.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
        try:
            for name, text in contents.items():
                descriptor = os.open(made / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                    file.write(text)
            final = _settle(made, directory, stamp)
        finally:
            shutil.rmtree(made, ignore_errors=True)  # gone already when it was settled
        _point(directory, final)
    except OSError as error:
        place = error.filename or directory
        raise StoreError(
            f"cannot write the report: {place}: {error.strerror}. No host is concerned; "
            f"make {directory} writable for this user, or set exposure_report_directory."
        ) from error
    return final


def _settle(made: Path, directory: Path, stamp: str) -> Path:
    """Rename to the first free name: a directory that holds files is never replaced by rename(2)."""
    for number in range(1, 1000):
        final = directory / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            if not final.exists():
                made.rename(final)
                return final
        except FileExistsError:
            continue
        except OSError:
            if not final.exists():
                raise
    raise StoreError(f"{directory} holds 999 reports of {stamp}; remove some.")


def _point(directory: Path, final: Path) -> None:
    latest, fresh = directory / LATEST, directory / f".latest-{final.name}"
    if latest.is_dir() and not latest.is_symlink():
        _copy(latest, final, fresh)
        return
    try:
        fresh.symlink_to(final.name, target_is_directory=True)
    except OSError:  # a file system without symbolic links: the newest report is copied
        _copy(latest, final, fresh)
        return
    fresh.replace(latest)


def _copy(latest: Path, final: Path, fresh: Path) -> None:
    """Make `latest` a directory with the same files; what somebody else put there is not thrown away."""
    if latest.exists() and not set(os.listdir(latest)) <= set(FILES.values()):
        raise StoreError(f"{latest} holds files that no report has; move it away. The report itself is in {final}.")
    shutil.copytree(final, fresh)
    if latest.exists():
        shutil.rmtree(latest)
    fresh.rename(latest)
