#!/usr/bin/env bash
# Runs each fuzz target for some seconds from its corpus; the first input that breaks a rule ends it, and stays in a file that is named.
# Usage: fuzz.sh SECONDS [TARGET...]
# The gateway is built once more for it, everything it depends on is taken from the build of the tests. Whoever has cargo-fuzz can as
# well say: cargo fuzz run TARGET --fuzz-dir tests/fuzz --sanitizer none
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(canonical_path authority http1_head http2_head proxy_protocol config)
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")

# The same versions as the gateway has, and what draws the bytes.
cp Cargo.lock tests/fuzz/Cargo.lock
RUSTC_WRAPPER="$PWD/tests/fuzz/instrument.sh" CARGO_TARGET_DIR="$target_dir" \
  cargo build --manifest-path tests/fuzz/Cargo.toml

for target in "${targets[@]}"; do
  found="$target_dir/fuzz/$target"
  mkdir -p "$found/corpus" "$found/crashes"
  seeds=("tests/data/fuzz/$target")
  [ "$target" = config ] && seeds+=(tests/data/problems conf/examples)
  echo "fuzz: $target for $seconds s"
  "$target_dir/debug/$target" "$found/corpus" "${seeds[@]}" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
    -artifact_prefix="$found/crashes/" -print_final_stats=1 -verbosity=0 2>"$found/log" || {
    tail -40 "$found/log" >&2
    echo "fuzz: $target broke a rule; the input is in $found/crashes" >&2
    exit 1
  }
  grep -E "number_of_executed_units|new_units_added" "$found/log"
done
