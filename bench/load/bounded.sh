#!/usr/bin/env bash
# As many requests as a gateway answers, by wrk, within bounds: also over TLS. For a fixed rate there is `cargo bench --bench load`.
# Usage: bounded.sh URL [CONNECTIONS [SECONDS]]   at most 256 connections, 60 seconds, one thread
set -euo pipefail

url=${1:?"usage: bounded.sh URL [CONNECTIONS [SECONDS]]"}
connections=${2:-16}
seconds=${3:-10}
# A word that is no number, or out of bounds, ends it here.
within() {
  [[ $2 =~ ^[0-9]+$ ]] && [ "$2" -ge 1 ] && [ "$2" -le "$3" ] || { echo "bounded: $1 is 1 to $3, not '$2'" >&2; exit 2; }
}
within CONNECTIONS "$connections" 256
within SECONDS "$seconds" 60
command -v wrk >/dev/null 2>&1 || { echo "bounded: please install wrk" >&2; exit 1; }
exec wrk --threads 1 --connections "$connections" --duration "${seconds}s" --timeout 10s --latency "$url"
