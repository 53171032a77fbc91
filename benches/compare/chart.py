"""PURE: a line chart as SVG, readable on light and dark pages."""

import math
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 84, 190, 48, 60
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#8250df", "#bf8700", "#57606a")
DARK = ("#58a6ff", "#ff7b72", "#56d364", "#d2a8ff", "#e3b341", "#8b949e")
STYLE = """text{font:13px system-ui,sans-serif;fill:#1f2328}.page{fill:#ffffff}.grid{stroke:#d0d7de}.axis{stroke:#57606a}
.series{fill:none;stroke-width:2}.title{font-size:15px;font-weight:600}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#8b949e}}"""


def lines(title, x_label, y_label, ticks, series, logarithmic=True):
    """`ticks` are the places on the x axis, evenly apart. `series` has (name, {tick: (median, low, high)}); a series of
    one point is drawn across, dashed, for comparison. Raises ValueError when there is nothing to draw."""
    values = [v for _, points in series for point in points.values() for v in point]
    if not values or min(values) <= 0:
        raise ValueError("nothing to draw")
    axis = Axis(min(values), max(values), logarithmic)
    place = {tick: LEFT + (i + 0.5) * (WIDTH - LEFT - RIGHT) / len(ticks) for i, tick in enumerate(ticks)}
    out = [head(title)]
    for value in axis.ticks():
        y = axis.y(value)
        out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    bottom, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>')
    for tick, x in place.items():
        out.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{escape(str(tick))}</text>')
    out.append(f'<text x="{middle:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x_label)}</text>')
    out.append(f'<text transform="translate(18 {(TOP + bottom) / 2:.1f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    for index, (name, points) in enumerate(series):
        out.append(draw(index, points, place, axis))
        y = TOP + 14 + 22 * index
        out.append(f'<line class="series s{index}" x1="{WIDTH - RIGHT + 14}" y1="{y - 4}" x2="{WIDTH - RIGHT + 34}" y2="{y - 4}"'
                   + (' stroke-dasharray="6 4"' if len(points) == 1 else "") + "/>")
        out.append(f'<text x="{WIDTH - RIGHT + 40}" y="{y}">{escape(name)}</text>')
    return "\n".join(out) + "\n</svg>\n"


def head(title):
    light = "".join(f".s{i}{{stroke:{c}}}.d{i}{{fill:{c}}}" for i, c in enumerate(COLOURS))
    dark = "".join(f".s{i}{{stroke:{c}}}.d{i}{{fill:{c}}}" for i, c in enumerate(DARK))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">\n'
        f"<style>{STYLE}{light}\n@media(prefers-color-scheme:dark){{{dark}}}</style>\n"
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>\n'
        f'<text class="title" x="{LEFT}" y="26">{escape(title)}</text>'
    )


def draw(index, points, place, axis):
    out = []
    spots = [(place[tick], axis.y(median)) for tick, (median, _, _) in points.items()]
    if len(spots) == 1:
        y = spots[0][1]
        out.append(f'<line class="series s{index}" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke-dasharray="6 4"/>')
    else:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        out.append(f'<path class="series s{index}" d="M{path}"/>')
    for (x, y), (median, low, high) in zip(spots, points.values()):
        if high > low:
            out.append(f'<line class="s{index}" x1="{x:.1f}" y1="{axis.y(low):.1f}" x2="{x:.1f}" y2="{axis.y(high):.1f}"/>')
        out.append(f'<circle class="d{index}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{number(median)}</title></circle>')
    return "\n".join(out)


class Axis:
    """Values on the y axis: powers of ten with 2 and 5 between, or from zero."""

    def __init__(self, low, high, logarithmic):
        self.logarithmic = logarithmic
        if logarithmic:
            steps = [m * 10**e for e in range(-1, 9) for m in (1, 2, 5)]
            self.low = max((s for s in steps if s <= low), default=steps[0])
            self.high = min((s for s in steps if s >= high and s > self.low), default=steps[-1])
            self.marks = [s for s in steps if self.low <= s <= self.high]
        else:
            step = 10 ** math.floor(math.log10(high))
            step = next(step * m for m in (0.2, 0.5, 1, 2) if high / (step * m) <= 6)
            self.low, self.high = 0, step * math.ceil(high / step)
            self.marks = [step * i for i in range(int(round(self.high / step)) + 1)]

    def y(self, value):
        if self.logarithmic:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = value / self.high
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    def ticks(self):
        return self.marks


def number(value):
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == 0 else f"{value:g}"
