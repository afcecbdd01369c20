"""What proxies are asked to do, and by which generator."""

import re
from dataclasses import dataclass

from measure import generate
from peers import Setup, program

CONNECTIONS = 32
PEERS = ["bare", "nginx", "haproxy", "envoy"]


@dataclass(frozen=True)
class Workload:
    """One row of the table: contestants by label, each a proxy and its setup."""

    name: str
    title: str
    generator: object
    contestants: dict
    origin: str = ""


def wrk(path, tls=False, script=None, connections=CONNECTIONS):
    """As many requests as it takes, on connections that stay."""

    def run(proxy, seconds, folder):
        port, scheme = (proxy.ports.tls, "https") if tls else (proxy.ports.plain, "http")
        more = []
        if script:
            file = folder / "wrk.lua"
            file.write_text(script)
            more = ["-s", str(file)]
        where = path or proxy.path()
        command = [program("wrk"), "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s"]
        text = generate([*command, *more, f"{scheme}://127.0.0.1:{port}{where}"])
        requests = re.search(r"(\d+) requests in", text)
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        bad = int(refused.group(1)) if refused else 0
        # A connection that the proxy closes in good order is no failure; wrk counts it as a read error.
        bad += sum(int(errors.group(index)) for index in (1, 3, 4)) if errors else 0
        return (int(requests.group(1)) if requests else 0), bad, {} if requests else {"said": text[-300:]}

    return run


def bearing(algorithm, again=False):
    """GET 1 KiB with a token; the next one for each request, unless it is the same again."""

    def run(proxy, seconds, folder):
        # Who asks for none gets one too: what differs is what is made of it.
        tokens = proxy.ground.tokens.of(algorithm).tokens
        count = 1 if again else "math.huge"
        return wrk("/1k", script=BEARING % (tokens, count))(proxy, seconds, folder)

    return run


def h2load(tls):
    """32 requests at a time over eight connections of HTTP/2."""

    def run(proxy, seconds, _):
        port, scheme = (proxy.ports.tls, "https") if tls else (proxy.ports.h2c, "http")
        command = [program("h2load"), "-t", "1", "-c", "8", "-m", "4", "-D", str(seconds)]
        text = generate([*command, f"{scheme}://127.0.0.1:{port}{proxy.path()}"])
        found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
        if not found:
            return 0, 0, {"said": text[-300:]}
        # What is under way at the end is counted as failed nowhere: h2load leaves it out.
        return int(found.group(1)), int(found.group(2)) + int(found.group(3)) + int(found.group(4)), {}

    return run


def calls(proxy, seconds, folder):
    """Unary calls of gRPC that get their 64 bytes back, 32 at a time over eight connections."""
    message = folder / "message"
    message.write_bytes(bytes([0, 0, 0, 0, 64]) + b"x" * 64)
    command = [program("h2load"), "-t", "1", "-c", "8", "-m", "4", "-D", str(seconds), "-d", str(message)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    text = generate([*command, f"http://127.0.0.1:{proxy.ports.h2c}/echo.Echo/Unary"])
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    if not found:
        return 0, 0, {"said": text[-300:]}
    return int(found.group(1)), sum(int(found.group(index)) for index in (2, 3, 4)), {}


def sockets(proxy, seconds, _):
    """Messages of 64 bytes on WebSockets, each as soon as the last one is back."""
    text = generate([str(proxy.ground.echo.program), "ask", f"127.0.0.1:{proxy.ports.plain}", str(CONNECTIONS), str(seconds)])
    found = re.search(r"(\d+) messages, (\d+) connections failed", text)
    return (int(found.group(1)), int(found.group(2)), {}) if found else (0, 0, {"said": text[-300:]})


def ab(proxy, seconds, _):
    """A new TLS connection for each request, without resumption."""
    command = [program("ab"), "-q", "-c", "8", "-t", str(max(1, int(seconds))), "-n", "1000000", "-s", "10"]
    text = generate([*command, f"https://127.0.0.1:{proxy.ports.tls}/1k"])
    done = re.search(r"Complete requests:\s+(\d+)", text)
    failed = re.search(r"Failed requests:\s+(\d+)", text)
    refused = re.search(r"Non-2xx responses:\s+(\d+)", text)
    bad = sum(int(found.group(1)) for found in (failed, refused) if found)
    return (int(done.group(1)) if done else 0), bad, {} if done else {"said": text[-300:]}


def each(peers, **setup):
    """The same setup for each; Doorward first."""
    return {peer: (peer, Setup(**setup)) for peer in ["doorward", *peers]}


# Heads are made before the clock runs. Each sample goes on elsewhere, so that none finds what the one before left behind.
BEARING = """
local heads, at = {}, 0
function init()
  for token in io.lines("%s") do
    if #heads >= %s then break end
    heads[#heads + 1] = wrk.format("GET", "/1k", { authorization = "Bearer " .. token })
  end
  at = os.time() %% #heads
end
function request()
  at = at %% #heads + 1
  return heads[at]
end
"""
POST = 'wrk.method = "POST"\nwrk.body = string.rep("x", 10240)\nwrk.headers["content-type"] = "application/octet-stream"\n'
TUNED = {"nginx tuned": ("nginx", Setup(bulk=True))}
UNASKED = {"doorward, no token asked": ("doorward", Setup())}
PLAIN = {"doorward, no log": ("doorward", Setup())}
# With limits to its messages Doorward follows the frames.
FOLLOWED = {"doorward, message cap": ("doorward", Setup(origin="sockets", clauses="websocket: { max_message: 1MiB }"))}

WORKLOADS = [
    Workload("h1", "GET 1 KiB over HTTP/1.1", wrk("/1k"), each(PEERS) | {"direct": ("direct", Setup())}),
    Workload("log", "the same with a JSON access log", wrk("/1k"), each(["nginx", "haproxy", "envoy"], log=True) | PLAIN),
    Workload("https", "GET 1 KiB over TLS, connections stay", wrk("/1k", tls=True), each(PEERS)),
    Workload("handshake", "GET 1 KiB, a new TLS connection each", ab, each(PEERS)),
    Workload("h2", "GET 1 KiB over HTTP/2 with TLS", h2load(True), each(PEERS)),
    Workload("h2c", "GET 1 KiB over HTTP/2 without TLS", h2load(False), each(PEERS)),
    Workload("post10k", "POST 10 KiB", wrk("/post", script=POST), each(PEERS)),
    Workload("100k", "GET 100 KiB", wrk("/100k"), each(PEERS) | TUNED),
    Workload("10m", "GET 10 MiB", wrk("/10m", connections=8), each(PEERS) | TUNED),
    Workload("grpc", "a unary call of gRPC, 64 bytes both ways", calls, each(["haproxy", "envoy"], origin="calls"), "calls"),
    Workload("websocket", "a message of 64 bytes there and back", sockets, each(["haproxy", "envoy"], origin="sockets") | FOLLOWED, "sockets"),
    Workload("rs256", "GET 1 KiB with a token (RS256), another each time", bearing("RS256"), each(["haproxy", "envoy"], tokens="RS256")),
    Workload("es256", "the same with ES256", bearing("ES256"), each(["haproxy", "envoy"], tokens="ES256")),
    Workload("hs256", "the same with HS256", bearing("HS256"), each(["haproxy", "envoy"], tokens="HS256") | UNASKED),
    Workload("token", "GET 1 KiB with the same token (RS256) again", bearing("RS256", again=True), each(["haproxy", "envoy"], tokens="RS256") | UNASKED),
    Workload("routes", "GET 1 KiB, one of 1,000 routes", wrk(None), each(["nginx", "haproxy", "envoy"], routes=1000) | {"doorward, one route": ("doorward", Setup())}),
]
