PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
CARGO ?= cargo

# Of this target everything is linked in, the C library too.
STATIC := x86_64-unknown-linux-musl

# A line that stands out between the output of the steps.
step = @printf '\n\033[1m== %s\033[0m\n'

.PHONY: help demo test lint audit golden release-schema bench bench-short cost static install

help:
	@echo 'make demo      a throw-away primary and standby with load, watched by pgvitals, until Ctrl-C'
	@echo 'make test      install what the tests need (Debian 12), then lint and test'
	@echo 'make lint      formatting, clippy, documentation'
	@echo 'make audit     licences, sources and known weaknesses of what is built in; needs github.com'
	@echo 'make golden    write the golden files anew; read the difference before you commit it'
	@echo 'make bench     measure pgvitals beside the programs it replaces; writes docs/benchmarks.md'
	@echo 'make bench-short  little of that, in a minute; writes nothing'
	@echo 'make cost      write docs/cost.md: what a reading costs the server, by collector'
	@echo 'make static    build one file that needs no library, and try it where there is nothing else (root)'
	@echo 'make install   build and install to PREFIX=$(PREFIX), with a unit for systemd'

demo:
	$(step) 'A PostgreSQL server to show'
	@tests/setup demo
	$(step) 'Build (some minutes the first time)'
	$(CARGO) build --locked --release
	$(step) 'Demo'
	@"$${CARGO_TARGET_DIR:-target}/release/pgvitals" demo

test:
	$(step) 'What the tests need'
	@tests/setup
	@$(MAKE) --no-print-directory lint
	$(step) 'Tests'
	$(CARGO) test --locked

lint:
	$(step) 'Formatting'
	$(CARGO) fmt --check
	$(step) 'Lints'
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(step) 'Documentation'
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

audit:
	$(step) 'Dependencies'
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check

golden:
	$(step) 'What the tests need'
	@tests/setup
	$(step) 'Golden files'
	PGVITALS_GOLDEN=write $(CARGO) test --locked golden

# At a release and at no other time: from then on these names are kept.
release-schema:
	cp docs/schema/current.txt docs/schema/released.txt

bench:
	$(step) 'What the benchmark needs'
	@tests/setup bench
	$(step) 'Build'
	$(CARGO) build --locked --release
	$(step) 'Benchmark'
	@python3 -B tests/bench

bench-short:
	$(step) 'What the benchmark needs'
	@tests/setup bench
	$(step) 'Build'
	$(CARGO) build --locked --release
	$(step) 'Benchmark, short'
	@python3 -B tests/bench --short

cost:
	$(step) 'What the benchmark needs'
	@tests/setup bench
	$(step) 'Build'
	$(CARGO) build --locked --release
	$(step) 'Cost'
	@python3 -B tests/bench cost

static:
	$(step) 'Build without libraries'
	@rustup target list --installed | grep -qx $(STATIC) || rustup target add $(STATIC)
	CC_x86_64_unknown_linux_musl=$(CC) $(CARGO) rustc --locked --release --target $(STATIC) --bin pgvitals -- \
		-C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-fuse-ld=lld \
		-C link-arg=-B$$(rustc --print sysroot)/lib/rustlib/$$(rustc --print host-tuple)/bin/gcc-ld
	$(step) 'Try it on an empty file system'
	@packaging/try-static "$${CARGO_TARGET_DIR:-target}/$(STATIC)/release/pgvitals"

install:
	$(step) 'Build'
	$(CARGO) build --locked --release
	$(step) 'Install to $(PREFIX)'
	install -D -m 755 "$${CARGO_TARGET_DIR:-target}/release/pgvitals" "$(DESTDIR)$(PREFIX)/bin/pgvitals"
	sed 's#/usr/local/bin/#$(PREFIX)/bin/#' packaging/pgvitals.service \
		| install -D -m 644 /dev/stdin "$(DESTDIR)$(PREFIX)/lib/systemd/system/pgvitals.service"
	install -D -m 644 packaging/pgvitals.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/pgvitals.conf"
	test -e "$(DESTDIR)$(SYSCONFDIR)/pgvitals/pgvitals.toml" \
		|| install -D -m 644 docs/pgvitals.toml "$(DESTDIR)$(SYSCONFDIR)/pgvitals/pgvitals.toml"
