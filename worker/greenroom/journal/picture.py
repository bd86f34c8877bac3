"""Draws the waits of a call's turns: a bar each, in the colours of its segments, on one axis of time."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from greenroom.journal.waterfall import SEGMENTS, Segment, Turn

__all__ = ["COLOURS", "draw"]

COLOURS = dict(
    zip(
        SEGMENTS,
        ("#8d99ae", "#4361ee", "#7209b7", "#f4a261", "#6a994e", "#e9c46a", "#bc6c25", "#2a9d8f", "#adb5bd", "#e76f51"),
        strict=True,
    )
)
LABEL, BAR, TOTAL = 300, 640, 80
"""Pixels: of the words, of the longest bar, of the number behind it."""
ROW, THICK, TOP, BOTTOM = 26, 16, 64, 28
LETTERS = 40
STEPS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000)
"""Milliseconds between two lines of the axis."""
MOST_LINES = 10


def draw(turns: Sequence[Turn], *, title: str) -> str:
    """An SVG document. Turns without an answer have a row with the reason in place of a bar."""
    longest = max([turn.total for turn in turns] + [1000])
    width, bottom = LABEL + BAR + TOTAL, TOP + ROW * len(turns)
    height = bottom + BOTTOM
    looks = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="12"'
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {looks} role="img">',
        f"<title>{_text(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-size="14" font-weight="600">{_text(title)}</text>',
        *_legend(turns),
        *_axis(longest, bottom),
    ]
    for row, turn in enumerate(turns):
        shapes += _row(turn, TOP + ROW * row, longest)
    return "\n".join([*shapes, "</svg>", ""])


def _legend(turns: Sequence[Turn]) -> list[str]:
    shapes: list[str] = []
    x = LABEL
    for name in SEGMENTS:
        if any(turn.length(name) for turn in turns):
            shapes.append(f'<rect x="{x}" y="34" width="10" height="10" fill="{COLOURS[name]}"/>')
            shapes.append(f'<text x="{x + 14}" y="43">{name}</text>')
            x += 28 + 7 * len(name)
    return shapes


def _axis(longest: int, bottom: int) -> list[str]:
    step = next((step for step in STEPS if longest / 1000 / step <= MOST_LINES), STEPS[-1])
    shapes: list[str] = []
    for milliseconds in range(0, longest // 1000 + 1, step):
        x = _x(milliseconds * 1000, longest)
        shapes.append(f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{bottom}" stroke="#dee2e6"/>')
        shapes.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" fill="#6c757d">{milliseconds} ms</text>')
    return shapes


def _row(turn: Turn, y: int, longest: int) -> list[str]:
    words = turn.text if len(turn.text) <= LETTERS else turn.text[: LETTERS - 1] + "…"
    base = y + THICK - 4
    shapes = [f'<text x="8" y="{base}">{_text(f"{turn.at:.1f} s  {words}")}</text>']
    if not turn.segments:
        return [*shapes, f'<text x="{LABEL}" y="{base}" fill="#6c757d">{_text(turn.outcome)}</text>']
    shapes += [_bar(segment, y, longest) for segment in turn.segments]
    end = f"{_x(turn.total, longest)}"
    return [*shapes, f'<text x="{end}" dx="6" y="{base}">{round(turn.total / 1000)} ms</text>']


def _bar(segment: Segment, y: int, longest: int) -> str:
    x, end = _x(segment.begin, longest), _x(segment.end, longest)
    return (
        f'<rect x="{x}" y="{y}" width="{round(end - x, 2)}" height="{THICK}" fill="{COLOURS[segment.name]}">'
        f"<title>{segment.name}: {segment.length / 1000:.1f} ms</title></rect>"
    )


def _x(microseconds: int, longest: int) -> float:
    return round(LABEL + BAR * microseconds / longest, 2)


def _text(text: str) -> str:
    """As XML takes it, which has no place for control characters."""
    return escape("".join(character if character.isprintable() else " " for character in text))
