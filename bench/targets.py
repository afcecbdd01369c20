"""What Doorward is held to: A is a must, B is what it is after. `holds` looks at the figures of a run."""

from dataclasses import dataclass

from measure import Spread, paired, short

# Closer than this is a tie on a machine like ours.
TIE = 1.10


@dataclass(frozen=True)
class Target:
    """One figure with its bounds."""

    row: str
    what: str
    figure: object  # from the figures of a run to a Spread, or a word why there is none
    must: float
    want: tuple | None = None  # the stretch: another figure and its bound
    unit: str = ""


def ratio(workload, other, mine="doorward"):
    """CPU of a request, compared with another contestant of the same rounds."""

    def figure(run):
        rows = run["workloads"].get(workload, {})
        if mine not in rows or other not in rows:
            return "not run"
        samples, others = rows[mine], rows[other]
        for one in (samples, others):
            if isinstance(one, str):
                return one
        return paired(samples, others) or "no quiet round"

    return figure


def difference(workload, other, mine="doorward"):
    """CPU microseconds more than another contestant of the same rounds."""

    def figure(run):
        rows = run["workloads"].get(workload, {})
        samples, others = rows.get(mine, "not run"), rows.get(other, "not run")
        for one in (samples, others):
            if isinstance(one, str):
                return one
        return paired(samples, others, lambda a, b: a - b) or "no quiet round"

    return figure


def single(row, label):
    """A figure of its own."""
    return lambda run: run["singles"].get(row, {}).get(label, "not run")


TARGETS = [
    Target("h1", "x bare Pingora", ratio("h1", "bare"), 1.10, (ratio("h1", "nginx"), 1.25, "x nginx")),
    Target("log", "more than without", difference("log", "doorward, no log"), 1.5, (None, 0.7, "us"), " us"),
    Target("https", "x bare Pingora", ratio("https", "bare"), 1.15, (ratio("https", "nginx"), 1.0, "x nginx")),
    Target("h2", "x bare Pingora", ratio("h2", "bare"), 1.10, (ratio("h2", "nginx"), 1.3, "x nginx")),
    Target("post10k", "x bare Pingora", ratio("post10k", "bare"), 1.0, (ratio("post10k", "nginx"), 1.3, "x nginx")),
    Target("10m", "x bare Pingora", ratio("10m", "bare"), 1.05, (ratio("10m", "nginx tuned"), 1.1, "x nginx tuned")),
    Target("rs256", "x HAProxy", ratio("rs256", "haproxy"), 1.0, (None, 0.85, "x HAProxy")),
    Target("hs256", "more than without", difference("hs256", "doorward, no token asked"), 6.0, None, " us"),
    Target("token", "x without a token", ratio("token", "doorward, no token asked"), 1.15, (None, 1.08, "x without")),
    Target("idle", "a connection", single("idle", "doorward"), 32.0, (None, 12.0, "KiB"), " KiB"),
    Target("latency", "added p50, x bare Pingora", single("latency", "doorward / bare, p50"), 1.15),
    Target("workers", "two workers, x one", single("workers", "two / one"), 1.10, (None, 1.03, "")),
    Target("start", "to the first answer", single("start", "doorward"), 150.0, (None, 60.0, "ms"), " ms"),
    Target("start", "the same with 1,000 routes", single("start", "doorward, 1,000 routes"), 150.0, (None, 100.0, "ms"), " ms"),
]


def verdict(found, bound):
    """In a word."""
    if not isinstance(found, Spread):
        return "not measured"
    if found.median <= bound:
        return "holds"
    return "holds within 10 %" if found.median <= bound * TIE else "missed"


def judged(run):
    """Every target with what was measured: cells of a table."""
    for target in TARGETS:
        found = target.figure(run)
        text = found.text(target.unit) if isinstance(found, Spread) else found
        cells = [target.row, target.what, f"{short(target.must)}{target.unit}", text, verdict(found, target.must)]
        if target.want:
            figure, bound, words = target.want
            other = figure(run) if figure else found
            seen = f", measured {short(other.median)}" if figure and isinstance(other, Spread) else ""
            cells.append(f"{short(bound)} {words}{seen}: {verdict(other, bound)}")
        else:
            cells.append("")
        yield cells
