"""Two kinds of plots as SVG: rates with their intervals, and points or lines over two axes. Texts are escaped here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from cosygate.evaluate.aligning import Rate

_COLOURS = ("#0b6e99", "#c4570b", "#3c7d3c", "#8a4fa3", "#a8324a", "#6b6b00")
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 720, 24, 230, 70, 8  # px
_HEIGHT, _BOTTOM = 260, 40
_MOST_POINTS = 5_000  # of one line or cloud; more are thinned out
Points = Sequence[tuple[float, float]]


def colour(n: int) -> str:
    return _COLOURS[n % len(_COLOURS)]


def rates(told: Sequence[tuple[str, int, Rate]], title: str) -> str:
    """A row for each (label, colour's number, rate): a dot at its per cent, a line over its 95 % interval."""
    most = max([0.01, *(rate.value if rate.high is None else rate.high for _, _, rate in told)])
    ticks = _ticks(most * 100)
    height = _TOP + _ROW * len(told) + _BOTTOM

    def x(share: float) -> float:
        return _LEFT + share * 100 / ticks[-1] * (_WIDTH - _LEFT - _RIGHT)

    drawn = [_upright(x(tick / 100), height - _BOTTOM, f"{tick:g}") for tick in ticks]
    for n, (label, number, rate) in enumerate(told):
        y, low, high = _TOP + _ROW * (n + 0.5), rate.low, rate.high
        if low is not None and high is not None:
            ends = f'x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}"'
            drawn.append(f'<line {ends} stroke="{colour(number)}" stroke-width="3" opacity="0.4"/>')
        drawn += [
            f'<circle cx="{x(rate.value):.1f}" cy="{y}" r="5" fill="{colour(number)}"/>',
            _text(_LEFT - 10, y + 4, label, "end"),
            _text(x(rate.value if high is None else high) + 10, y + 4, f"{rate.value * 100:.1f}"),
        ]
    return _svg(height, title, drawn)


def over(series: Mapping[str, Points], title: str, across: str, *, lines: bool = False) -> str:
    """Each series as a cloud of points, or as a line through them. Both axes begin at 0."""
    series = {name: points[:: math.ceil(len(points) / _MOST_POINTS) or 1] for name, points in series.items()}
    everything = [point for points in series.values() for point in points]
    across_ticks = _ticks(max([1e-3, *(x for x, _ in everything)]))
    up_ticks = _ticks(max([1e-3, *(y for _, y in everything)]))
    left, right, bottom = 60, _WIDTH - 190, _HEIGHT - _BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point[0] / across_ticks[-1], point[1] / up_ticks[-1]
        return left + x * (right - left), bottom - y * (bottom - _TOP)

    drawn = [_upright(at((tick, 0))[0], bottom, f"{tick:g}") for tick in across_ticks]
    for tick in up_ticks:
        y = at((0, tick))[1]
        drawn.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        drawn.append(_text(left - 8, y + 4, f"{tick:g}", "end"))
    drawn.append(_text((left + right) / 2, _HEIGHT - 4, across, "middle"))
    for n, (name, points) in enumerate(series.items()):
        places = [f"{x:.1f},{y:.1f}" for x, y in map(at, points)]
        if lines:
            drawn.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour(n)}" stroke-width="2"/>')
        else:
            dots = (place.split(",") for place in places)
            drawn += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour(n)}" opacity="0.7"/>' for x, y in dots]
        drawn.append(f'<circle cx="{right + 20}" cy="{_TOP + 10 + 20 * n}" r="5" fill="{colour(n)}"/>')
        drawn.append(_text(right + 32, _TOP + 14 + 20 * n, name))
    return _svg(_HEIGHT, title, drawn)


def _ticks(most: float) -> list[float]:
    """From 0 to at least `most`, in four to ten steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(most))
    step = next(step * power / 10 for step in (1, 2, 5, 10, 20) if most <= step * power)
    return [n * step for n in range(math.ceil(most / step - 1e-9) + 1)]


def _upright(x: float, bottom: float, label: str) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" class="grid"/>'
    return line + _text(x, bottom + 16, label, "middle")


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, title: str, drawn: Sequence[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">{"".join(drawn)}</svg></figure>'
    )
