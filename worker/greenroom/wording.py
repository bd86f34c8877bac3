"""How errors name what they found, and what may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from greenroom.redaction import is_secret, redact

__all__ = ["found", "on_one_line", "suggestion"]

_LONGEST = 60


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` when one of ``known`` is close, else nothing."""
    names = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]}?" if close else ""


def found(value: Any, path: tuple[str | int, ...] = ()) -> str:
    """How an error names a value that it does not accept, without showing a secret."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "a mapping"
    kind = "the text" if isinstance(value, str) else "the number"
    if any(isinstance(part, str) and is_secret(part) for part in path):
        return "a text" if isinstance(value, str) else "a number"
    shown = redact(repr(value))
    return f"{kind} {shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + '…'}"


def on_one_line(text: str) -> str:
    """``text`` with what is not printable escaped: line ends, and what moves a terminal's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
