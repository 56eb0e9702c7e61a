"""Small pictures as inline SVG: lines, points, bars and a matrix. Colours are the page's, by class.

Knows numbers and names; every name goes through `shown`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from training.report.shown import shown

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 380, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 24, 42
_CELL, _LONGEST_NAME = 27, 24


@dataclass(frozen=True)
class Series:
    """Points that belong together; `style` is a class of the page: a, b, c (colours)."""

    name: str
    points: Points
    style: str = "a"


@dataclass
class Frame:
    """A pair of axes with ranges; parts are added, then `svg` closes it."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    title: str
    x_label: str
    y_label: str
    parts: list[Markup] = field(default_factory=list)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def add(self, text: str, **values: object) -> None:
        """A piece of SVG; numbers with a digit after the point, names shown safely."""
        piece = Markup(text)  # noqa: S704 - a piece of this file; what is filled in is shown safely
        self.parts.append(piece.format(**{name: _plain(value) for name, value in values.items()}))

    def line(self, points: Points, style: str) -> None:
        places = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.add('<polyline class="line {style}" points="{places}"/>', style=style, places=places)

    def dot(self, x: float, y: float, style: str, radius: float = 2.5) -> None:
        self.add(
            '<circle class="dot {style}" cx="{x}" cy="{y}" r="{r}"/>',
            style=style,
            x=self.x(x),
            y=self.y(y),
            r=radius,
        )

    def bar(self, low: float, high: float, top: float, style: str) -> None:
        left, right = self.x(low), self.x(high)
        base, edge = self.y(self.y_range[0]), self.y(top)
        self.add(
            '<rect class="bar {style}" x="{x}" y="{y}" width="{w}" height="{h}"/>',
            style=style,
            x=left,
            y=edge,
            w=max(0.5, right - left - 0.7),
            h=max(0.0, base - edge),
        )

    def upright(self, x: float, text: str) -> None:
        """A dashed line from top to bottom, with its name."""
        self.add(
            '<line class="mark" x1="{x}" x2="{x}" y1="{top}" y2="{base}"/>'
            '<text x="{x}" y="{above}" class="end">{t}</text>',
            x=self.x(x),
            top=_TOP,
            base=_HEIGHT - _BOTTOM,
            above=_TOP - 4,
            t=text,
        )

    def legend(self, series: Sequence["Series"], left: float) -> None:
        """Names of several series from `left` on; one alone is named by the axis."""
        for place, one in enumerate(series if len(series) > 1 else ()):
            y = _TOP + 6 + 14 * place
            self.add(
                '<rect class="key {style}" x="{x}" y="{y}" width="10" height="3"/>'
                '<text x="{name_x}" y="{name_y}">{name}</text>',
                style=one.style,
                x=left,
                y=y,
                name_x=left + 14,
                name_y=y + 5,
                name=one.name,
            )

    def svg(self) -> Markup:
        """The whole picture."""
        axes = Frame(self.x_range, self.y_range, self.title, self.x_label, self.y_label)
        for value in ticks(*self.y_range):
            axes.add(
                '<line class="grid" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>'
                '<text class="end" x="{tx}" y="{ty}">{t}</text>',
                a=_LEFT,
                b=_WIDTH - _RIGHT,
                y=self.y(value),
                tx=_LEFT - 5,
                ty=self.y(value) + 4,
                t=_tick(value),
            )
        for value in ticks(*self.x_range):
            axes.add(
                '<text class="mid" x="{x}" y="{y}">{t}</text>',
                x=self.x(value),
                y=_HEIGHT - _BOTTOM + 15,
                t=_tick(value),
            )
        axes.add(
            '<text class="mid" x="{x}" y="{y}">{xl}</text><text x="4" y="12">{yl}</text>',
            x=(_LEFT + _WIDTH - _RIGHT) / 2,
            y=_HEIGHT - 8,
            xl=self.x_label,
            yl=self.y_label,
        )
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
            _WIDTH, _HEIGHT, shown(self.title), Markup("").join(axes.parts), Markup("").join(self.parts)
        )


def lines(title: str, series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Lines with a dot at each point; points that are no numbers are left out."""
    sound = [
        Series(one.name, [p for p in one.points if all(map(math.isfinite, p))], one.style) for one in series
    ]
    places = [point for one in sound for point in one.points]
    frame = Frame(span([x for x, _ in places]), span([y for _, y in places]), title, x_label, y_label)
    for one in sound:
        frame.line(one.points, one.style)
        for x, y in one.points if len(one.points) <= 60 else []:
            frame.dot(x, y, one.style, 1.8)
    frame.legend(sound, _WIDTH - _RIGHT - 84)
    return frame.svg()


def scatter(title: str, points: Points, x_label: str, y_label: str) -> Markup:
    """Points, and the line on which both values are equal."""
    low, high = span([value for point in points for value in point])
    frame = Frame((low, high), (low, high), title, x_label, y_label)
    frame.line([(low, low), (high, high)], "faint")
    for x, y in points:
        frame.dot(x, y, "a", 2)
    return frame.svg()


def shares(title: str, series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Lines within the unit square, beside its diagonal."""
    frame = Frame((0, 1), (0, 1), title, x_label, y_label)
    frame.line([(0, 0), (1, 1)], "faint")
    for one in series:
        frame.line(one.points, one.style)
        for x, y in one.points:
            frame.dot(x, y, one.style)
    frame.legend(series, _LEFT + 6)
    return frame.svg()


def histogram(title: str, values: Sequence[int], limit: int, x_label: str, y_label: str) -> Markup:
    """Whole numbers in up to 40 bars; what is over the limit in another colour, the limit marked."""
    low, high = min(values), max(values) + 1
    width = max(1, math.ceil((high - low) / 40))
    edges = np.arange(low, high + width, width)
    counts, _ = np.histogram(values, edges)
    frame = Frame(
        (float(edges[0]), float(edges[-1])), span([0.0, float(counts.max())]), title, x_label, y_label
    )
    for left, right, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        frame.bar(left, right, count, "b" if left > limit else "a")
    if low < limit < high:
        frame.upright(limit, f"limit {limit:,}")
    return frame.svg()


def matrix(title: str, names: Sequence[str], counts: npt.NDArray[np.int64]) -> Markup:
    """Counts [K, K], rows wanted and columns told; a cell is as strong as its share of its row."""
    side, size = 24 + 6 * min(_LONGEST_NAME, max(map(len, names))), len(names)
    parts = []
    for row, name in enumerate(names):
        y = side + row * _CELL
        parts.append(_name(name, side - 6, y + 18, "end", ""))
        parts.append(_name(name, 0, 0, "", f"translate({side + row * _CELL + 17} {side - 6}) rotate(-60)"))
        total = max(1, int(counts[row].sum()))
        for column in np.flatnonzero(counts[row]).tolist():
            parts.append(
                _cell(side + column * _CELL, y, int(counts[row, column]), total, right=row == column)
            )
    extent = side + size * _CELL
    box = Markup('<rect class="frame" x="{0}" y="{0}" width="{1}" height="{1}"/>').format(side, size * _CELL)
    head = Markup(
        '<svg class="matrix" width="{0}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">'
    ).format(extent + 90, extent + 4, shown(title))
    return head + box + Markup("").join(parts) + Markup("</svg>")


def _name(name: str, x: float, y: float, style: str, turn: str) -> Markup:
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    return Markup('<text class="{}" x="{}" y="{}" transform="{}">{}<title>{}</title></text>').format(
        style, x, y, turn, shown(short), shown(name)
    )


def _cell(x: float, y: float, count: int, total: int, *, right: bool) -> Markup:
    share = count / total
    style = f"{'right' if right else 'wrong'}{' strong' if share > 0.55 else ''}"
    return Markup(
        '<rect class="{0}" x="{1}" y="{2}" width="{3}" height="{3}" fill-opacity="{4:.2f}"/>'
        '<text class="mid {0}" x="{5}" y="{6}">{7}</text>'
    ).format(style, x + 0.5, y + 0.5, _CELL - 1, 0.12 + 0.88 * share, x + _CELL / 2, y + 18, count)


def span(values: Sequence[float]) -> tuple[float, float]:
    """A range with all values in it and some room; never empty."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) * 0.06 or max(abs(high) * 0.1, 0.5)
    return (low - room if low < 0 or low - room > 0 else 0.0), high + room


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 10) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _plain(value: object) -> object:
    return (
        f"{value:.1f}" if isinstance(value, float) else shown(value) if not isinstance(value, int) else value
    )
