# The commands of a checkout. Each is complete on a fresh machine and skips what is done already.

SHELL := /bin/bash
PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export PATH
.DEFAULT_GOAL := help
.PHONY: help setup demo test smoke check bench bench-lab soak clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## Install what is missing and build everything; afterwards bin/pyro is the command pyro
	@scripts/setup

demo: setup ## Set up, print git's version from inside a real microVM, stop the daemon
	@scripts/demo

test: setup ## Set up and run every test
	@scripts/test

smoke: setup ## Run every recipe in every form: command line, SDK, MCP
	@scripts/smoke

check: setup ## Types, lint, format, structure and stale documentation, in seconds
	@scripts/check

bench: setup ## Measure every figure that is promised, beside other sandboxes (10 minutes; on an idle machine)
	@scripts/bench

bench-lab: setup ## Measure Firecracker's microVMs in the lab, an emulated machine with a KVM that works
	@scripts/bench-lab

soak: setup ## Random kills, leaks, dropped links and fuzzing, for hours or for SOAK_MINUTES (not a part of make test)
	@scripts/soak

clean: ## Remove everything that was built (not node_modules, not environments)
	rm -rf dist src/gen go/gen
