"""A vendor's refusal as a ``ProviderError``: what is wrong, whether to try again and when. Never with a key in it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from greenroom.errors import ProviderError

__all__ = ["refusal", "retry_after", "without"]

_LONGEST = 300  # characters of a vendor's own words that are quoted
_MEANING: Mapping[int, str] = {
    400: "the request is refused",
    401: "the key is refused",
    402: "the account has no credit left",
    403: "the key may not do this",
    404: "there is no such model, voice or address",
    408: "it gave up waiting",
    413: "the request is too large",
    422: "the request is refused",
    429: "too many requests",
}
_AGAIN = frozenset({408, 409, 425, 429})


def refusal(
    status: int, said: str = "", *, provider: str, secret: str = "", after: float | None = None
) -> ProviderError:
    """The error for an HTTP status, or a status of that kind inside a protocol.

    ``said``: the vendor's own words, quoted without the ``secret``. ``after``: seconds that it asks to wait.
    """
    meaning = _MEANING.get(status) or ("it fails" if status >= 500 else "it does not answer as expected")
    words = without(secret, " ".join(said.split()))[:_LONGEST]
    return ProviderError(
        f"{meaning} (status {status}{f': {words}' if words else ''})",
        provider=provider,
        retryable=status in _AGAIN or status >= 500,
        retry_after=after,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, of a ``Retry-After`` header that holds a number. The date that it may hold instead is not used."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def without(secret: str, text: str) -> str:
    """The text with the secret masked, should a vendor quote it."""
    return text.replace(secret, "***") if secret else text
