#!/usr/bin/env bash
# Cargo's RUSTC_WRAPPER: compiles the gateway and the fuzz targets so that libFuzzer sees which way they took; all else as ever, so that it
# is not built again. Needs no nightly compiler.
rustc=$1
shift
flags=()
while [ $# -gt 0 ]; do
  [ "$1" = --crate-name ] && case "$2" in
    doorward | canonical_path | authority | http1_head | http2_head | proxy_protocol | config)
      flags=(--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0)
      ;;
  esac
  args+=("$1")
  shift
done
exec "$rustc" "${args[@]}" "${flags[@]}"
