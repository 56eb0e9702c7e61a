"""The pictures of docs/images, drawn from the results files: scores, and for docs/performance.md ratios.

python -m benchmarks.pictures
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks import few_rows, performance, record, results_table
from benchmarks.intervals import mean
from benchmarks.results_table import FULL, PROBE, Line, lines

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_PLACES = ((6, 4), (6, -10), (-6, 4), (-6, -10), (0, 9), (0, -15), (14, 14), (-14, -20), (14, -22), (-14, 16))


def score_against_parameters(cells: dict[str, Any]) -> Path | None:
    """A labelled point for each method; the probe, which has no parameters, and full as lines."""
    done = [(line, line.average) for line in lines(cells)]
    if not any(line.method == FULL for line, _ in done):
        return None
    figure, (axes,) = _canvas()
    axes.set_xscale("log")
    for line, value in done:
        if line.method in (PROBE, FULL):
            axes.axhline(value, color="0.6", linewidth=0.8, linestyle="--")
            axes.annotate(line.method, (0.01, value), (0, 3), xycoords=("axes fraction", "data"),
                          textcoords="offset points", fontsize=8, color="0.4")  # fmt: skip
    plain = [(line, value) for line, value in done if line.parameters and line.method != FULL]
    axes.scatter([line.parameters for line, _ in plain], [value for _, value in plain], s=22, color="C0")
    _label(figure, axes, plain)
    axes.set_xlabel("trained parameters, without the head")
    axes.set_ylabel("average score x 100")
    axes.set_title(", ".join(results_table.whole_tasks(cells)), fontsize=8)
    return _saved(figure, "score_against_parameters")


def score_against_rows(cells: dict[str, Any]) -> Path | None:
    """A panel for each task, in it a curve for each method over the numbers of training rows."""
    tasks = [task for task in few_rows.TASKS if any(key.startswith(f"{task}, ") for key in cells)]
    if not tasks:
        return None
    figure, panels = _canvas(len(tasks))
    for task, axes in zip(tasks, panels, strict=True):
        _draw_rows(axes, cells, task)
    panels[0].legend(fontsize=8, frameon=False)
    return _saved(figure, "score_against_rows")


def _draw_rows(axes: Any, cells: dict[str, Any], task: str) -> None:
    """The curves of one task, with the standard errors of the seeds; those without an adapter are dashed."""
    sizes = list(few_rows.ROWS)
    found = {rows: few_rows.results(cells, task, rows) for rows in sizes}
    for name in (*few_rows.METHODS, FULL):
        means = {rows: mean(list(own[name].values())) for rows, own in found.items() if own[name]}
        values, errors = [one.value for one in means.values()], [one.error for one in means.values()]
        style = "--" if name in (PROBE, "logistic_cv") else "-"
        axes.errorbar(list(means), values, yerr=errors, marker="o", linestyle=style, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{rows:,}" for rows in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training rows")
    axes.set_ylabel(f"score x 100 ({task})")


def ratios(name: str) -> Path | None:
    """Bars of what a benchmark of speed found, by label and series, with a line at 1."""
    bars = performance.bars_of(name, record.read(name))
    if not bars:
        return None
    series = list(dict.fromkeys(one for own in bars.values() for one in own))
    figure, (axes,) = _canvas()
    figure.set_size_inches(8, 1.0 + 0.16 * len(bars) * (len(series) + 1))
    for number, one in enumerate(series):
        places = [
            index + (number + 1) / (len(series) + 1) for index, own in enumerate(bars.values()) if one in own
        ]
        axes.barh(places, [own[one] for own in bars.values() if one in own], 1 / (len(series) + 1), label=one)
    axes.axvline(1, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks([index + 0.5 for index in range(len(bars))], list(bars), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(performance.AXES.get(name, "throughput of A / B"))
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False)
    return _saved(figure, name)


def _canvas(panels: int = 1) -> tuple[Any, list[Any]]:
    """A figure with some axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 if panels == 1 else 4.5 * panels, 4.2), layout="constrained")
    found = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, found


def _label(figure: Any, axes: Any, points: list[tuple[Line, float]]) -> None:
    """Each name at the first place beside its point that is free of other names and points."""
    figure.draw_without_rendering()
    centres = [axes.transData.transform((line.parameters, value)) for line, value in points]
    taken = [_box(x, y, 8, 8) for x, y in centres]
    scale = figure.dpi / 72
    for (line, value), (x, y) in zip(points, centres, strict=True):
        width, height = 5.0 * len(line.method) * scale, 9 * scale
        boxes = []
        for dx, dy in _PLACES:
            left = x + dx * scale + (width / 2 if dx > 0 else -width / 2 if dx < 0 else 0)
            boxes.append(_box(left, y + dy * scale + height / 2, width, height))
        free = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = free.index(min(free))
        taken.append(boxes[best])
        dx, dy = _PLACES[best]
        side = "left" if dx > 0 else "right" if dx < 0 else "center"
        axes.annotate(line.method, (line.parameters, value), (dx, dy), textcoords="offset points",
                      fontsize=8, ha=side)  # fmt: skip


def _box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def _saved(figure: Any, name: str) -> Path:
    """As SVG, the same bytes for the same numbers."""
    import matplotlib as mpl

    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.svg"
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(path, metadata={"Date": None})
    return path


def main() -> int:
    drawn = (
        score_against_parameters(record.read(results_table.NAME)),
        score_against_rows(record.read(few_rows.NAME)),
        *map(ratios, performance.NAMES),
    )
    for path in drawn:
        if path is not None:
            print(path.relative_to(IMAGES.parents[1]), f"{path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
