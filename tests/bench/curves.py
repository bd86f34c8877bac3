"""How cost grows, as a table and as a picture: one line for each number of calls, one curve for each contender."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.cells import Cell, Statistics, Summary, summarise
from tests.bench.svg import FAINT, GREEN, MARK, page, text
from tests.bench.table import OURS, PEER

__all__ = ["BEARABLE", "GROWTH", "Level", "draw", "levels", "most", "render"]

GROWTH = "growth"
BEARABLE = 150.0
"""Milliseconds beyond its models that a turn may take, of nineteen in twenty."""
FULL = 0.9
"""Share of the machine in use from which on it is the machine that is measured."""
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Level:
    """One contender with so many calls at once. ``share``: of the machine's cores, in use by all of them together."""

    calls: int
    cpu: Statistics
    memory: Statistics
    overhead: Statistics
    cores: float
    share: float

    @property
    def bearable(self) -> bool:
        return self.overhead.p95 <= BEARABLE

    @property
    def per_core(self) -> float:
        """Calls for each core that the worker used."""
        return self.calls / self.cores if self.cores else 0.0


def levels(summary: Summary, contender: str) -> list[Level]:
    """Those at which there was an answer, the fewest calls first."""
    found = summary.get(GROWTH, {})
    numbers = sorted(int(name.partition("_")[0]) for name in found if name.endswith("_calls_overhead_ms"))
    return [level for calls in numbers if (level := _level(found, calls, contender)) is not None]


def _level(found: dict[str, dict[str, Statistics]], calls: int, contender: str) -> Level | None:
    names = ("cpu_s_per_min_each", "pss_mb_each", "overhead_ms", "cores", "machine_share")
    figures = [found.get(f"{calls}_calls_{name}", {}).get(contender) for name in names]
    cpu, memory, overhead, cores, share = figures
    if cpu is None or memory is None or overhead is None or cores is None or share is None:
        return None
    return Level(calls, cpu, memory, overhead, cores.median, share.median)


def most(found: Iterable[Level]) -> Level | None:
    """The last one before turns take too long."""
    held = list(itertools.takewhile(lambda level: level.bearable, found))
    return held[-1] if held else None


def render(cells: Sequence[Cell]) -> str:
    """Markdown: a line for each number of calls, and how many a core holds."""
    summary = summarise(cells)
    contenders = [name for name in (PEER, OURS) if levels(summary, name)]
    heads = ("processor, s a minute of each", "memory, MB each", "turn beyond its models, ms, median", "p95")
    columns = [f"{head}: {name}" for head in heads for name in contenders]
    lines = [f"| calls | {' | '.join([*columns, 'machine in use'])} |", "|---" * (len(columns) + 2) + "|"]
    by_calls = {name: {level.calls: level for level in levels(summary, name)} for name in contenders}
    for calls in sorted({calls for found in by_calls.values() for calls in found}):
        at = [by_calls[name].get(calls) for name in contenders]
        shown = [_figure(value) for values in zip(*map(_figures, at), strict=True) for value in values]
        shares = " / ".join(f"{100 * level.share:.0f} %" if level else NOTHING for level in at)
        lines.append(f"| {calls} | {' | '.join([*shown, shares])} |")
    lines += ["", *(_capacity(name, levels(summary, name)) for name in contenders)]
    return "\n".join([*lines, *_doubts(cells)])


def _figures(level: Level | None) -> tuple[float | None, ...]:
    if level is None:
        return None, None, None, None
    return level.cpu.median, level.memory.median, level.overhead.median, level.overhead.p95


def _figure(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _capacity(name: str, found: Sequence[Level]) -> str:
    best = most(found)
    if best is None:
        return f"- {name}: with no number of calls did nineteen of twenty turns take {BEARABLE:.0f} ms or less."
    bound = ""
    if best is found[-1]:
        bound = " More were not tried."
    elif found[found.index(best) + 1].share >= FULL:
        bound = " With more the machine was full: caller, media server and worker share it."
    return (
        f"- {name}: {best.calls} calls with a p95 of {best.overhead.p95:.0f} ms, for which the worker used "
        f"{best.cores:.2f} cores: **{best.per_core:.1f} calls a core**.{bound}"
    )


def _doubts(cells: Iterable[Cell]) -> Iterator[str]:
    for cell in cells:
        if cell.measure != GROWTH:
            continue
        where = f"{cell.contender} in round {cell.round}"
        missed = {name: value for name, value in cell.checks.items() if name.startswith("missed_of_") and value}
        for name, value in missed.items():
            yield f"\nMissed or answered early by {where}, {name.removeprefix('missed_of_')} calls: {value} turns"
        for name, why in cell.checks.items():
            if name.startswith("not_"):
                yield f"\n{where} did not come to {name.removeprefix('not_')} calls: {why}"
        if cell.doubtful:
            yield f"\nIn doubt: {where}: " + (cell.error or f"others used {cell.foreign_cores:g} cores meanwhile")


# --- the picture ----------------------------------------------------------------------------------------------------

PANEL, HEIGHT, MARGIN, HEAD, FOOT, GAP = 270, 190, 24, 92, 44, 46
COLORS = {PEER: "#9aa3ad", OURS: GREEN}


@dataclass(frozen=True, slots=True)
class _Panel:
    """``index``: of ``_figures``. ``mark``: a line across."""

    title: str
    index: int
    mark: float | None = None


PANELS = (
    _Panel("processor, s a minute of each call", 0),
    _Panel("memory of each call, MB", 1),
    _Panel("turn beyond its models, p95, ms", 3, mark=BEARABLE),
)


def draw(summary: Summary) -> str:
    """An SVG: what each call costs and waits for, by how many there are."""
    curves = {name: found for name in (PEER, OURS) if (found := levels(summary, name))}
    width = 2 * MARGIN + len(PANELS) * PANEL + (len(PANELS) - 1) * GAP
    height = HEAD + HEIGHT + FOOT
    parts = [text(MARGIN, 32, "Many calls at once: lower is better", size=17, weight=600)]
    for place, name in enumerate(curves):
        left = MARGIN + 150 * place
        parts.append(f"<rect x='{left}' y='45' width='13' height='13' rx='2' fill='{COLORS[name]}'/>")
        parts.append(text(left + 19, 56, name, size=13))
    for place, panel in enumerate(PANELS):
        parts += _panel(panel, MARGIN + place * (PANEL + GAP), curves)
    return page(width, height, parts)


def _panel(panel: _Panel, left: int, curves: dict[str, list[Level]]) -> Iterator[str]:
    places = {calls: n for n, calls in enumerate(sorted({level.calls for each in curves.values() for level in each}))}
    values = [_figures(level)[panel.index] or 0.0 for each in curves.values() for level in each]
    top = 1.1 * max([*values, panel.mark or 0.0, 1e-9])
    step = PANEL / max(1, len(places))

    def spot(level: Level) -> tuple[float, float]:
        value = max(0.0, _figures(level)[panel.index] or 0.0)
        return left + step * (places[level.calls] + 0.5), HEAD + HEIGHT * (1 - value / top)

    yield text(left, HEAD - 12, panel.title, size=13)
    yield _line(left, HEAD + HEIGHT, left + PANEL, HEAD + HEIGHT, FAINT)
    if panel.mark is not None:
        across = HEAD + HEIGHT * (1 - panel.mark / top)
        yield _line(left, across, left + PANEL, across, MARK)
    for calls, place in places.items():
        yield text(left + step * (place + 0.5), HEAD + HEIGHT + 18, str(calls), size=12, color=FAINT, middle=True)
    for name, found in curves.items():
        spots = [spot(level) for level in found]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        yield f"<polyline points='{points}' fill='none' stroke='{COLORS[name]}' stroke-width='2.5'/>"
        for (x, y), level in zip(spots, found, strict=True):
            yield f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{COLORS[name]}'/>"
            yield text(x, y - 8, _figure(_figures(level)[panel.index]), size=11, middle=True)


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{color}'/>"
