"""Bars as SVG, written by hand: one chart a row of the table."""

from html import escape

from measure import Spread, short
from singles import SINGLES
from workloads import WORKLOADS

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 720, 170, 150, 22, 10, 54
OURS, OTHERS, LINE, INK = "#b4451f", "#7c8aa5", "#333333", "#222222"


def bars(title, unit, rows):
    """`rows` are labels with a spread, or a word why there is none."""
    known = [spread for _, spread in rows if isinstance(spread, Spread)]
    most = max((spread.high for spread in known), default=1) or 1
    height = TOP + len(rows) * (BAR + GAP) + 8
    scale = (WIDTH - LEFT - RIGHT) / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="15" font-weight="bold" fill="{INK}">{escape(title)}</text>',
        f'<text x="12" y="40" fill="{INK}">{escape(unit)}; less is better; the line is from the least to the most</text>',
    ]
    for index, (label, spread) in enumerate(rows):
        y = TOP + index * (BAR + GAP)
        middle = y + BAR / 2
        parts.append(f'<text x="{LEFT - 8}" y="{middle + 4.5}" text-anchor="end" fill="{INK}">{escape(label)}</text>')
        if not isinstance(spread, Spread):
            parts.append(f'<text x="{LEFT + 4}" y="{middle + 4.5}" fill="{INK}">{escape(str(spread)[:60])}</text>')
            continue
        color = OURS if label.startswith("doorward") else OTHERS
        width, low, high = (max(0.0, figure) * scale for figure in (spread.median, spread.low, spread.high))
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}"/>')
        parts.append(f'<path d="M{LEFT + low:.1f} {middle}H{LEFT + high:.1f}" stroke="{LINE}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + max(width, high) + 6:.1f}" y="{middle + 4.5}" fill="{INK}">{escape(short(spread.median))}</text>')
    return "\n".join([*parts, "</svg>", ""])


def write(run, folder):
    """A file for each row that has a figure."""
    for workload in WORKLOADS:
        seen = run["workloads"].get(workload.name)
        if seen is None:
            continue
        rows = []
        for label in workload.contestants:
            samples = seen.get(label)
            if label == "direct" or samples is None:
                continue
            quiet = samples if isinstance(samples, str) else Spread.of(one.cpu_us for one in samples if one.quiet)
            rows.append((label, quiet or "no quiet round"))
        (folder / f"{workload.name}.svg").write_text(bars(workload.title, "CPU microseconds a request", rows))
    for name, (title, _) in SINGLES.items():
        rows = [(label, one) for label, one in run["singles"].get(name, {}).items() if " / " not in label]
        if rows:
            (folder / f"{name}.svg").write_text(bars(name, title, rows))
