"""Whatever the client, the connection or the endpoint's answer can do, as a ``ProviderError``.

============================================  =========
what                                          retryable
============================================  =========
no connection, a timeout, a broken stream     yes
408, 409, 425, 429, 5xx                       yes
429 with ``insufficient_quota``; 501, 505     no
any other status: 400, 401, 403, 404, 422     no
an error within the stream                    as its status or type would be; else yes
an answer that is not the protocol            yes
============================================  =========

No message holds the key or a header's value, also not where the endpoint repeats them; and the client's own error is
not the cause of ours, so that no traceback shows it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from greenroom.errors import ProviderError

__all__ = ["PROVIDER", "MalformedAnswer", "provider_error", "translated"]

PROVIDER = "openai"
LONGEST = 300
"""Characters of an endpoint's own words that are repeated."""

_MASK = "***"
_KEY = re.compile(r"\b(?:sk|gsk|xai|csk)[-_][\w*.-]{6,}|(?<=[Bb]earer )\S+")
_PERMANENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_RETRYABLE_BELOW_500 = frozenset({408, 409, 425, 429})
_PERMANENT_FROM_500 = frozenset({501, 505})
_PERMANENT_TYPES = ("invalid_request", "authentication", "permission", "not_found", "insufficient_quota", "unsupported")


class MalformedAnswer(Exception):
    """What came is not the protocol. The message says what it was instead."""


@contextmanager
def translated(host: str, secrets: Iterable[str] = ()) -> Iterator[None]:
    """Raises what fails within as a ``ProviderError``. ``secrets`` are in no message."""
    try:
        yield
    except failures() as error:
        raise provider_error(error, host=host, secrets=secrets) from None


def failures() -> tuple[type[Exception], ...]:
    """What a request can raise: the client's errors, those below it that it lets through, and what text that is no JSON
    or no UTF-8 does to whoever decodes it."""
    import ssl

    import anyio
    import httpx2
    import openai

    below = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, ssl.SSLError, OSError)
    streams = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError)
    return (openai.OpenAIError, *below, *streams, MalformedAnswer, ValueError)


def provider_error(error: Exception, *, host: str, secrets: Iterable[str] = ()) -> ProviderError:
    """What it means to whoever asked."""
    import httpx2
    import openai

    retry_after: float | None = None
    if isinstance(error, openai.APIStatusError):
        words = f"HTTP {error.status_code} from {host}: {_said(error)}"
        retryable = _retryable(error.status_code, error.code)
        retry_after = _retry_after(error.response.headers)
    elif isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        cause = _below(error)
        connecting = isinstance(cause, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        words = f"{host} takes no connection in time" if connecting else f"{host} has gone silent"
        retryable = True
    elif isinstance(error, openai.APIConnectionError | httpx2.HTTPError):
        cause = _below(error)
        begun = isinstance(cause, httpx2.ReadError | httpx2.WriteError | httpx2.RemoteProtocolError)
        what = f"the connection to {host} broke" if begun else f"no connection to {host}"
        words, retryable = f"{what}: {cause}", True
    elif isinstance(error, openai.APIError) and not isinstance(error, openai.APIResponseValidationError):
        words, retryable = f"{host} failed in mid-answer: {_said(error)}", _retryable_within(error)
    elif isinstance(error, MalformedAnswer):
        words, retryable = f"{host}: {error}", True
    elif isinstance(error, OSError):
        words, retryable = f"the connection to {host} broke: {error}", True
    else:
        words, retryable = f"the answer of {host} is not the protocol ({type(error).__name__})", True
    return ProviderError(_clean(words, secrets), provider=PROVIDER, retryable=retryable, retry_after=retry_after)


def _below(error: Exception) -> BaseException:
    """What the connection did, which the client's own errors say nothing of."""
    import openai

    return (error.__cause__ or error) if isinstance(error, openai.OpenAIError) else error


def _retryable(status: int, code: str | None) -> bool:
    if code in _PERMANENT:
        return False
    return status in _RETRYABLE_BELOW_500 or (status >= 500 and status not in _PERMANENT_FROM_500)


def _retryable_within(error: Any) -> bool:
    """Of an error that came as a part of a stream: some put a status into ``code``."""
    code = str(error.code or "")
    if code.isdecimal() and len(code) == 3:
        return _retryable(int(code), None)
    return not (code in _PERMANENT or any(kind in f"{error.type} {code}" for kind in _PERMANENT_TYPES))


def _said(error: Any) -> str:
    """The endpoint's own words, or at least the name that it gives the error."""
    body = error.body
    if isinstance(body, Mapping):
        words = body.get("message") or body.get("detail") or body.get("error") or body.get("error_description")
        if words:
            code = f" ({error.code})" if error.code and str(error.code) not in str(words) else ""
            return f"{words}{code}"
    return str(error.code or error.message or type(error).__name__)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the endpoint asks to wait; ``None`` where it does not."""
    milliseconds, words = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        if words is not None and re.fullmatch(r"\s*[\d.]+\s*", words):
            return float(words)
        if words is not None:
            return max(0.0, parsedate_to_datetime(words).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        pass  # not what the header is for: as if it were not there
    return None


def _clean(words: str, secrets: Iterable[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        words = words.replace(secret, _MASK)
    words = _KEY.sub(_MASK, " ".join(words.split()))
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
