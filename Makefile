# SPDX-License-Identifier: GPL-3.0-or-later
.DELETE_ON_ERROR:
.PHONY: audit test bench clean molecule oracle test-%
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

LINK  := .cache/collections/ansible_collections/loopguard/loopback
NOX   := PATH="$(CURDIR)/.cache/test/bin:$$PATH" nox
# This machine itself: with the interpreter at hand, and nothing written to the home directory.
LOCAL := -i localhost, -c local -e ansible_python_interpreter=$(CURDIR)/.venv/bin/python -e ansible_remote_tmp=$(CURDIR)/.cache/ansible/tmp

audit: .venv/ready $(LINK)  ## audit this machine, or INVENTORY=...; changes nothing
	@.venv/bin/ansible-playbook loopguard.loopback.audit $(if $(INVENTORY),-i $(INVENTORY),$(LOCAL)) $(ARGS)

test: SHELL := /bin/bash
test: .cache/test/ready $(LINK)  ## everything that CI runs (root, Debian)
	@set -o pipefail; $(NOX) -j 2 2>&1 | tee .cache/test.log || { .cache/test/bin/python tests/why.py .cache/test.log; exit 1; }

test-%: .cache/test/ready $(LINK)  ## one part: lint, types, build, sanity, unit, targets, integration
	@$(NOX) -s $*

molecule: .cache/test/ready $(LINK)  ## SCENARIO=name, or all of them
	@$(NOX) -s molecule -- $(SCENARIO)

oracle: .cache/test/ready $(LINK)  ## the judge against the kernel, for MINUTES=5
	@ORACLE="--seconds $$((60 * $(or $(MINUTES),5)))" tests/integration/run oracle

bench: .cache/test/ready $(LINK)  ## speed and memory, against peers
	@$(NOX) -s bench

clean:
	@[ ! -e .cache/test/ready ] || $(NOX) -s clean
	rm -rf .venv .cache

.venv/ready: requirements/audit.txt
	@requirements/venv .venv $< && touch $@

.cache/test/ready: requirements/test.txt
	@requirements/venv .cache/test $< && touch $@

$(LINK):
	@mkdir -p $(@D) && ln -sfn ../../../.. $@
