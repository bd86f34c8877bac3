"""LiveKit's client in one room: entering it, and entering it anew when the connection is lost for good.

LiveKit's ``rtc.Room`` is good for one connection. So there is one after the other; each is given the same listeners,
and only the present one is listened to: what an old one still says is not heard.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from livekit import rtc

from greenroom.errors import JobError
from greenroom.machine import Driver
from greenroom.redaction import redact
from greenroom.room.caller import EndReason
from greenroom.room.connection import (
    Abandon,
    AttemptFailed,
    ConnectionCommand,
    ConnectionEvent,
    ConnectionWatch,
    Disconnected,
    Drop,
    End,
    Entered,
    Interrupted,
    Lose,
    Rejoin,
    Restored,
    RoomState,
    Show,
    Tick,
)
from greenroom.room.participants import ENDINGS, KINDS
from greenroom.room.promptness import hasten

__all__ = ["Client", "ClientOwner", "JoinFailed", "RoomTimes", "WrongRoom", "delays"]

CONNECT_ATTEMPTS = 4
"""LiveKit's client tries so often by itself; each has its share of the time, so that one lost packet is not the end."""
ABANDONED = 5.0
"""Seconds for a connection that nobody needs any more to be closed."""
MEETING = 2.0
"""Seconds in which somebody comes into a room that is another than the job's, or it was made by our joining."""
SID_SETTLED = 5.0
"""Seconds after a reconnection by which a room that has another sid has said so."""

log = structlog.get_logger(__name__)


class JoinFailed(JobError):
    """The room could not be joined: refused, unreachable, or not in time."""


class WrongRoom(JobError):
    """The token led to another room than the job's: the job's was deleted, and joining made a new one of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTimes:
    """How long things in a room may take. Seconds."""

    connect: float = 10.0
    leave: float = 3.0
    lost_grace: float = 20.0
    """A participant whose connection broke may return within this time."""
    left_grace: float = 2.0
    """One who left in order, too: LiveKit's clients leave and join again to rebuild a connection."""
    rejoin: float = 60.0
    """Our own connection, once it is lost for good, is made anew for so long. 0.0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOwner:
    """Whom the client tells; called on the event loop, all but ``settle`` at once."""

    lost: Callable[[EndReason], None]
    """Nobody in the room is there any more, until the next ``changed``."""
    settle: Callable[[rtc.Room], Awaitable[None]]
    """A room was entered anew: set up there what it needs to count as entered. Cancelled when it is lost meanwhile."""
    changed: Callable[[RoomState], None]
    renamed: Callable[[], None]
    """The room's sid is another."""
    ended: Callable[[EndReason], None]


def delays(*, first: float = 0.3, last: float = 4.0) -> Iterator[float]:
    """Yield the seconds to wait before each attempt to come back: growing, and never the same for two agents."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.25)
        delay = min(delay * 1.6, last)


class Client:
    """``enter``, then ``entered``; ``leave`` at last. ``max_stream``: bytes of a text or byte stream.

    ``token``: makes one for each further attempt; without it the first is used again.
    """

    def __init__(
        self, owner: ClientOwner, *, times: RoomTimes, max_stream: int, token: Callable[[], str] | None = None
    ) -> None:
        self._owner = owner
        self._times = times
        self._max_stream = max_stream
        self._fresh = token
        self._loop = asyncio.get_running_loop()
        self.room = rtc.Room(self._loop)
        """LiveKit's own object: the present one."""
        self.sid = ""
        """Of the room, as far as it is known."""
        self._driver: Driver[ConnectionEvent, ConnectionCommand] = Driver(
            ConnectionWatch(rejoin=times.rejoin, delays=delays), self._perform, clock=self._loop, tick=Tick()
        )
        self._listeners: list[tuple[rtc.room.EventTypes, Callable[..., None]]] = [
            ("disconnected", self._on_disconnected),
            ("reconnecting", lambda: self._driver.feed(Interrupted())),
            ("reconnected", self._on_reconnected),
            ("room_updated", self._learn_sid),
        ]
        self._texts: dict[str, Callable[[rtc.TextStreamReader, str], None]] = {}
        self._bytes: dict[str, Callable[[rtc.ByteStreamReader, str], None]] = {}
        self._arrivals: list[Callable[[rtc.Room], None]] = []
        self._address = self._token = self._name = ""
        self._present: rtc.Room | None = None
        """The one that is listened to, where we are in the room."""
        self._connecting: asyncio.Task[None] | None = None
        self._rejoining: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._abandoned: set[asyncio.Task[None]] = set()

    def on(self, event: rtc.room.EventTypes, listener: Callable[..., None]) -> None:
        """Listen to an event of the room, whichever object it comes from. Call before ``enter``."""
        self._listeners.append((event, listener))

    def handle_text(self, topic: str, handler: Callable[[rtc.TextStreamReader, str], None]) -> None:
        """Give text streams on ``topic`` to ``handler`` (reader, sender's identity). Call before ``enter``."""
        self._texts[topic] = handler

    def handle_bytes(self, topic: str, handler: Callable[[rtc.ByteStreamReader, str], None]) -> None:
        """Give byte streams on ``topic`` to ``handler`` (reader, sender's identity). Call before ``enter``."""
        self._bytes[topic] = handler

    def on_client(self, callback: Callable[[rtc.Room], None]) -> None:
        """Call with LiveKit's object, at once if it is connected, and with each later one before its first event."""
        self._arrivals.append(callback)
        if self._present is not None:
            callback(self._present)

    async def enter(self, url: str, token: str, *, room: str = "", sid: str = "") -> None:
        """Connect for the first time. Raises ``JoinFailed`` and ``WrongRoom``; the caller ``leave``s then."""
        self._address, self._token, self._name = url, token, room
        # A task of its own: a cancelled connect would leave a participant behind that nobody can disconnect.
        self._connecting = self._loop.create_task(self._connect(self.room, token), name="connect")
        try:
            async with asyncio.timeout(self._times.connect):
                await asyncio.shield(self._connecting)
        except TimeoutError as error:
            raise JoinFailed(f"not in the room after {self._times.connect:g} seconds") from error
        self._check_name()
        if sid:
            await self._check_sid(sid)

    def entered(self) -> None:
        """What the room needs is set up: it counts as entered."""
        self._driver.feed(Entered())

    async def leave(self) -> None:
        """Go, or break off coming back."""
        self.hush()
        if self._rejoining is not None:
            self._rejoining.cancel()
            await asyncio.gather(self._rejoining, return_exceptions=True)
        if self._connecting is not None:
            with suppress(JoinFailed):
                await asyncio.shield(self._connecting)
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await asyncio.gather(*self._abandoned)
        await self.room.disconnect()

    def hush(self) -> None:
        """Tell the owner nothing of the connection any more, and do not come back: what happens now is our doing."""
        self._driver.close()

    # --- connecting ---------------------------------------------------------------------------------------------------

    async def _connect(self, room: rtc.Room, token: str) -> None:
        """Make ``room`` the present one, once it is connected. Raises ``JoinFailed``."""
        options = rtc.RoomOptions(
            auto_subscribe=False,
            single_peer_connection=True,  # with two, every third join takes 50 to 200 ms longer
            connect_timeout=self._times.connect / CONNECT_ATTEMPTS,
            data_stream=rtc.DataStreamOptions(max_payload_byte_length=self._max_stream),
        )
        for event, listener in self._listeners:
            room.on(event, self._guarded(room, listener))
        for topic, on_text in self._texts.items():
            room.register_text_stream_handler(topic, on_text)
        for topic, on_bytes in self._bytes.items():
            room.register_byte_stream_handler(topic, on_bytes)
        try:
            await room.connect(self._address, token, options)
        except rtc.ConnectError as error:
            raise JoinFailed(redact(error.message).replace(token, "***")) from None
        hasten(self._address)
        self.room, self._present, self.sid = room, room, ""
        self._learn_sid()
        for callback in self._arrivals:
            callback(room)

    def _guarded(self, room: rtc.Room, listener: Callable[..., None]) -> Callable[..., None]:
        """The listener, for as long as the room is the present one."""

        def hear(*happened: Any) -> None:
            if room is self._present:
                listener(*happened)

        return hear

    def _check_name(self) -> None:
        if self._name and self.room.name != self._name:
            raise WrongRoom(f"the token is for room {self.room.name!r}, the job for {self._name!r}")

    async def _check_sid(self, wanted: str) -> None:
        try:
            async with asyncio.timeout(self._times.connect):
                joined = await self.room.sid
        except TimeoutError as error:
            raise JoinFailed("the server did not say which room this is") from error
        if joined == wanted:
            return
        # A dispatch and a client's join at the same moment make the server create the room twice, and forget the one
        # that the job names. Where somebody is, nobody's room was made anew by us.
        if not await self._met():
            raise WrongRoom(f"room {self.room.name!r} is {joined} now; the job was for {wanted}, which is gone")
        log.info("room is another than the job's", room=self.room.name, sid=joined, wanted=wanted)

    async def _met(self) -> bool:
        """Whether somebody whom an agent may serve is in the room, or comes within a moment."""
        come = asyncio.Event()

        def look(*_: object) -> None:
            if any(person.kind in KINDS for person in self.room.remote_participants.values()):
                come.set()

        self.room.on("participant_connected", look)
        try:
            look()
            async with asyncio.timeout(MEETING):
                await come.wait()
        except TimeoutError:
            return False
        finally:
            self.room.off("participant_connected", look)
        return True

    def _learn_sid(self, *, after: float = 0.0) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = self._loop.create_task(self._ask_sid(self.room, after=after), name="learn the room's sid")

    async def _ask_sid(self, room: rtc.Room, *, after: float) -> None:
        """A server that was restarted gives the room another sid, and says so seconds after it was entered."""
        await asyncio.sleep(after)
        sid = await room.sid
        if sid != self.sid:
            self.sid = sid
            self._owner.renamed()

    def _on_reconnected(self) -> None:
        """LiveKit's object shows the sid of before until it is told, if it is; nobody is to rely on that."""
        self.sid = ""
        hasten(self._address)
        self._driver.feed(Restored())
        self._learn_sid(after=SID_SETTLED)

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        self._driver.feed(Disconnected(ENDINGS.get(reason, EndReason.CONNECTION_LOST)))

    # --- coming back --------------------------------------------------------------------------------------------------

    def _perform(self, command: ConnectionCommand) -> None:
        match command:
            case Show(state):
                self._owner.changed(state)
            case Lose(reason):
                log.warning("room lost", reason=reason, rejoin=self._times.rejoin)
                self._present = None
                self._owner.lost(reason)
            case Rejoin(attempt):
                self._rejoining = self._loop.create_task(self._rejoin(attempt), name="rejoin")
            case Abandon():
                self._abandon()
            case End(reason):
                if self._rejoining is not None:
                    self._rejoining.cancel()
                self._owner.ended(reason)
            case Drop(reason):
                log.debug("connection event dropped", reason=reason)

    async def _rejoin(self, attempt: int) -> None:
        try:
            await self._come_back()
        except (JoinFailed, WrongRoom) as error:
            log.info("not back in the room yet", attempt=attempt, error=str(error))
            self._rejoining = None
            self._abandon()
            self._driver.feed(AttemptFailed())
            return
        log.info("back in the room", attempt=attempt)
        self._driver.feed(Entered())

    async def _come_back(self) -> None:
        token = self._fresh() if self._fresh is not None else self._token
        # Attempts follow each other strictly: of two at once the later would put the earlier out of the room.
        self._connecting = self._loop.create_task(self._connect(rtc.Room(self._loop), token), name="connect")
        await asyncio.shield(self._connecting)
        self._check_name()
        await self._owner.settle(self.room)

    def _abandon(self) -> None:
        self._present = None
        if self._rejoining is not None:
            self._rejoining.cancel()
        task = self._loop.create_task(_disconnect(self.room), name="abandon a connection")
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)


async def _disconnect(room: rtc.Room) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(ABANDONED):
            await room.disconnect()
