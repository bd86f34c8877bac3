"""One agent in one LiveKit room: joining, whom it talks with, what it is told, and leaving.

Only the linked participant's microphone is subscribed to: other people's audio and all video cost nothing. (LiveKit
could subscribe to everything by itself, which was measured to bring the first audio 55 ms earlier.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from livekit import rtc

from greenroom.errors import JobError
from greenroom.machine import Driver
from greenroom.redaction import redact
from greenroom.room.caller import (
    Arrived,
    CallerEvent,
    CallerWatch,
    Departed,
    Departure,
    Disconnected,
    Drop,
    End,
    EndReason,
    Link,
    Tick,
    Unlink,
)
from greenroom.room.microphone import Microphone
from greenroom.room.participants import DEPARTURES, ENDINGS, KINDS, LinkedParticipant, best_microphone
from greenroom.room.presence import AgentState, Presence
from greenroom.room.redaction import redact_client_logs
from greenroom.room.speaker import Speaker
from greenroom.room.transcripts import Transcripts

__all__ = [
    "AgentRoom",
    "Departure",
    "EndReason",
    "JoinFailed",
    "LinkedParticipant",
    "RoomEnded",
    "RoomListener",
    "RoomTimes",
    "WrongRoom",
]

CHAT = "lk.chat"
CONNECT_ATTEMPTS = 4
"""LiveKit's client tries so often by itself; each has its share of the time, so that one lost packet is not the end."""
MAX_STREAM = 1024 * 1024
"""Bytes of one incoming data stream; LiveKit's client ends longer ones with an error."""
CHAT_TIMEOUT = 10.0
"""Seconds in which a chat message must have arrived whole."""

log = structlog.get_logger(__name__)


class JoinFailed(JobError):
    """The room could not be joined: refused, unreachable, or not in time."""


class WrongRoom(JobError):
    """The token led to another room than the job's: the job's was deleted, and joining made a new one of its name."""


class RoomEnded(JobError):
    """The call ended while something waited for the participant."""

    def __init__(self, reason: EndReason) -> None:
        self.reason = reason
        super().__init__(f"the call ended: {reason}")


class RoomListener(Protocol):
    """The room's owner. Called on the event loop; must return at once."""

    def participant_linked(self, participant: LinkedParticipant, *, returned: bool) -> None:
        """Somebody to talk with is here; ``returned``: after they had been gone."""

    def participant_left(self, identity: str, how: Departure, *, grace: float) -> None:
        """The linked participant is gone; the call waits ``grace`` seconds for them. 0.0: it ends now."""

    def room_ended(self, reason: EndReason) -> None:
        """The call is over; comes once, and not for ``leave``."""

    def text_received(self, identity: str, text: str) -> None:
        """The linked participant has written on ``lk.chat``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTimes:
    """How long things in a room may take. Seconds."""

    connect: float = 10.0
    leave: float = 3.0
    lost_grace: float = 20.0
    """A participant whose connection broke may return within this time."""
    left_grace: float = 2.0
    """One who left in order, too: LiveKit's clients leave and join again to rebuild a connection."""


class AgentRoom:
    """``join``, then ``open_speaker``; ``microphone`` and ``transcripts`` are there from joining on; ``leave`` at last.

    ``participant``: the identity that the job names, empty to talk with the first person who is there.
    """

    def __init__(self, listener: RoomListener, *, participant: str = "", times: RoomTimes | None = None) -> None:
        self._listener = listener
        self._times = times or RoomTimes()
        self._loop = asyncio.get_running_loop()
        self._room = rtc.Room(self._loop)
        self._watch = CallerWatch(
            participant=participant, lost_grace=self._times.lost_grace, left_grace=self._times.left_grace
        )
        self._driver: Driver[CallerEvent, Link | Unlink | End | Drop] = Driver(
            self._watch, self._perform, clock=self._loop, tick=Tick()
        )
        self._linked: LinkedParticipant | None = None
        self._ended: EndReason | None = None
        self._changed = asyncio.Event()
        self._joined = False
        self._leaving = False
        self._connecting: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()
        self._presence: Presence | None = None
        self._transcripts: Transcripts | None = None
        self._speaker: Speaker | None = None
        self.microphone = Microphone()

    @property
    def transcripts(self) -> Transcripts:
        """Both sides' words, once joined."""
        if self._transcripts is None:
            raise RuntimeError("the room has no transcripts before join")
        return self._transcripts

    @property
    def linked(self) -> LinkedParticipant | None:
        """Whom the agent talks with; ``None`` before they come and while they are gone."""
        return self._linked

    @property
    def identity(self) -> str:
        """The agent's own."""
        return self._room.local_participant.identity

    def handle_bytes(self, topic: str, handler: Callable[[rtc.ByteStreamReader, str], None]) -> None:
        """Give byte streams on ``topic`` to ``handler`` (reader, sender's identity). Call before ``join``."""
        self._room.register_byte_stream_handler(topic, handler)

    async def join(self, url: str, token: str, *, room: str = "", sid: str = "") -> None:
        """Enter the room that ``token`` is for.

        Raises ``JoinFailed``, or ``WrongRoom`` when the room's name or sid is not the one given; the room has been left
        then. An empty name or sid is not checked.
        """
        redact_client_logs()
        self._room.register_text_stream_handler(CHAT, self._on_chat)
        self._listen()
        try:
            await self._connect(url, token)
            await self._check(room, sid)
        except BaseException:
            await self.leave()
            raise
        local = self._room.local_participant
        self._presence = Presence(local)
        self._transcripts = Transcripts(local, agent_track=lambda: self._speaker.track_sid if self._speaker else "")
        self._joined = True
        for participant in list(self._room.remote_participants.values()):
            self._on_arrived(participant)

    async def open_speaker(self, *, sample_rate: int = 24_000, ready_timeout: float = 5.0) -> Speaker:
        """Publish the agent's voice, once."""
        if self._speaker is not None:
            raise RuntimeError("the room has a speaker already")
        self._speaker = Speaker(sample_rate=sample_rate, ready_timeout=ready_timeout)
        await self._speaker.publish(self._room.local_participant)
        return self._speaker

    async def wait_for_participant(self, timeout: float) -> LinkedParticipant:
        """Whom the agent talks with, as soon as they are here.

        Raises ``TimeoutError`` when nobody comes, ``RoomEnded`` when the call ends first.
        """
        async with asyncio.timeout(timeout):
            while self._linked is None:
                if self._ended is not None:
                    raise RoomEnded(self._ended)
                self._changed.clear()
                await self._changed.wait()
        return self._linked

    def set_state(self, state: AgentState) -> None:
        """Show the agent's state to the room, once joined. Returns at once; a state that is overtaken is not shown.

        Other participants learn of it at once when the agent has a track, and up to three seconds later when not.
        """
        if self._presence is not None:
            self._presence.set(state)

    async def leave(self) -> None:
        """Go, and release everything; never raises, and takes ``RoomTimes.leave`` at most. May be called again."""
        self._leaving = True
        self._driver.close()
        for step in (self._close_parts, self._room.disconnect):
            try:
                async with asyncio.timeout(self._times.leave / 2):
                    await step()
            except TimeoutError:
                log.warning("leaving the room took too long", step=step.__name__, timeout=self._times.leave / 2)

    async def _close_parts(self) -> None:
        if self._connecting is not None:
            with suppress(rtc.ConnectError):
                await self._connecting
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await self.microphone.aclose()
        if self._presence is not None:
            await self._presence.aclose()
        if self._transcripts is not None:
            await self._transcripts.aclose()
        if self._speaker is not None:
            await self._speaker.aclose()

    async def _connect(self, url: str, token: str) -> None:
        options = rtc.RoomOptions(
            auto_subscribe=False,
            single_peer_connection=False,  # joins faster, for less CPU, than one connection for both ways
            connect_timeout=self._times.connect / CONNECT_ATTEMPTS,
            data_stream=rtc.DataStreamOptions(max_payload_byte_length=MAX_STREAM),
        )
        # A task of its own: a cancelled connect would leave a participant behind that nobody can disconnect.
        self._connecting = self._loop.create_task(self._room.connect(url, token, options), name="connect")
        try:
            async with asyncio.timeout(self._times.connect):
                await asyncio.shield(self._connecting)
        except TimeoutError as error:
            raise JoinFailed(f"not in the room after {self._times.connect:g} seconds") from error
        except rtc.ConnectError as error:
            raise JoinFailed(redact(error.message).replace(token, "***")) from None

    async def _check(self, room: str, sid: str) -> None:
        if room and self._room.name != room:
            raise WrongRoom(f"the token is for room {self._room.name!r}, the job for {room!r}")
        if not sid:
            return
        try:
            async with asyncio.timeout(self._times.connect):
                joined = await self._room.sid
        except TimeoutError as error:
            raise JoinFailed("the server did not say which room this is") from error
        if joined != sid:
            raise WrongRoom(f"room {room!r} is {joined} now; the job was for {sid}, which is gone")

    def _listen(self) -> None:
        on = self._room.on
        on("participant_connected", self._on_arrived)
        on("participant_disconnected", self._on_departed)
        on("participant_active", self._on_active)
        on("disconnected", self._on_disconnected)
        on("reconnected", self._on_reconnected)
        on("track_published", self._on_published)
        on("track_unpublished", self._on_unpublished)
        on("track_subscribed", self._on_subscribed)
        on("track_unsubscribed", self._on_unsubscribed)
        on("track_subscription_failed", self._on_subscription_failed)
        on("local_track_subscribed", self._on_heard)

    def _perform(self, command: Link | Unlink | End | Drop) -> None:
        match command:
            case Link(identity, returned):
                self._link(identity, returned=returned)
            case Unlink(identity, how, grace):
                log.info("participant gone", participant=identity, how=how, grace=grace)
                self._linked = None
                self.microphone.detach()
                if self._speaker is not None:
                    self._speaker.listener_left()
                self._listener.participant_left(identity, how, grace=grace)
            case End(reason):
                log.info("call ended", reason=reason)
                self._ended = reason
                self._changed.set()
                self._listener.room_ended(reason)
            case Drop(reason):
                log.debug("room event dropped", reason=reason)

    def _link(self, identity: str, *, returned: bool) -> None:
        participant = self._room.remote_participants[identity]
        self._linked = LinkedParticipant.of(participant)
        log.info("participant linked", participant=identity, kind=self._linked.kind, returned=returned)
        self._changed.set()
        self._subscribe(participant)
        self._listener.participant_linked(self._linked, returned=returned)

    def _subscribe(self, participant: rtc.RemoteParticipant) -> None:
        """Ask for the participant's microphone, unless it is being heard already."""
        publication = best_microphone(participant)
        if publication is None:
            return
        if isinstance(publication.track, rtc.RemoteAudioTrack):
            self.microphone.attach(publication.track)
        else:
            publication.set_subscribed(True)

    def _is_linked(self, participant: rtc.Participant) -> bool:
        return self._linked is not None and participant.identity == self._linked.identity

    def _on_arrived(self, participant: rtc.RemoteParticipant) -> None:
        if self._joined:  # join looks at who was there before
            self._driver.feed(Arrived(participant.identity, participant.kind in KINDS))

    def _on_departed(self, participant: rtc.RemoteParticipant) -> None:
        how = DEPARTURES.get(participant.disconnect_reason, Departure.LOST)
        self._driver.feed(Departed(participant.identity, how))

    def _on_active(self, participant: rtc.RemoteParticipant) -> None:
        if self._speaker is not None and self._is_linked(participant):
            self._speaker.listener_returned()

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        if not self._leaving:
            self._driver.feed(Disconnected(ENDINGS.get(reason, EndReason.CONNECTION_LOST)))

    def _on_reconnected(self) -> None:
        log.info("connection rebuilt")
        if self._presence is not None:
            self._presence.refresh()
        participant = self._room.remote_participants.get(self._linked.identity) if self._linked else None
        if participant is not None:  # what was asked for while the connection was down went nowhere
            self._subscribe(participant)

    def _on_published(self, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if self._is_linked(participant):
            self._subscribe(participant)

    def _on_unpublished(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        self.microphone.detach(publication.sid)
        if self._is_linked(participant):
            self._subscribe(participant)

    def _on_subscribed(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if self._is_linked(participant) and isinstance(track, rtc.RemoteAudioTrack):
            self.microphone.attach(track)

    def _on_unsubscribed(self, _track: rtc.Track | None, publication: rtc.RemoteTrackPublication) -> None:
        self.microphone.detach(publication.sid)

    def _on_subscription_failed(self, participant: rtc.RemoteParticipant, track_sid: str, error: str) -> None:
        log.warning("cannot hear a track", participant=participant.identity, track=track_sid, error=error)

    def _on_heard(self, _track: rtc.LocalTrack | None) -> None:
        if self._speaker is not None:
            self._speaker.subscribed()

    def _on_chat(self, reader: rtc.TextStreamReader, identity: str) -> None:
        task = self._loop.create_task(self._read_chat(reader, identity), name="read chat")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read_chat(self, reader: rtc.TextStreamReader, identity: str) -> None:
        try:
            async with asyncio.timeout(CHAT_TIMEOUT):
                text = await reader.read_all()
        except (TimeoutError, rtc.StreamError) as error:
            log.warning("a chat message did not arrive", participant=identity, error=str(error) or "timeout")
            return
        finally:
            reader.close()
        if self._linked is None or identity != self._linked.identity:
            log.debug("chat of another participant dropped", participant=identity)
        elif text.strip():
            self._listener.text_received(identity, text)
