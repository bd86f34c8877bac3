"""How a journal is written down: one JSON line for each event, after a header line.

::

    {"greenroom_journal":1,"job":"AJ_x","room":"hall","agent":"demo","started":"2026-11-21T10:00:00.000000Z","began":7.5}
    [7.5,"Started",{}]
    [8.784,"UserStarted",{"utterance":"utterance_1","at":8.692}]

The first column is the time on the loop's clock, as exact as it was, so that a replay comes to the same decisions;
``began`` in the header is what to take off for people. A field that has its default is left out. A version's reader
takes journals of its own version only, and says so.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import msgspec

from greenroom.dialog.events import Event
from greenroom.errors import GreenroomError

__all__ = ["VERSION", "Header", "JournalBroken", "decode_event", "decode_header", "encode_event", "encode_header"]

VERSION = 1

_TYPES: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Event)}
_FIELDS = {cls: tuple(dataclasses.fields(cls)) for cls in _TYPES.values()}


class JournalBroken(GreenroomError):
    """A journal that cannot be read: the message names the file, the line and what was expected."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the log is of."""

    greenroom_journal: int = VERSION
    job: str
    room: str
    agent: str
    started: str
    """Wall-clock time, ISO 8601, UTC."""
    began: float
    """The loop's time at that moment."""


def encode_header(header: Header) -> bytes:
    return msgspec.json.encode(header) + b"\n"


def decode_header(line: bytes) -> Header:
    """Raises ``JournalBroken`` without a place; the reader adds it."""
    try:
        header = msgspec.json.decode(line, type=Header)
    except msgspec.MsgspecError as error:
        raise JournalBroken(f"the first line is no journal header: {error}") from error
    if header.greenroom_journal != VERSION:
        raise JournalBroken(f"a journal of version {header.greenroom_journal}; expected version {VERSION}")
    return header


def encode_event(event: Event, now: float) -> bytes:
    """One line. ``now``: when the dialog took it, on the loop's clock."""
    values = {
        field.name: value for field in _FIELDS[type(event)] if (value := getattr(event, field.name)) != field.default
    }
    return msgspec.json.encode((now, type(event).__name__, values)) + b"\n"


def decode_event(line: bytes) -> tuple[float, Event]:
    """Raises ``JournalBroken`` without a place; the reader adds it."""
    try:
        now, name, values = msgspec.json.decode(line, type=tuple[float, str, dict[str, Any]])
        if name not in _TYPES:
            raise JournalBroken(f"an unknown event {name!r}")
        event: Event = msgspec.convert(values, _TYPES[name])
    except msgspec.MsgspecError as error:
        raise JournalBroken(f"no event: {error}") from error
    return now, event
