#!/usr/bin/env bash
# Shows that a fresh machine needs nothing more: in a Debian 12 that holds only the Rust toolchain and a clone of the project,
# `make run` builds and serves, and README's curl lines print what README says.
#
# Usage, as root: tests/fresh.sh [--test] [--tree] [--keep] [--in=ROOT]
#   --test  run `make test` inside as well
#   --tree  take the work tree as it is, instead of a clone of what is committed
#   --keep  leave the root where it is, and say where
#   --in=ROOT  go on in a root that was kept: what was built there need not be built again
#
# Nothing of this machine is bound into the root. Copied are the toolchain, and what belongs to the network and not to the
# machine: the name server, its proxy variables, its own certificate authorities.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
tests='' tree='' keep='' root=''
for option in "$@"; do
  case "$option" in
    --test) tests=yes ;;
    --tree) tree=yes ;;
    --keep) keep=yes ;;
    --in=*) root=$(cd "${option#--in=}" && pwd) keep=yes ;;
    *) echo "fresh: unknown option '$option'" >&2; exit 2 ;;
  esac
done

say() { echo "fresh: $*" >&2; }
die() { say "$*"; exit 1; }
[ "$(id -u)" -eq 0 ] || die "a root of Debian can only be made by root"
! (: </dev/tcp/127.0.0.1/8080) 2>/dev/null || die "something listens on 127.0.0.1:8080, where the demo shall be"

fresh=''
[ -n "$root" ] || fresh=yes root=$(mktemp -d "${TMPDIR:-/tmp}/doorward-fresh.XXXXXX")
log=$root.log
demo=''
clean() {
  [ -z "$demo" ] || kill -TERM -- "-$demo" 2>/dev/null || true
  ! mountpoint -q "$root/proc" || umount "$root/proc"
  [ -n "$keep" ] || rm -rf --one-file-system "$root" "$log"
}
trap clean EXIT

# A shell inside, which knows nothing of this one.
inside() {
  env -i HOME=/root PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
    chroot "$root" /bin/sh -c "$1"
}

make_root() {
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; } >&2
  say "a Debian 12 in $root"
  debootstrap --variant=minbase bookworm "$root" >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "debootstrap failed"; }
  chmod 755 "$root"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
  mkdir -p "$root/usr/local/share/ca-certificates"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$root/usr/local/share/ca-certificates/" \; 2>/dev/null || true
}

# The toolchain without its manuals.
copy_toolchain() {
  local sysroot
  sysroot=$(cd "$here" && rustc --print sysroot)
  say "the toolchain of $sysroot"
  mkdir -p "$root/opt/rust"
  tar -C "$sysroot" --exclude=./share/doc -cf - . | tar -C "$root/opt/rust" -xf -
}

clone() {
  rm -rf "$root/doorward"
  mkdir "$root/doorward"
  if [ -n "$tree" ]; then
    say "the work tree as it is"
    tar -C "$here" --exclude=./.git --exclude=./target -cf - . | tar -C "$root/doorward" -xf -
  else
    say "a fresh clone"
    git clone -q --depth 1 "file://$here" "$root/doorward"
  fi
}

start_demo() {
  say "make run (the first build takes minutes)"
  set -m
  inside 'cd /doorward && exec make run' >"$log" 2>&1 </dev/null &
  demo=$!
  set +m
  until grep -q 'listening on' "$log"; do
    kill -0 "$demo" 2>/dev/null || { demo=''; tail -n 40 "$log" >&2; die "make run ended before it served"; }
    sleep 1
  done
}

# Ctrl-C, as README says.
stop_demo() {
  kill -INT -- "-$demo"
  wait "$demo" || true
  demo=''
  ! (: </dev/tcp/127.0.0.1/8080) 2>/dev/null || die "the demo still serves after Ctrl-C"
}

checked=0 failed=0
# Runs one command and compares what it prints; `…` in what README says stands for anything.
check() {
  local command=$1 expected=$2 output pattern
  case "$command" in curl\ *) ;; *) return 0 ;; esac
  checked=$((checked + 1))
  if ! output=$(bash -c "$command" 2>&1 </dev/null); then
    failed=$((failed + 1))
    say "failed: $command"; echo "$output" >&2
    return 0
  fi
  output=$(tr -d '\r' <<<"$output")
  pattern=$(sed 's/[][\\*?]/\\&/g; s/…/*/g' <<<"$expected")
  # shellcheck disable=SC2053
  if [ -n "$pattern" ] && [[ $output != $pattern ]]; then
    failed=$((failed + 1))
    say "README says of: $command"; echo "$expected" >&2
    say "but it prints:"; echo "$output" >&2
  else
    say "ok: $command"
  fi
}

# The lines of README's blocks that begin with `$ curl` (or `curl`), with the lines under each.
check_readme() {
  local line command='' expected='' block=''
  while IFS= read -r line || [ -n "$line" ]; do
    case "$line" in
      '```'*) check "$command" "$expected"; command='' expected=''; [ -n "$block" ] && block='' || block=yes; continue ;;
    esac
    [ -n "$block" ] || continue
    case "$command" in *\\) command="${command%\\}$line"; continue ;; esac
    case "$line" in
      '$ '* | 'curl '*) check "$command" "$expected"; command=${line#\$ } expected='' ;;
      *) [ -z "$command" ] || expected+=$line$'\n' ;;
    esac
  done <"$root/doorward/README.md"
  [ "$checked" -gt 0 ] || die "README.md has no curl line"
  [ "$failed" -eq 0 ] || die "$failed of $checked curl lines of README.md do not hold"
  say "$checked curl lines print what README says"
}

[ -z "$fresh" ] || make_root
mount -t proc proc "$root/proc"
if [ -n "$fresh" ]; then
  copy_toolchain
  # The one thing the reader does.
  say "apt-get install make"
  inside 'apt-get update -qq && apt-get install -y -qq --no-install-recommends make' >"$log" 2>&1 || { cat "$log" >&2; die "no make"; }
fi
clone
start_demo
check_readme
stop_demo
if [ -n "$tests" ]; then
  say "make test"
  inside 'cd /doorward && make test' || die "make test failed"
fi
[ -z "$keep" ] || say "kept: $root (the log of the demo: $log)"
say "done"
