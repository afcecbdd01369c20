#!/usr/bin/env bash
# Two judges of their own: h2spec on HTTP/2, with TLS and without, and sslyze on TLS. Each is fetched by its own tool (go, pip).
# Usage: scan.sh BINARY
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "$1")
work=$(mktemp -d)
gateway='' origin=''
cleanup() {
  for process in $gateway $origin; do kill "$process" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

GOBIN="$work" go install github.com/summerwind/h2spec/cmd/h2spec@latest
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install sslyze

cp tests/data/tls/a.pem tests/data/tls/a.key "$work"
cat >"$work/doorward.yaml" <<'YAML'
version: 1
listeners:
  plain: { address: "127.0.0.1:0", protocols: [h2c] }
  private: { address: "127.0.0.1:0", tls: { certificates: [{ cert_file: a.pem, key_file: a.key }], unknown_name: use_default } }
upstreams: { slow: { targets: [{ url: "http://127.0.0.1:PORT" }] } }
routes: [{ name: all, match: { path_prefix: / }, upstream: slow }]
YAML
# It thinks before it answers: what is wrong with a request is seen before the answer is out.
python3 - >"$work/origin" <<'PY' &
import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.2)
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    do_POST = do_HEAD = do_OPTIONS = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.handle_error = lambda *_: None  # who goes before the answer goes
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
print(server.server_port, flush=True)
server.serve_forever()
PY
origin=$!
for _ in $(seq 100); do [ -s "$work/origin" ] && break; sleep 0.1; done
sed -i "s/PORT/$(cat "$work/origin")/" "$work/doorward.yaml"
"$binary" run --config "$work/doorward.yaml" >"$work/log" 2>&1 &
gateway=$!
port() { sed -n "s|^listening on $1 .*:\([0-9]*\)\$|\1|p" "$work/log"; }
for _ in $(seq 100); do [ -n "$(port private)" ] && break; sleep 0.1; done

failed=0
for kind in plain private; do
  options=(-h 127.0.0.1 -p "$(port "$kind")" -o 5)
  [ "$kind" = plain ] || options+=(-t -k)
  "$work/h2spec" "${options[@]}" >"$work/$kind.txt" || true
  tail -n 1 "$work/$kind.txt" | sed "s/^/h2spec, $kind: /"
  grep -q ' 0 failed' "$work/$kind.txt" || { grep -A1 '×' "$work/$kind.txt"; failed=1; }
done

# Mozilla's intermediate profile is what "nothing at medium or above" is measured by; our authority is nobody's, so the
# certificate itself is not judged.
"$work/venv/bin/python" - "$(port private)" <<'PY' || failed=1
import sys
from sslyze import Scanner, ServerNetworkLocation, ServerScanRequest, ScanCommand, ServerNetworkConfiguration
where = ServerNetworkLocation("a.test", int(sys.argv[1]), "127.0.0.1")
wanted = {command for command in ScanCommand if command.name not in ("CERTIFICATE_INFO", "HTTP_HEADERS")}
scanner = Scanner()
scanner.queue_scans([ServerScanRequest(where, ServerNetworkConfiguration("a.test"), wanted)])
found = []
for result in scanner.get_results():
    scan = result.scan_result
    if scan is None:
        sys.exit(f"sslyze cannot connect: {result.connectivity_error_trace}")
    for old in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        if getattr(scan, f"{old}_cipher_suites").result.accepted_cipher_suites:
            found.append(f"{old} is spoken")
    suites = {suite.cipher_suite.name for suite in scan.tls_1_2_cipher_suites.result.accepted_cipher_suites}
    weak = [name for name in suites if not name.startswith("TLS_ECDHE_") or "CBC" in name]
    found += [f"weak suite {name}" for name in weak]
    if not suites or not scan.tls_1_3_cipher_suites.result.accepted_cipher_suites:
        found.append("TLS 1.2 or 1.3 is not spoken")
    if scan.tls_compression.result.supports_compression: found.append("compression")
    if scan.heartbleed.result.is_vulnerable_to_heartbleed: found.append("heartbleed")
    if scan.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection: found.append("ccs injection")
    if scan.robot.result.robot_result.name.startswith("VULNERABLE"): found.append("robot")
    if scan.session_renegotiation.result.is_vulnerable_to_client_renegotiation_dos: found.append("renegotiation by the client")
    if not scan.session_renegotiation.result.supports_secure_renegotiation: found.append("no secure renegotiation")
    if scan.tls_1_3_early_data.result.supports_early_data: found.append("early data")
    if scan.tls_fallback_scsv.result.supports_fallback_scsv is False: found.append("no fallback scsv")
    print("sslyze:", len(suites), "suites of TLS 1.2;", ", ".join(found) or "nothing found")
sys.exit(bool(found))
PY
exit "$failed"
