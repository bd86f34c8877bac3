"""Which words are secrets, and how a text loses them. For logs and for the errors that quote what a user wrote."""

from __future__ import annotations

import re

__all__ = ["MASK", "hide", "is_secret", "redact"]

MASK = "***"
SHORTEST = 4
"""A hidden value below this many characters would mask ordinary words all over a log."""

_SECRET_KEY = re.compile(
    r"(?:token|secrets?|passw(?:or)?ds?|passphrases?|authorization|api_?keys?|private_?keys?|cookies?|credentials?)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    # A JSON web token: its header is a JSON object, which in base64 begins with eyJ.
    r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"
    r"|(?<=bearer )[^\s,;'\"]+"
    r"|(?<=basic )[A-Za-z0-9+/=]{8,}"
    # The password of an address: scheme://user:password@host.
    r"|(?<=://)[^\s/@'\"]+(?=@)",
    re.IGNORECASE,
)
_hidden: set[str] = set()
_hidden_pattern: re.Pattern[str] | None = None


def hide(value: str) -> None:
    """Mask ``value`` wherever it occurs from now on, in this process. Values under four characters are not taken."""
    global _hidden_pattern
    if len(value) < SHORTEST or value in _hidden:
        return
    _hidden.add(value)
    # The longest first: of two secrets that begin alike, the longer one must not leave its tail.
    _hidden_pattern = re.compile("|".join(re.escape(one) for one in sorted(_hidden, key=len, reverse=True)))


def is_secret(key: str) -> bool:
    """Whether what stands under a key of this name is never to be shown."""
    return _SECRET_KEY.search(key.replace("-", "_")) is not None


def redact(text: str) -> str:
    """``text`` with each hidden value, token, bearer credential and address password masked."""
    if _hidden_pattern is not None:
        text = _hidden_pattern.sub(MASK, text)
    return _SECRET_TEXT.sub(MASK, text)
