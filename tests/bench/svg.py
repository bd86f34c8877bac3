"""What the pictures of the benchmark are drawn with."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

__all__ = ["FAINT", "GREEN", "INK", "MARK", "page", "text"]

GREEN, INK, FAINT, MARK = "#1f8a5b", "#1f2328", "#6b7280", "#b3261e"
FONT = "font-family='system-ui, -apple-system, Segoe UI, sans-serif'"


def page(width: int, height: int, parts: Iterable[str]) -> str:
    """A white sheet with ``parts`` on it."""
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' {FONT}>"
    return "\n".join([head, f"<rect width='{width}' height='{height}' fill='#ffffff'/>", *parts, "</svg>", ""])


def text(
    left: float, base: float, said: str, *, size: int, color: str = INK, weight: int = 400, middle: bool = False
) -> str:
    """``middle``: ``left`` is where its middle is."""
    anchor = " text-anchor='middle'" if middle else ""
    return (
        f"<text x='{left:g}' y='{base:g}' font-size='{size}' font-weight='{weight}' fill='{color}'{anchor}>"
        f"{escape(said)}</text>"
    )
