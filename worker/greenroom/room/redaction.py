"""Keeps access tokens out of logs and errors.

The server quotes a token that it refuses, and LiveKit's client logs the server's words.
"""

from __future__ import annotations

import logging
import re

__all__ = ["redact", "redact_client_logs"]

TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")


class _TokenFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if TOKEN.search(message):
            record.msg, record.args = redact(message), ()
        return True


_filter = _TokenFilter()


def redact(text: str) -> str:
    """The text with every access token replaced by "***"."""
    return TOKEN.sub("***", text)


def redact_client_logs() -> None:
    """Have LiveKit's client log no token. May be called again."""
    logging.getLogger("livekit").addFilter(_filter)
