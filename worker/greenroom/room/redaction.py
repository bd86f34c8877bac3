"""Keeps access tokens out of the media client's logs.

The server quotes a token that it refuses, and LiveKit's client logs the server's words.
"""

from __future__ import annotations

import logging

from greenroom.redaction import redact

__all__ = ["redact_client_logs"]


class _TokenFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if (safe := redact(message)) != message:
            record.msg, record.args = safe, ()
        return True


_filter = _TokenFilter()


def redact_client_logs() -> None:
    """Have LiveKit's client log no token. May be called again."""
    logging.getLogger("livekit").addFilter(_filter)
