"""A connection to a Wyoming server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from greenroom.errors import ProviderError
from greenroom_plugins.wyoming.options import NAME, place
from greenroom_plugins.wyoming.wire import Decoder, Event, Malformed, encode

__all__ = ["Link", "known"]

_READ = 65536  # bytes


class Link:
    """One connection, for one request: ``async with Link(uri, within=3.0) as link``. All fails as ``ProviderError``."""

    def __init__(self, uri: str, *, within: float) -> None:
        self._uri = uri
        self._within = within
        self._decoder = Decoder()
        self._events: deque[Event] = deque()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        where = place(self._uri)
        try:
            async with asyncio.timeout(self._within):
                self._reader, self._writer = (
                    await asyncio.open_unix_connection(where)
                    if isinstance(where, str)
                    else await asyncio.open_connection(*where)
                )
        except TimeoutError:
            raise failed(f"{self._uri} did not answer within {self._within:g} s") from None
        except OSError as error:
            raise failed(f"{self._uri} cannot be reached: {error}") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.transport.abort()  # at once: what is not read yet is not wanted

    async def send(self, kind: str, data: Mapping[str, Any] | None = None, payload: bytes = b"") -> None:
        """Hand an event over; waits while the server takes nothing."""
        if self._writer is None:
            raise failed("there is no connection")
        try:
            self._writer.write(encode(Event(kind, dict(data or {}), payload)))
            await self._writer.drain()
        except OSError as error:
            raise failed(f"the connection broke: {error}") from None

    async def receive(self) -> Event:
        """The next event; one that tells a failure is raised."""
        while not self._events:
            if self._reader is None:
                raise failed("there is no connection")
            try:
                received = await self._reader.read(_READ)
            except OSError as error:
                raise failed(f"the connection broke: {error}") from None
            if not received:
                where = "inside an event" if self._decoder.torn else "without an answer"
                raise failed(f"the server ended the connection {where}")
            try:
                self._events.extend(self._decoder.push(received))
            except Malformed as error:
                raise failed(f"the server says what is not its protocol: {error}") from None
        event = self._events.popleft()
        if event.type == "error":
            told = ": ".join(part for part in (event.text("code"), event.text("text")) if part)
            raise failed(f"the server fails: {told or 'without a reason'}")
        return event


async def known(uri: str, *, kind: str, names: str, wanted: str, within: float) -> None:
    """Ask a server what it has. Raises ``ProviderError`` when that is not what is wanted.

    ``kind``: ``asr`` or ``tts``; ``names``: where its models are, ``models`` or ``voices``; ``wanted``: the name of one
    of them, or empty.
    """
    try:
        async with asyncio.timeout(2 * within), Link(uri, within=within) as link:
            await link.send("describe")
            while (event := await link.receive()).type != "info":
                pass
    except TimeoutError:
        raise failed(f"{uri} does not say what it has") from None
    programs = [program for program in _listed(event.data.get(kind)) if program.get("installed", True)]
    if not programs:
        raise failed(f"{uri} has no {kind}", retryable=False)
    models = [model for program in programs for model in _listed(program.get(names))]
    there = sorted({str(model.get("name")) for model in models if model.get("installed", True)})
    if wanted and there and wanted not in there:
        listed = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
        raise failed(f"{uri} has no `{wanted}`; it has {listed}", retryable=False)


def failed(told: str, *, retryable: bool = True) -> ProviderError:
    return ProviderError(told, provider=NAME, retryable=retryable)


def _listed(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
