"""Counts the instructions of a request under callgrind, with and without each clause, and holds them to the figures in
`instructions.json`: `python3 bench/instructions.py` compares, with `--write` it writes them down.

A figure is the difference of two runs, of N and of 3 N requests, divided by 2 N: what starting costs is in both.
"""

import argparse
import json
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import generate
from peers import CannotRun, Ground, Proxy, Setup, Upstream, free_ports, program
from callgrind import load
from run import certificate, target

FIGURES = Path(__file__).resolve().parent / "instructions.json"
REQUESTS = 300
# What runs by the clock belongs to no request; under callgrind the clock runs fast.
BACKGROUND = ("server::pressure::Pressure::watch", "TimerManager::clock_thread")
# More than this above the figure that is written down is a finding.
TOLERANCE = 0.03

HEAD = "host: bench.test\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n"
GET = f"GET /1k?page=2 HTTP/1.1\r\n{HEAD}\r\n"
POST = f"POST /post HTTP/1.1\r\n{HEAD}content-length: 10240\r\n\r\n" + "x" * 10240


def clause(text, request=GET):
    return Setup(clauses=text), request


# What is counted: by name, the setup and what is asked. `plain` is what the others are compared with.
CASES = {
    "plain": (Setup(), GET),
    "access log": (Setup(log=True), GET),
    "access log, two fields": (Setup(log=True, clauses='log: { fields: { page: "{request.query.page}", agent: "{request.headers.user-agent}" } }'), GET),
    "1,000 routes": (Setup(routes=1000), GET.replace("/1k", "/r700/1k")),
    "request": clause('request: { headers: { set: { x-page: "{request.query.page}" }, remove: [cookie] } }'),
    "response": clause('response: { headers: { set: { cache-control: no-store, x-route: "{route.name}" } } }'),
    "timeouts": clause("timeouts: { total: 5s }"),
    "body_limits": clause("body_limits: { request: 64KiB, response: 1MiB }"),
    "lifecycle": clause('lifecycle: { deprecated: "2026-06-01", sunset: "2027-06-01" }'),
    "post 10 KiB": (Setup(), POST),
    "tls": (Setup(), "tls"),
    "h2": (Setup(), "h2"),
}


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--write", action="store_true", help="write the figures down")
    asked.add_argument("--only", help="some cases, with commas")
    asked.add_argument("--requests", type=int, default=REQUESTS)
    asked.add_argument("--doorward", type=Path, default=target() / "release/doorward")
    asked.add_argument("--bare", type=Path, help="count a bare proxy instead")
    asked.add_argument("--profile", type=Path, help="keep callgrind's files of the longer runs here")
    options = asked.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="doorward-instructions-") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        cert, key = certificate(folder)
        ground = Ground(folder, free_ports(1)[0], cert, key, options.doorward, options.bare, None, proxy_cores="")
        with Upstream(ground, "0,1"):
            with Proxy(ground, "direct") as direct:
                direct.wait()
            for name, (setup, request) in CASES.items():
                if options.only and name not in options.only.split(","):
                    continue
                if options.bare and setup != Setup():
                    continue
                found[name] = instructions(ground, name, setup, request, options)
                print(f"{name:24} {found[name]:>9,} instructions a request", flush=True)
    return judge(found, options)


def instructions(ground, name, setup, request, options):
    """Of one request."""
    few, many = (counted(ground, name, setup, request, options.requests * times, options) for times in (1, 3))
    return round((many - few) / (2 * options.requests))


def counted(ground, name, setup, request, requests, options):
    """Of a process that answers so many requests and ends."""
    kind = "bare" if options.bare else "doorward"
    out = ground.fresh("callgrind") / "out"
    lines = ["--dump-line=yes"] if options.profile else []
    valgrind = [program("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet", *lines]
    proxy = Proxy(ground, kind, setup, wrapper=valgrind)
    try:
        proxy.wait(600)
        ask(proxy, request, requests)
        proxy.process.send_signal(signal.SIGTERM if kind == "doorward" else signal.SIGINT)
        proxy.process.wait(timeout=600)
    except subprocess.TimeoutExpired as why:
        raise CannotRun(f"{kind} does not end") from why
    finally:
        proxy.stop()
    own, below, _ = load(out)
    beside = sum(count for function, count in below.items() if any(name in function for name in BACKGROUND))
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
        (options.profile / f"{kind}-{name.replace(' ', '-')}-{requests}.out").write_bytes(out.read_bytes())
    return sum(own.values()) - beside


def ask(proxy, request, requests):
    """One request after the other, on one connection."""
    if request == "h2":
        command = [program("h2load"), "-n", str(requests), "-c", "1", "-m", "1", f"http://127.0.0.1:{proxy.ports.h2c}/1k?page=2"]
        if f"{requests} succeeded" not in generate(command, "0,1", 600):
            raise CannotRun("h2load did not get every answer")
        return
    with socket.create_connection(("127.0.0.1", proxy.ports.tls if request == "tls" else proxy.ports.plain), timeout=60) as client:
        if request == "tls":
            trust = ssl.create_default_context()
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
            client, request = trust.wrap_socket(client, server_hostname="bench.test"), GET
        sent = request.encode()
        for _ in range(requests):
            client.sendall(sent)
            answer = b""
            while not answer.endswith(b"x" * 1024):
                piece = client.recv(65536)
                if not piece:
                    raise CannotRun(f"the connection closed after {answer[:200]!r}")
                answer += piece


def judge(found, options):
    """Compares with what is written down; the exit code."""
    if options.bare:
        return 0
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    if options.write:
        known |= found
        FIGURES.write_text(json.dumps(known, indent=2) + "\n")
        return 0
    worse = 0
    for name, figure in found.items():
        if name not in known:
            print(f"{name}: no figure is written down", file=sys.stderr)
            worse += 1
            continue
        change = figure / known[name] - 1
        if change > TOLERANCE:
            print(f"{name}: {figure:,} instead of {known[name]:,} instructions a request, {change:+.1%}", file=sys.stderr)
            worse += 1
        elif change < -TOLERANCE:
            print(f"{name}: {change:.1%}; write the better figure down with --write")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
