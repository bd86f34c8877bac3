"""A worker's log as its parent reads it: one JSON object a line, or plain text from what it started."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

__all__ = ["LogLine", "parse", "render", "severity"]

_LEVELS = {"warn": "warning", "exception": "error", "fatal": "critical"}
_STYLES = {"debug": "dim", "info": "green", "warning": "yellow", "error": "bold red", "critical": "bold red"}
_OWN_KEYS = ("event", "level", "timestamp", "logger", "exception")
MAX_VALUE = 200


@dataclass(frozen=True, slots=True)
class LogLine:
    """``event``: the short phrase, or the whole line where it was no JSON object; ``level`` is then empty."""

    event: str
    level: str = ""
    timestamp: str = ""
    logger: str = ""
    exception: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> int:
        """As numbers of the standard library's logging; plain text, which nobody has graded, is worth showing."""
        return severity(self.level) if self.level else logging.WARNING

    @property
    def failure(self) -> bool:
        """Whether it says that something went wrong."""
        return self.level in ("error", "critical")


def severity(level: str) -> int:
    """The number of a level's name; what is no level is taken for ``info``."""
    return logging.getLevelNamesMapping().get(level.upper(), logging.INFO)


def parse(line: str) -> LogLine:
    """Read one line. Never raises."""
    line = line.rstrip("\r\n")
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return LogLine(line)
    if not isinstance(entry, dict) or not isinstance(entry.get("event"), str):
        return LogLine(line)
    level = str(entry.get("level", "info")).lower()
    return LogLine(
        entry["event"],
        level=_LEVELS.get(level, level),
        timestamp=str(entry.get("timestamp", "")),
        logger=str(entry.get("logger", "")),
        exception=str(entry.get("exception") or ""),
        fields={key: value for key, value in entry.items() if key not in _OWN_KEYS},
    )


def render(line: LogLine) -> Text:
    """For a person: time of day, level, event, fields; a traceback on the lines below."""
    if not line.level:
        return Text(line.event)
    text = Text()
    text.append(f"{_time_of_day(line.timestamp)} ", style="dim")
    text.append(f"{line.level:<9}", style=_STYLES.get(line.level, ""))
    text.append(line.event, style="bold" if line.level not in ("debug", "info") else "")
    for key, value in line.fields.items():
        text.append(f"  {key}=", style="dim")
        text.append(_shorten(value))
    if line.exception:
        text.append(f"\n{line.exception.rstrip()}", style="dim")
    return text


def _time_of_day(timestamp: str) -> str:
    """``2026-11-21T04:00:01.123456Z`` as ``04:00:01``; what has another shape as it is."""
    _, mark, clock = timestamp.partition("T")
    return clock[:8] if mark else timestamp


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"
