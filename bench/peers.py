"""Who is measured: a proxy each, told by its config to do the same as the others."""

import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

# Nobody is asked to close a connection for its age, and nobody is short of connections.
MANY = 1_000_000_000
CONNECTIONS = 19_000
POOL = 1024
ISSUER, AUDIENCE = "https://id.bench.test", "api"


@dataclass(frozen=True)
class Setup:
    """What differs between two runs of one proxy."""

    log: bool = False
    routes: int = 1
    workers: int = 1
    bulk: bool = False
    origin: str = ""  # another one than the cheap one: `calls` of gRPC, or `sockets`
    clauses: str = ""  # Doorward only: further clauses of its routes
    tokens: str = ""  # nobody comes in without a token signed with this algorithm


@dataclass
class Ground:
    """What every proxy stands on."""

    folder: Path
    upstream: int
    certificate: Path
    key: Path
    doorward: Path
    bare: Path
    envoy: Path | None
    echo: object = None  # a running `Echo`
    tokens: object = None  # a `Tokens`
    proxy_cores: str = "0"
    serial: int = 0
    problems: dict = field(default_factory=dict)

    def origin(self, setup):
        """The port of the origin that a setup is for."""
        return self.echo.ports[setup.origin] if setup.origin else self.upstream

    def fresh(self, name):
        """A folder nobody else uses."""
        self.serial += 1
        folder = self.folder / f"{self.serial:03}-{name}"
        folder.mkdir(parents=True)
        return folder


class CannotRun(Exception):
    """A proxy is not there, or does not start."""


def free_ports(count):
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def prefixes(setup):
    """The paths of the routes; one route takes every path."""
    return ["/"] if setup.routes == 1 else [f"/r{index}/" for index in range(setup.routes)]


def doorward(ground, folder, setup, ports):
    log = {"format": "json", "file": str(folder / "access.log")} if setup.log else {"format": "none"}
    limits = {"connections": CONNECTIONS, "connections_per_ip": CONNECTIONS, "requests_per_connection": MANY}
    limits = json.dumps(limits)
    tls = {"certificates": [{"cert_file": str(ground.certificate), "key_file": str(ground.key)}], "unknown_name": "use_default"}
    scheme = "h2c" if setup.origin == "calls" else "http"
    lines = [
        "version: 1",
        f"runtime: {{ threads: {setup.workers} }}",
        "listeners:",
        f'  plain: {{ address: "127.0.0.1:{ports.plain}", protocols: [http1, h2c], limits: {limits} }}',
        f'  secure: {{ address: "127.0.0.1:{ports.tls}", limits: {limits}, tls: {json.dumps(tls)} }}',
        f"telemetry: {{ access_log: {json.dumps(log)} }}",
        f'upstreams: {{ up: {{ targets: [{{ url: "{scheme}://127.0.0.1:{ground.origin(setup)}" }}] }} }}',
    ]
    clauses = setup.clauses
    if setup.tokens:
        keys = str(ground.tokens.of(setup.tokens).keys)
        user = {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks_file": keys, "algorithms": [setup.tokens]}
        lines.append(f"authenticators: {{ user: {{ jwt: {json.dumps(user)} }} }}")
        clauses = "auth: [user]"
    lines.append("routes:")
    for index, prefix in enumerate(prefixes(setup)):
        prefix = prefix.rstrip("/") or "/"
        more = f", {clauses}" if clauses else ""
        lines.append(f"  - {{ name: r{index}, match: {{ path_prefix: {prefix} }}{more}, upstream: up }}")
    config = folder / "doorward.yaml"
    config.write_text("\n".join(lines) + "\n")
    return [str(ground.doorward), "run", "--config", str(config)]


def bare(ground, folder, setup, ports):
    if setup.log or setup.routes > 1 or setup.origin:
        raise CannotRun("a bare Pingora has no routes, no log and one origin")
    words = [f"127.0.0.1:{ground.upstream}", f"127.0.0.1:{ports.plain}", f"127.0.0.1:{ports.tls}"]
    return [str(ground.bare), *words, str(ground.certificate), str(ground.key), str(setup.workers)]


def nginx(ground, folder, setup, ports):
    body = "proxy_buffers 8 64k; proxy_buffer_size 64k; proxy_max_temp_file_size 0;" if setup.bulk else ""
    form = (
        "log_format all escape=json '{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"method\":\"$request_method\","
        '"host":"$host","path":"$uri","status":$status,"sent":$body_bytes_sent,"took":$request_time,'
        '"target":"$upstream_addr","agent":"$http_user_agent"}\';'
    )
    log = f"access_log {folder}/access.log all buffer=64k flush=1s;" if setup.log else "access_log off;"
    to = "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header X-Forwarded-For $remote_addr;"
    places = "\n".join(f"location {prefix} {{ {to} }}" for prefix in prefixes(setup))
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes {setup.workers}; pid {folder}/pid; error_log {folder}/error.log crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  {form if setup.log else ""}
  {log} {body}
  keepalive_requests {MANY}; keepalive_timeout 600s; client_max_body_size 100m; client_body_buffer_size 64k;
  http2_max_requests {MANY}; http2_max_concurrent_streams 128;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{ground.upstream}; keepalive {POOL}; keepalive_requests {MANY}; }}
  server {{
    listen 127.0.0.1:{ports.plain}; listen 127.0.0.1:{ports.h2c} http2; listen 127.0.0.1:{ports.tls} ssl http2;
    ssl_certificate {ground.certificate}; ssl_certificate_key {ground.key}; ssl_session_cache shared:s:1m;
    {places}
  }}
}}
"""
    )
    return [program("nginx"), "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]


def haproxy(ground, folder, setup, ports):
    pem = folder / "both.pem"
    pem.write_text(ground.certificate.read_text() + ground.key.read_text())
    log = "log stdout format raw local0" if setup.log else ""
    form = (
        "log global\n  log-format '{\"time\":\"%t\",\"client\":\"%ci\",\"method\":\"%HM\",\"path\":\"%HP\",\"status\":%ST,"
        "\"sent\":%B,\"took\":%Ta,\"target\":\"%si:%sp\"}'"
    )
    if setup.routes > 1:
        table = folder / "routes.map"
        table.write_text("".join(f"{prefix} up\n" for prefix in prefixes(setup)))
        route = f"use_backend %[path,map_beg({table})]"
    else:
        route = "default_backend up"
    tokens = ""
    if setup.tokens:
        key = ground.tokens.of(setup.tokens)
        # What each of the others looks at too: algorithm, signature, issuer, audience and end.
        checks = [
            f"{{ http_auth_bearer,jwt_header_query('$.alg') -m str {setup.tokens} }}",
            f'{{ http_auth_bearer,jwt_verify("{setup.tokens}","{key.verifies}") 1 }}',
            f"{{ http_auth_bearer,jwt_payload_query('$.iss') -m str {ISSUER} }}",
            f"{{ http_auth_bearer,jwt_payload_query('$.aud') -m str {AUDIENCE} }}",
            "{ var(txn.ends),sub(txn.now) -m int gt 0 }",
        ]
        now = "http-request set-var(txn.now) date()\n  http-request set-var(txn.ends) http_auth_bearer,jwt_payload_query('$.exp','int')"
        tokens = "\n  ".join([now, *(f"http-request deny deny_status 401 unless {check}" for check in checks), "http-request del-header authorization"])
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""global
  nbthread {setup.workers}
  maxconn 9400
  {log}
defaults
  mode http
  timeout client 600s
  timeout server 60s
  timeout connect 5s
  timeout http-keep-alive 600s
  option http-keep-alive
  http-reuse always
frontend all
  bind 127.0.0.1:{ports.plain}
  bind 127.0.0.1:{ports.h2c} proto h2
  bind 127.0.0.1:{ports.tls} ssl crt {pem} alpn h2,http/1.1
  option forwardfor
  {form if setup.log else ""}
  {tokens}
  {route}
backend up
  server up 127.0.0.1:{ground.origin(setup)} pool-max-conn {POOL} {"proto h2" if setup.origin == "calls" else ""}
"""
    )
    return [program("haproxy"), "-f", str(config)]


def envoy(ground, folder, setup, ports):
    if ground.envoy is None:
        raise CannotRun(ground.problems.get("envoy", "Envoy is not here"))
    routes = [{"match": {"prefix": prefix}, "route": {"cluster": "up", "timeout": "0s"}} for prefix in prefixes(setup)]
    kind = "type.googleapis.com/envoy."
    router = {"@type": kind + "extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    manager = {
        "@type": kind + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "all",
        "use_remote_address": True,
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    if setup.tokens:
        said = {"inline_string": ground.tokens.of(setup.tokens).keys.read_text()}
        provider = {"issuer": ISSUER, "audiences": [AUDIENCE], "local_jwks": said}
        rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "user"}}]
        one = {"@type": kind + "extensions.filters.http.jwt_authn.v3.JwtAuthentication", "providers": {"user": provider}, "rules": rules}
        manager["http_filters"].insert(0, {"name": "envoy.filters.http.jwt_authn", "typed_config": one})
    if setup.origin == "sockets":
        manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    if setup.log:
        words = {"time": "START_TIME", "client": "DOWNSTREAM_REMOTE_ADDRESS", "method": "REQ(:METHOD)", "path": "REQ(:PATH)"}
        words |= {"status": "RESPONSE_CODE", "sent": "BYTES_SENT", "took": "DURATION", "target": "UPSTREAM_HOST"}
        form = {"json_format": {name: f"%{word}%" for name, word in words.items()}}
        to = {"@type": kind + "extensions.access_loggers.file.v3.FileAccessLog", "path": str(folder / "access.log"), "log_format": form}
        manager["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": to}]
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    pair = {"certificate_chain": {"filename": str(ground.certificate)}, "private_key": {"filename": str(ground.key)}}
    tls = {
        "@type": kind + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]},
    }
    secure = {"filters": filters, "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls}}

    def listener(name, port, chain):
        return {"name": name, "address": address(port), "filter_chains": [chain]}

    cluster = {
        "name": "up",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [{"max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000}]},
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(ground.origin(setup))}}]}]},
    }
    if setup.origin == "calls":
        options = {"@type": kind + "extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
        cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    listeners = [listener("plain", ports.plain, {"filters": filters}), listener("secure", ports.tls, secure)]
    config = folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": [cluster]}}))
    return [str(ground.envoy), "-c", str(config), "--concurrency", str(setup.workers), "--disable-hot-restart", "-l", "error"]


def address(port):
    """As Envoy writes one."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def program(name):
    """Where a Debian package puts it."""
    for folder in [*os.environ["PATH"].split(":"), "/usr/sbin"]:
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise CannotRun(f"{name} is not installed")


KINDS = {"doorward": doorward, "bare": bare, "nginx": nginx, "haproxy": haproxy, "envoy": envoy}
# These speak HTTP/2 and HTTP/1.1 at one port without TLS.
ONE_PORT = {"doorward", "bare", "envoy"}


@dataclass
class Ports:
    plain: int
    h2c: int
    tls: int


class Proxy:
    """A running proxy."""

    def __init__(self, ground, kind, setup=Setup(), wrapper=()):
        self.ground, self.kind, self.setup, self.began = ground, kind, setup, time.monotonic()
        if kind == "direct":
            self.process, self.ports = None, Ports(ground.upstream, ground.upstream, 0)
            return
        folder = ground.fresh(kind)
        plain, h2c, tls = free_ports(3)
        self.ports = Ports(plain, plain if kind in ONE_PORT else h2c, tls)
        command = KINDS[kind](ground, folder, setup, self.ports)
        cores = ["taskset", "-c", ground.proxy_cores] if ground.proxy_cores else []
        self.began = time.monotonic()
        self.output = folder / "output"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen([*cores, *wrapper, *command], stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    @property
    def pid(self):
        return self.process.pid

    def path(self):
        """Where the answer of 1 KiB is."""
        return "/1k" if self.setup.routes == 1 else f"/r{self.setup.routes * 7 // 10}/1k"

    def wait(self, seconds=20):
        """Waits for the first good answer; returns how long it took since the start."""
        shown = f"authorization: Bearer {self.ground.tokens.of(self.setup.tokens).first()}\r\n" if self.setup.tokens else ""
        request = f"GET {self.path()} HTTP/1.1\r\nhost: 127.0.0.1\r\n{shown}connection: close\r\n\r\n".encode()
        while True:
            if self.process and self.process.poll() is not None:
                text = self.output.read_text(errors="replace").strip().splitlines()
                raise CannotRun(f"{self.kind} ended at once: {text[-1] if text else 'no word'}")
            try:
                with socket.create_connection(("127.0.0.1", self.ports.plain), timeout=5) as client:
                    client.sendall(request)
                    if client.recv(64).startswith(b"HTTP/1.1 200"):
                        return time.monotonic() - self.began
            except OSError:
                pass
            if time.monotonic() - self.began > seconds:
                self.stop()
                raise CannotRun(f"{self.kind} gave no answer in {seconds} s")
            time.sleep(0.001)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        # Nginx would leave its worker behind; the others need no goodbye.
        if self.kind == "nginx":
            self.process.terminate()
        else:
            self.process.kill()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Upstream:
    """A cheap origin: nginx that answers from memory or from a file in the page cache."""

    def __init__(self, ground, cores="1"):
        folder = ground.fresh("upstream")
        (folder / "files").mkdir()
        for name, size in [("100k", 100 << 10), ("10m", 10 << 20)]:
            (folder / "files" / name).write_bytes(b"x" * size)
        body = "x" * 1024
        config = folder / "nginx.conf"
        config.write_text(
            f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
  access_log off; keepalive_requests {MANY}; keepalive_timeout 600s; sendfile on; tcp_nopush on; open_file_cache max=10;
  client_max_body_size 100m; client_body_buffer_size 64k;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{ground.upstream}; default_type application/octet-stream; root {folder}/files;
    location / {{ return 200 "{body}"; }}
    location = /100k {{ }}
    location = /10m {{ }}
  }}
}}
"""
        )
        command = [program("nginx"), "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
        self.process = subprocess.Popen(["taskset", "-c", cores, *command], stdin=subprocess.DEVNULL)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Echo:
    """An origin of our own that gives back what it gets: calls of gRPC, and messages of WebSockets."""

    def __init__(self, program, cores="1"):
        calls, sockets = free_ports(2)
        self.program, self.ports = program, {"calls": calls, "sockets": sockets}
        command = [str(program), "serve", str(calls), str(sockets)]
        self.process = subprocess.Popen(["taskset", "-c", cores, *command], stdin=subprocess.DEVNULL)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
