"""Rows that no generator gives: memory of idle connections, time to start, added latency, a second worker."""

import json
import socket
import time

from measure import Spread, generate, interleaved, memory, paired, sample
from peers import CannotRun, Proxy, Setup
from workloads import PEERS, wrk

IDLE = 4000
LATENCY_RATE = 2000
LATENCY_CONNECTIONS = 32


def idle(ground, _, options):
    """Bytes for each connection that has had one answer and waits: of the process tree alone."""
    rows = {}
    for peer in ["doorward", *(options.peers or PEERS)]:
        try:
            with Proxy(ground, peer, Setup()) as proxy:
                proxy.wait()
                warm = connections(proxy, 64)
                before = memory(proxy.pid)
                held = connections(proxy, options.idle)
                # Whoever tidies up after a request has done so by then.
                time.sleep(1)
                bytes_each = (memory(proxy.pid) - before) / len(held)
                for client in [*held, *warm]:
                    client.close()
                rows[peer] = Spread.of([bytes_each / 1024])
        except (CannotRun, OSError) as why:
            rows[peer] = str(why)
    return rows


def connections(proxy, count):
    """Opens so many, each with one request behind it."""
    request = f"GET {proxy.path()} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    opened = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", proxy.ports.plain), timeout=10)
        opened.append(client)
        client.sendall(request)
        got = b""
        while len(got) < 1024 or not got.endswith(b"x"):
            piece = client.recv(65536)
            if not piece:
                raise OSError(f"{proxy.kind} closed connection {len(opened)}")
            got += piece
    return opened


def start(ground, _, options):
    """Milliseconds from the start of the process to the first good answer."""
    contestants = {peer: (peer, Setup()) for peer in ["doorward", *PEERS]}
    many = {f"{peer}, 1,000 routes": (peer, Setup(routes=1000)) for peer in ["doorward", "nginx", "haproxy", "envoy"]}
    contestants |= many

    def once(label):
        try:
            with Proxy(ground, *contestants[label]) as proxy:
                return proxy.wait() * 1e3
        except CannotRun as why:
            return str(why)

    seen = interleaved(contestants, options.starts, once)
    return {label: spread_or_word(figures) for label, figures in seen.items()}


def latency(ground, upstream, options):
    """Microseconds that a proxy adds to the median and to the slowest tenth, at a fixed rate."""
    peers = ["direct", "doorward", *(options.peers or PEERS)]
    proxies, rows = running(ground, {peer: (peer, Setup()) for peer in peers})

    def generator(proxy):
        port = proxy.ports.plain
        command = [str(options.load), "--url", f"http://127.0.0.1:{port}/1k", "--rate", str(LATENCY_RATE), "--json"]
        command += ["--duration", str(max(1, round(options.seconds * 2))), "--connections", str(LATENCY_CONNECTIONS)]
        text = generate(command)
        found = json.loads(text.strip().splitlines()[-1])
        return found["answers"], found["bad"], found

    try:
        seen = interleaved(proxies, options.rounds, lambda label: sample(generator, proxies[label], upstream))
    finally:
        stop(proxies)
    direct = seen.get("direct", [])
    for label, samples in seen.items():
        for share in ["p50_us", "p90_us"]:
            added = [(one, base) for one, base in zip(samples, direct) if one.quiet and base.quiet]
            figures = [one.more[share] - (base.more[share] if label != "direct" else 0) for one, base in added]
            rows[f"{label}, {share[:3]}"] = Spread.of(figures) or noisy(samples)
    # Paired with the bare proxy in the same round.
    mine, bare = seen.get("doorward", []), seen.get("bare", [])
    threes = [three for three in zip(mine, bare, direct) if all(one.quiet for one in three)]
    ratios = [(a.more["p50_us"] - c.more["p50_us"]) / (b.more["p50_us"] - c.more["p50_us"]) for a, b, c in threes]
    rows["doorward / bare, p50"] = Spread.of(ratios) or "not measured"
    return rows


def workers(ground, upstream, options):
    """CPU of a request with two workers and with one, both on all cores and as busy as they can be."""
    cores, ground.proxy_cores = ground.proxy_cores, ""
    proxies, rows = running(ground, {f"doorward, {word}": ("doorward", Setup(workers=count)) for count, word in [(1, "one worker"), (2, "two workers")]})
    run = wrk("/1k")
    try:
        generator = lambda proxy: run(proxy, options.seconds, ground.folder)
        seen = interleaved(proxies, options.rounds, lambda label: sample(generator, proxies[label], upstream))
    finally:
        stop(proxies)
        ground.proxy_cores = cores
    for label, samples in seen.items():
        rows[label] = Spread.of(one.cpu_us for one in samples if one.quiet) or noisy(samples)
    both = list(seen.values())
    rows["two / one"] = (paired(both[1], both[0]) if len(both) == 2 else None) or "not measured"
    return rows


def running(ground, contestants):
    """Every proxy that starts, and what is wrong with the others."""
    proxies, wrong = {}, {}
    for label, (kind, setup) in contestants.items():
        try:
            proxy = Proxy(ground, kind, setup)
            proxy.wait()
            proxies[label] = proxy
        except CannotRun as why:
            wrong[label] = str(why)
    return proxies, wrong


def stop(proxies):
    for proxy in proxies.values():
        proxy.stop()


def spread_or_word(figures):
    """What is wrong, if anything was."""
    words = [one for one in figures if isinstance(one, str)]
    return words[0] if words else Spread.of(figures)


def noisy(samples):
    """Why there is no figure."""
    if any(one.bad or not one.requests for one in samples):
        said = next((one.more["said"] for one in samples if "said" in one.more), "")
        return f"requests failed {said}".strip()
    return f"the machine was busy with other things ({Spread.of(one.foreign for one in samples).text(' cores')})"


SINGLES = {
    "idle": ("KiB of memory for each idle connection", idle),
    "start": ("milliseconds from start to the first answer", start),
    "latency": (f"microseconds added at {LATENCY_RATE:,} requests a second, open loop", latency),
    "workers": ("CPU microseconds a request, one worker and two", workers),
}
