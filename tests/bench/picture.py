"""The table as a picture: for each figure the peer's bar, greenroom's beside it, and how long it may be."""

from __future__ import annotations

from collections.abc import Iterable

from tests.bench.cells import Summary
from tests.bench.svg import FAINT, GREEN, MARK, page, text
from tests.bench.table import OURS, PEER, Compared, compare

__all__ = ["draw"]

WIDTH, MARGIN = 960, 24
LABELS, BARS, FIGURES = 330, 380, 180
HEAD, PITCH, THICK = 84, 46, 13
GREY = "#b8bec6"
LONGEST = 1.15
"""A bar that is longer than so much of the peer's is cut."""


def draw(summary: Summary) -> str:
    """An SVG of the figures that both have; the red mark is what was wanted of greenroom."""
    shown = [compared for compared in compare(summary) if compared.ratio is not None]
    height = HEAD + PITCH * len(shown) + MARGIN
    parts = [
        text(MARGIN, 34, "What a call waits for and costs: shorter is better", size=17, weight=600),
        *_legend(),
    ]
    for place, compared in enumerate(shown):
        parts += _bars(HEAD + PITCH * place, compared)
    return page(WIDTH, height, parts)


def _legend() -> Iterable[str]:
    left = MARGIN
    for color, name, width in ((GREY, PEER, 150), (GREEN, OURS, 120)):
        yield f"<rect x='{left}' y='50' width='{THICK}' height='{THICK}' rx='2' fill='{color}'/>"
        yield text(left + THICK + 6, 61, name, size=13)
        left += width
    yield f"<rect x='{left}' y='48' width='2' height='17' fill='{MARK}'/>"
    yield text(left + 8, 61, "wanted", size=13)


def _bars(top: int, compared: Compared) -> Iterable[str]:
    row, start = compared.row, MARGIN + LABELS
    ratio, theirs, ours = compared.ratio or 0.0, compared.peers_figure or 0.0, compared.figure or 0.0
    unit = BARS / LONGEST
    yield text(MARGIN, top + 20, row.label, size=13)
    for shift, share, color in ((0, 1.0, GREY), (THICK + 2, ratio, GREEN)):
        length = max(2.0, min(max(share, 0.0), LONGEST) * unit)
        yield f"<rect x='{start}' y='{top + shift}' width='{length:.1f}' height='{THICK}' rx='2' fill='{color}'/>"
    wanted = row.limit / theirs if row.limit is not None and theirs else row.ratio
    if wanted is not None:
        yield f"<rect x='{start + wanted * unit:.1f}' y='{top - 3}' width='2' height='{2 * THICK + 8}' fill='{MARK}'/>"
    right = start + BARS + 16
    yield text(right, top + 11, f"{_short(theirs)} {row.unit}", size=12, color=FAINT)
    yield text(right, top + 26, f"{_short(ours)} {row.unit}", size=12)
    yield text(right + FIGURES - 70, top + 26, f"× {ratio:.2f}", size=13, weight=600)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
