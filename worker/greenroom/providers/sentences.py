"""Cuts a stream of text into sentences, as early as it is safe to."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator

__all__ = ["sentences"]

# A sentence ends at closing punctuation and the space or line end after it; the space proves that "3." is not "3.5".
_END = re.compile(r"""(?:[.!?…]+["'”’)\]]*(?=\s)|[。！？]+["'”’）」』]*|\n+)\s*""")  # noqa: RUF001
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|approx|No|Inc|Ltd|Co|Mt|a\.m|p\.m)\.$"
)


async def sentences(text: AsyncIterable[str], *, shortest: int = 12) -> AsyncIterator[str]:
    """Yield sentences with their trailing spaces; joined, they are the text.

    Sentences below ``shortest`` characters are joined to the next one, for models that speak very short input badly;
    the first is not held back for that. Text without words is kept with its neighbour.
    """
    pending = ""
    first = True
    async for piece in text:
        pending += piece
        start = 0
        while (end := _boundary(pending, start)) is not None:
            candidate = pending[:end]
            if any(c.isalnum() for c in candidate) and (first or len(candidate.strip()) >= shortest):
                yield candidate
                first = False
                pending, start = pending[end:], 0
            else:
                start = end
    if pending.strip():
        yield pending


def _boundary(text: str, start: int) -> int | None:
    """Where the first sentence that ends at or after ``start`` ends, its trailing spaces included."""
    for match in _END.finditer(text, start):
        if _ABBREVIATION.search(text[: match.start() + 1]):
            continue
        return match.end()
    return None
