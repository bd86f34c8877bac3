"""Wyoming's events on the wire, with no I/O: bytes in, events out.

An event is a line of JSON (``type``, perhaps ``data``), then as many bytes of JSON as its ``data_length`` says, which
add to ``data``, then as many bytes as its ``payload_length`` says: the audio.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Decoder", "Event", "Malformed", "encode"]

_LONGEST_LINE = 1024 * 1024
_LARGEST = 16 * 1024 * 1024  # bytes, of data or payload


class Malformed(Exception):
    """Not an event of this protocol."""


@dataclass(frozen=True, slots=True)
class Event:
    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def text(self, key: str) -> str:
        """What ``data`` says under a key; empty where that is no text."""
        value = self.data.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """The same for a count; 0 where it is none."""
        value = self.data.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0


def encode(event: Event) -> bytes:
    header: dict[str, Any] = {"type": event.type}
    data = json.dumps(event.data, ensure_ascii=False).encode() if event.data else b""
    if data:
        header["data_length"] = len(data)
    if event.payload:
        header["payload_length"] = len(event.payload)
    return b"".join((json.dumps(header).encode(), b"\n", data, event.payload))


class Decoder:
    """``push`` returns the events that have become whole, however the stream was cut. Raises ``Malformed``."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._header: dict[str, Any] | None = None
        self._lengths = (0, 0)

    def push(self, received: bytes) -> list[Event]:
        self._pending += received
        events: list[Event] = []
        while (event := self._next()) is not None:
            events.append(event)
        return events

    @property
    def torn(self) -> bool:
        """Whether the stream would end inside an event if it ended here."""
        return bool(self._pending) or self._header is not None

    def _next(self) -> Event | None:
        if self._header is None and not self._take_header():
            return None
        header, (data_length, payload_length) = self._header or {}, self._lengths
        if len(self._pending) < data_length + payload_length:
            return None
        data = dict(_object(header.get("data") or {}))
        if data_length:
            data.update(_json(bytes(self._pending[:data_length])))
        payload = bytes(self._pending[data_length : data_length + payload_length])
        del self._pending[: data_length + payload_length]
        self._header = None
        return Event(header["type"], data, payload)

    def _take_header(self) -> bool:
        end = self._pending.find(b"\n")
        if end < 0:
            if len(self._pending) > _LONGEST_LINE:
                raise Malformed(f"a line of more than {_LONGEST_LINE} bytes")
            return False
        header = _json(bytes(self._pending[:end]))
        del self._pending[: end + 1]
        if not isinstance(header.get("type"), str):
            raise Malformed("an event without a type")
        self._lengths = (_length(header.get("data_length")), _length(header.get("payload_length")))
        self._header = header
        return True


def _json(raw: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"what is no JSON ({type(error).__name__})") from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("JSON that is no object")
    return value


def _length(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise Malformed(f"a length of {value!r}"[:80])
    return value
