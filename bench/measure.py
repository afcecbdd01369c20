"""How a proxy is measured: what the kernel says its process tree used, while a generator keeps it busy."""

import os
import re
import resource
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

# A sample during which others used more than this many cores says nothing about ratios.
foreign_max = 0.2
GENERATOR_CORE = "1"
TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid):
    """A process and all that came of it."""
    found, new = [], [pid]
    while new:
        one = new.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                new.extend(int(word) for word in children.read_text().split())
            except OSError:
                pass
    return found


def cpu(pid):
    """Nanoseconds on a core, of every thread of a process tree."""
    total = 0
    for one in tree(pid):
        for thread in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                total += int(thread.read_text().split()[0])
            except OSError:
                pass
    return total


def memory(pid):
    """Bytes that a process tree alone is to blame for (PSS)."""
    total = 0
    for one in tree(pid):
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) * 1024
    return total


def busy():
    """Seconds of CPU that anybody on this machine used, and that its host took."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, steal = (int(words[index]) for index in (1, 2, 3, 8))
    return (user + nice + system + steal) / TICKS


def own():
    """Seconds of CPU of this process and of the generators it waited for."""
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


@dataclass
class Sample:
    """One run of the generator against one proxy."""

    requests: int
    bad: int
    seconds: float
    cpu_us: float  # of the proxy, a request
    cores: float  # how much of its core the proxy used
    foreign: float  # cores used by anything else
    more: dict

    @property
    def quiet(self):
        return self.foreign < foreign_max and self.bad == 0 and self.requests > 0


def sample(generator, proxy, upstream):
    """Runs a generator once. It gives back requests, failures, and whatever else it saw."""
    of = proxy.pid if proxy.process else upstream.pid
    before = (busy(), own(), cpu(of), cpu(upstream.pid), time.monotonic())
    requests, bad, more = generator(proxy)
    after = (busy(), own(), cpu(of), cpu(upstream.pid), time.monotonic())
    all_busy, harness, proxied, origin, seconds = (late - early for late, early in zip(after, before))
    ours = harness + origin / 1e9 + (proxied / 1e9 if proxy.process else 0)
    per_request = proxied / 1e3 / requests if requests else 0.0
    return Sample(requests, bad, seconds, per_request, proxied / 1e9 / seconds, max(0.0, (all_busy - ours) / seconds), more)


def generate(command, cores=GENERATOR_CORE, seconds=60):
    """Runs a generator on its core; gives back what it printed."""
    done = subprocess.run(["taskset", "-c", cores, *command], capture_output=True, text=True, timeout=seconds, check=False)
    return done.stdout + done.stderr


def interleaved(contestants, rounds, once):
    """A B C, C B A, A B C, …: whatever changes slowly meets everybody alike."""
    seen = {label: [] for label in contestants}
    for index in range(rounds):
        order = list(contestants)
        for label in order if index % 2 == 0 else reversed(order):
            seen[label].append(once(label))
    return seen


@dataclass
class Spread:
    """Median, least and most of some figures."""

    median: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(figures):
        figures = list(figures)
        return Spread(median(figures), min(figures), max(figures), len(figures)) if figures else None

    def text(self, unit=""):
        return f"{short(self.median)}{unit} ({short(self.low)} to {short(self.high)})"


def short(figure):
    """Three figures that mean something."""
    if abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"


def paired(mine, theirs, how=lambda a, b: a / b):
    """What two contestants have to do with each other, round by round; only rounds that were quiet for both."""
    both = [(a, b) for a, b in zip(mine, theirs) if a.quiet and b.quiet]
    return Spread.of(how(a.cpu_us, b.cpu_us) for a, b in both)


def plain(samples):
    """As JSON has it."""
    return [asdict(one) for one in samples]
