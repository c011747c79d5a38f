# The table of contents of what can be done here; `just` lists it. Each recipe is a line or two over cargo.

_default:
    @just --list --unsorted

# Run the gateway: `just run examples/relay.yaml`
run *ARGS:
    cargo run --release -p tollgate -- run {{ARGS}}

# Type-check everything
check:
    cargo check --workspace --all-targets

# Run the tests
test *ARGS:
    cargo test --workspace {{ARGS}}

# Format
fmt:
    cargo fmt --all
    cargo fmt --manifest-path fuzz/Cargo.toml

# Run clippy, warnings denied
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Check what clippy cannot
tidy:
    cargo xtask tidy

# Check licences, bans and sources of dependencies
deny:
    cargo deny check bans licenses sources

# Build the documentation of the crates
doc *ARGS:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps {{ARGS}}

# Fuzz one target, from its seeds: `just fuzz openai_stream -max_total_time=60`
fuzz TARGET *ARGS:
    mkdir -p fuzz/corpus/{{TARGET}}
    cargo +nightly fuzz run {{TARGET}} fuzz/corpus/{{TARGET}} fuzz/seeds/{{TARGET}} -- {{ARGS}}

# Run the official SDKs against the gateway
sdk:
    tests/sdk/run

# Run the official MCP SDKs and the conformance suite through the gateway
mcp:
    tests/mcp/run

# Check what is told of requests with the official parsers
telemetry:
    tests/observability/run

# Measure against direct calls and other proxies
bench *ARGS:
    scripts/bench {{ARGS}}

# Sample or count the instructions of one case: `just profile relay-json callgrind`
profile CASE *ARGS:
    scripts/profile {{CASE}} {{ARGS}}

# Run everything that a change has to pass
ci:
    .ci/run
