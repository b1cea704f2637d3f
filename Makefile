# SPDX-License-Identifier: GPL-3.0-or-later
#
# What one can do here. Every target installs what it lacks first (scripts/bootstrap).
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Name of the lab: labs of different names run side by side.
LAB ?= lab
HOST ?= lab1

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export LC_ALL := C.UTF-8
# Molecule and ansible-lint look for the collection here, not in the home directory.
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/collections
# Ansible is told by ansible.cfg, not by whoever calls make.
unexport ANSIBLE_INVENTORY

PLAY = ansible-playbook -e lab_name=$(LAB)
# Tests that need hosts, and are run by what makes them.
HOST_TESTS = tests/mesh tests/scenarios tests/lab tests/vm

help: ## Show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

bootstrap: ## Install the Debian packages and .venv that the rest needs
	@scripts/bootstrap

bootstrap-lab:
	@scripts/bootstrap --lab

bootstrap-collection:
	@scripts/bootstrap --collection

lab: bootstrap-lab ## Make three hosts on this machine, give them their mesh, and show it
	$(PLAY) playbooks/lab.yml
	$(PLAY) site.yml
	$(PLAY) playbooks/lab_report.yml
	@cat /var/lib/brine-lab/$(LAB)/report
	@printf '\n  A shell on a host: make lab-shell HOST=lab1. Remove it all: make lab-down.\n'

lab-shell: ## Open a shell on a host of the lab: make lab-shell HOST=lab2
	@test -e /run/brine-lab/$(LAB)/$(HOST)/ready || { \
	  echo "error: lab $(LAB) runs no host $(HOST). Next: make lab" >&2; exit 1; }
	@exec ssh -F /var/lib/brine-lab/$(LAB)/ssh_config -t $(HOST)

lab-down: bootstrap ## Remove the lab; only the image cache stays, in /var/cache/brine-lab
	$(PLAY) playbooks/lab.yml -e lab_state=absent

lab-clean: lab-down ## Remove the lab and the image cache
	@test -z "$$(ls -A /var/lib/brine-lab 2>/dev/null)" || { \
	  echo "error: these labs still use the cache: $$(ls -x /var/lib/brine-lab)." \
	  "Next: make lab-down LAB=NAME" >&2; exit 1; }
	rm -rf --one-file-system /var/cache/brine-lab

test: lint test-collection test-fast test-lab test-scenarios ## Every check but `count` and those in virtual machines

test-collection: bootstrap-collection ## Hold the built collection against Galaxy's rules
	scripts/collection/check

test-fast: bootstrap ## Tests that need no hosts: units, vectors, the BPF programs
	scripts/test_side_by_side $(HOST_TESTS)

test-lab: bootstrap-lab ## Tests that make labs themselves, most of which need no mesh
	python -m pytest tests/lab

test-scenarios: bootstrap-lab ## Molecule's scenarios, on labs of their own
	scripts/test_scenarios

test-vm: ## Tests in virtual machines with Debian's kernels
	@scripts/bootstrap --vm
	molecule test --no-command-borders --scenario-name vm

fuzz: bootstrap ## Fuzz what reads untrusted bytes (FUZZ_SECONDS=20 for each of 12 targets)
	python -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),20) $(FUZZ_TARGETS)

bench: bootstrap ## Measure, and write docs/performance.md (half an hour; ROUNDS=3, PARTS=...)
	python -m bench --rounds $(or $(ROUNDS),3) $(PARTS)

bench-vm: ## Measure beside WireGuard and ESP of Debian's kernels, in virtual machines
	@scripts/bootstrap --vm
	export LAB_PREFIX=bench; trap 'molecule destroy --no-command-borders --scenario-name vm' EXIT; \
	molecule converge --no-command-borders --scenario-name vm && \
	BRINE_LAB=bench-vm python -m bench --rounds $(or $(ROUNDS),3) kernels

count: bootstrap ## How large each BPF program is; fails if one is above its limit
	python -m tests.bpf.count

lint: bootstrap ## Every static check
	scripts/lint

build: bootstrap ## Build the collection's archive into build/
	ansible-galaxy collection build --force --output-path build

.PHONY: help bootstrap bootstrap-lab bootstrap-collection lab lab-shell lab-down lab-clean \
        test test-collection test-fast test-lab test-scenarios test-vm fuzz bench bench-vm count lint build
