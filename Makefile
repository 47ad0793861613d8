# Targets for people and for CI. `make` alone prints them. Works with GNU make and with BSD make.

CARGO ?= cargo
# `make demo CARGO_FLAGS=--release BIN_DIR=target/release` plays with optimised programs.
CARGO_FLAGS ?=
BIN_DIR ?= target/debug
DEMO_DIR ?= .demo
# Folder and options of the lab, such as `make lab LAB_UP="--nodes 2 --size 20G"`.
LAB ?= tests/lab/lab
LAB_UP ?=
# Parts of the platform lane: `make platform PLATFORM=host`, or `cluster`; both if nobody says.
PLATFORM ?=
# Histories that `make sim` plays, of all kinds in turn.
SEEDS ?= 2000
# The first of them, for those who want others: `make sim SEED=1000000`; also for `make sim-night` and `make accept`.
SEED ?= 0
# How long `make sim-night` goes on.
HOURS ?= 8
# What `make accept` shows, such as `make accept ID=A1`, and how much of it: `N=100000`.
ID ?=
N ?=
# How long `make chaos` goes on, and more options of it, such as `CHAOS="--nodes 5 --seed 7"`.
MINUTES ?= 5
CHAOS ?=
# Names of benches, such as `writes list`; all if nobody says.
BENCH ?=

help: ## Print these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "  make %-15s %s\n", $$1, $$2 }'

build: tools ## Build every program
	@$(CARGO) build $(CARGO_FLAGS) --workspace --bins

demo: build ## Start three nodes on this machine, show a move and a failover, leave them up
	@$(BIN_DIR)/scrapd demo --dir $(DEMO_DIR) up
	@$(BIN_DIR)/scrapd demo --dir $(DEMO_DIR) tour

demo-stop: ## End the demo and remove everything it made
	@if test -x $(BIN_DIR)/scrapd; then $(BIN_DIR)/scrapd demo --dir $(DEMO_DIR) stop --purge; \
	elif test -d $(DEMO_DIR); then echo "$(BIN_DIR)/scrapd is not there: run 'make build' first"; exit 1; \
	else echo "no demo here"; fi

lab: build ## As root: three nodes with real ZFS, LXC and networks on this machine alone; leaves them up
	@./.ci/tools platform
	@$(LAB) up --bin-dir $(BIN_DIR) $(LAB_UP)
	@$(LAB) hints

lab-stop: ## End the lab and remove everything it made
	@$(LAB) down

test: tools ## Run every test (with cargo-nextest if it is installed)
	@$(CARGO) build --workspace --bins
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --profile ci; \
	else \
		echo "cargo-nextest is not installed: plain cargo test it is"; \
		$(CARGO) test --workspace --no-fail-fast; \
	fi
	@$(MAKE) sim
	@$(MAKE) platform

platform-vm: tools ## As root: suites, a cluster, watchdogs and power cuts in small machines with OpenZFS and LXC
	@tests/vm/platform $(SUITES)

platform: tools ## As root: the suites on real ZFS, LXC and networks, and whole clusters in labs; part of `make test`
	@CARGO="$(CARGO)" tests/lab/platform $(PLATFORM)

soak: build ## Kill daemons a hundred times under load, watch an idle cluster for a minute
	@SCRAP_KILL_ROUNDS=100 SCRAP_IDLE_SECS=60 $(CARGO) test $(CARGO_FLAGS) -p scrap-tests --test cluster -- \
		--nocapture --test-threads 1 soak idle

sim: tools ## Play random histories of a simulated cluster, look whether planted bugs are found, part of `make test`
	@$(CARGO) build --workspace --bin scrap-sim
	@target/debug/scrap-sim --seeds $(SEEDS) --from $(SEED)
	@$(CARGO) build --workspace --features scrap-tests/mutants --bin scrap-sim
	@target/debug/scrap-sim --mutants --seeds 0

sim-night: tools ## The same with optimised programs, for hours: `make sim-night HOURS=8 SEED=1000000`
	@$(CARGO) build --release -p scrap-tests --bin scrap-sim
	@target/release/scrap-sim --seeds 1000000000 --from $(SEED) --minutes $$(( $(HOURS) * 60 ))

chaos: build ## As root: faults over a real cluster in a lab while clients work; `make chaos MINUTES=60`
	@./.ci/tools platform
	@$(BIN_DIR)/scrap-chaos --minutes $(MINUTES) $(CHAOS)

accept: tools ## Show an acceptance figure: `make accept ID=A1 N=1000000 SEED=7`; A4, A6, A7 and A8 as root, in a lab
	@case "$(ID)" in \
	A1|A2|A12|A13) $(CARGO) build --release -p scrap-tests --bin scrap-sim && \
		target/release/scrap-sim accept $(ID) --seed $(SEED) $(if $(N),--n $(N)) ;; \
	A3) $(CARGO) build --release -p scrap-tests --features mutants --bin scrap-sim && \
		target/release/scrap-sim accept A3 --seed $(SEED) $(if $(N),--n $(N)) ;; \
	A4|A6|A7|A8) $(MAKE) build && ./.ci/tools platform && \
		$(BIN_DIR)/scrap-chaos accept $(ID) $(if $(SEED:0=),--seed $(SEED)) $(if $(N),-n $(N)) ;; \
	*) echo "make accept ID=A1|A2|A3|A4|A6|A7|A8|A12|A13"; exit 2 ;; \
	esac

mutants: tools ## Plant one bug after the other in the protocol and say which the simulator finds
	@$(CARGO) build --release -p scrap-tests --features mutants --bin scrap-sim
	@target/release/scrap-sim --mutants --seeds 10000

bench: tools ## Measure real clusters with optimised programs; `make bench BENCH=writes` measures one thing
	@$(CARGO) build --release --workspace --bins
	@$(CARGO) bench -p scrap-tests --bench cluster -- $(BENCH)

bench-platform: tools ## As root: figures of labs beside those of plain zfs, in one run; `BENCH=migrate` for one
	@./.ci/tools platform
	@./.ci/tools syncoid target/syncoid
	@$(CARGO) build --release --workspace --bins
	@SCRAP_PLATFORM=1 SCRAP_LAB_LOG=info,scrapd::agent=debug,openraft=error $(CARGO) bench -p scrap-tests --bench platform -- $(BENCH)

verify: tools ## What CI asks for: format, lints, tests, documentation; changes no file
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@$(MAKE) test
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --log-level error check bans licenses sources; \
	else echo "SKIPPED: dependency bans of deny.toml (cargo-deny is not installed)"; fi
	@if command -v shellcheck >/dev/null 2>&1; then shellcheck -x .ci/run .ci/tools tests/lab/lab tests/lab/platform tests/lab/host-suites tests/lab/lib/* tests/lab/recipes/*.sh \
		tests/lab/recipes/busybox tests/lab/recipes/debian tests/lab/recipes/debian-setup tests/lab/recipes/system/sbin/init \
		tests/vm/build tests/vm/run tests/vm/platform tests/vm/programs tests/vm/form tests/vm/cluster tests/vm/watchdog tests/vm/cuts tests/vm/common.sh tests/vm/stages/*; \
	else echo "SKIPPED: shellcheck of .ci and tests/lab (shellcheck is not installed)"; fi

fix: ## Format, and let clippy mend what it can
	@$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	@$(CARGO) fmt --all

bless: tools ## Accept the present output as the expected one; read the diff afterwards
	@$(CARGO) build --workspace --bins
	@UPDATE_EXPECT=1 $(CARGO) test --workspace --no-fail-fast
	@git --no-pager diff --stat

man: build ## Write the manual pages of scrapctl into target/man
	@mkdir -p target/man
	@$(BIN_DIR)/scrapctl man target/man

tools:
	@./.ci/tools

.PHONY: help build demo demo-stop lab lab-stop test platform platform-vm soak sim sim-night accept chaos mutants bench bench-platform verify fix bless man tools
