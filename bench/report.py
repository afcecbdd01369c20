"""What a run found: a table for people, JSON for programs."""

import json
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import measure
from measure import Spread, paired, plain, short
from singles import SINGLES, noisy
from targets import judged
from workloads import WORKLOADS


def machine():
    """Where this was measured."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "unknown")
    return f"{len(re.findall(r'^processor', text, re.M))} x {model}, Linux {platform.release()}"


def versions(ground):
    """Of everybody who took part."""
    asked = {
        "doorward": [str(ground.doorward), "--version"],
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "wrk": ["wrk", "-v"],
        "h2load": ["h2load", "--version"],
    }
    if ground.envoy:
        asked["envoy"] = [str(ground.envoy), "--version"]
    found = {}
    for name, command in asked.items():
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            found[name] = lines[0].split("/_bin/envoy")[-1].strip()[:80] if lines else "unknown"
        except OSError:
            found[name] = "not installed"
    return found


def table(heads, rows):
    """In Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]


def workload_rows(workload, seen):
    """One row a contestant."""
    for label in workload.contestants:
        samples = seen.get(label)
        if samples is None:
            continue
        if isinstance(samples, str):
            yield [label, samples, "", "", "", "", ""]
            continue
        good = [one for one in samples if one.quiet]
        dropped = f"{len(good)} of {len(samples)}"
        if not good:
            every = Spread.of(one.cpu_us for one in samples)
            yield [label, f"no quiet round: {noisy(samples)}; {every.text()} as it was", "", "", "", "", dropped]
            continue
        used = Spread.of(one.cpu_us for one in good)
        rate = Spread.of(one.requests / one.seconds for one in good)
        core = Spread.of(one.cores for one in good)
        ratios = []
        for other in ("bare", "nginx"):
            theirs = seen.get(other)
            found = paired(samples, theirs) if isinstance(theirs, list) and other != label else None
            ratios.append(found.text() if found else "")
        cpu = "" if label == "direct" else used.text()
        yield [label, cpu, *ratios, f"{rate.median:,.0f}", short(core.median), dropped]


def markdown(run):
    """The whole report."""
    lines = [
        "# What Doorward costs",
        "",
        f"{run['machine']}; {run['when']}; `{run['command']}`. One worker a proxy on one core, generator and upstream on another;",
        f"{run['rounds']} rounds of {run['seconds']} s, interleaved. CPU is what the kernel counted for the proxy's processes; ratios are paired within a",
        f"round; median (least to most). A round in which anything else used {measure.foreign_max} cores or more is dropped, and says so.",
        "",
        "## Targets",
        "",
        *table(["row", "figure", "A", "measured", "", "B"], judged(run)),
    ]
    for workload in WORKLOADS:
        seen = run["workloads"].get(workload.name)
        if seen is None:
            continue
        heads = ["proxy", "CPU us a request", "x bare", "x nginx", "requests a second", "core used", "quiet rounds"]
        lines += ["", f"## {workload.name}: {workload.title}", "", *table(heads, workload_rows(workload, seen))]
    for name, (title, _) in SINGLES.items():
        rows = run["singles"].get(name)
        if rows is None:
            continue
        cells = [[label, one.text() if isinstance(one, Spread) else one] for label, one in rows.items()]
        lines += ["", f"## {name}: {title}", "", *table(["proxy", "median (least to most)"], cells)]
    lines += ["", "## Versions", "", *table(["program", "version"], run["versions"].items()), ""]
    return "\n".join(lines)


def as_json(run):
    """Every sample."""
    told = dict(run)
    told["workloads"] = {
        name: {label: one if isinstance(one, str) else plain(one) for label, one in seen.items()}
        for name, seen in run["workloads"].items()
    }
    told["singles"] = {
        name: {label: vars(one) if isinstance(one, Spread) else one for label, one in rows.items()}
        for name, rows in run["singles"].items()
    }
    told["targets"] = [dict(zip(["row", "figure", "must", "measured", "verdict", "want"], cells)) for cells in judged(run)]
    return json.dumps(told, indent=1)


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
