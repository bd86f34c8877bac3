"""One agent in one LiveKit room: joining, whom it talks with, what it is told, and leaving.

Only the linked participant's microphone is subscribed to: other people's audio and all video cost nothing. (LiveKit
could subscribe to everything by itself, which was measured to bring the first audio 55 ms earlier.)

A connection that is lost is made anew (``room.client``). What the call is made of outlives it: microphone, speaker,
presence and transcripts stand still while we are away, and go on with the room that is there then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast
from weakref import WeakKeyDictionary

import structlog
from livekit import rtc
from livekit.rtc.participant import PublishTrackError

from greenroom.machine import Driver
from greenroom.room.caller import (
    Arrived,
    Away,
    Back,
    CallerEvent,
    CallerWatch,
    Departed,
    Departure,
    Disconnected,
    Drop,
    End,
    EndReason,
    Hurry,
    Link,
    Tick,
    Unlink,
)
from greenroom.room.chat import MAX_CHAT, Chat
from greenroom.room.chat import TOPIC as CHAT
from greenroom.room.client import Client, ClientOwner, JoinFailed, RoomTimes, WrongRoom
from greenroom.room.connection import RoomState
from greenroom.room.hearing import Hearing
from greenroom.room.listener import RoomEnded, RoomListener
from greenroom.room.microphone import Microphone
from greenroom.room.participants import DEPARTURES, KINDS, LinkedParticipant
from greenroom.room.preconnect.intake import TOPIC, Intake, PreconnectRules
from greenroom.room.preconnect.lead import PreconnectReport
from greenroom.room.presence import AgentState, Presence
from greenroom.room.redaction import redact_client_logs
from greenroom.room.soundtrack import Beneath, Soundtrack, republish
from greenroom.room.speaker import Speaker
from greenroom.room.transcripts import Transcripts
from greenroom.room.underlay import Bed

__all__ = [
    "AgentRoom",
    "Departure",
    "EndReason",
    "JoinFailed",
    "LinkedParticipant",
    "PreconnectReport",
    "PreconnectRules",
    "RoomEnded",
    "RoomListener",
    "RoomState",
    "RoomTimes",
    "WrongRoom",
]

WAY = 0.5
"""Seconds from the agent's track to a listener's ear: the network, and the buffer that evens it out. Without them 20 to
340 ms of the last words were lost with the room; 0.2 were enough on an idle machine, and not on a busy one."""
PUBLISH_TIMEOUT = 10.0
"""Seconds to publish the agent's voice; a connection that breaks meanwhile gives no answer."""

log = structlog.get_logger(__name__)

_agents: WeakKeyDictionary[rtc.Room, AgentRoom] = WeakKeyDictionary()


class AgentRoom:
    """``join``, then ``open_speaker``; ``microphone`` and ``transcripts`` are there from joining on; ``leave`` at last.

    ``participant``: the identity that the job names, empty to talk with the first person who is there. ``sample_rate``:
    Hz, at which the microphone is listened to. ``preconnect``: what is taken of what they said before; what became of
    it ``reported`` is told. ``token``: makes a fresh one for each attempt to come back; without it ``join``'s is used.
    """

    def __init__(
        self,
        listener: RoomListener,
        *,
        participant: str = "",
        times: RoomTimes | None = None,
        sample_rate: int = 16_000,
        preconnect: PreconnectRules | None = None,
        reported: Callable[[PreconnectReport], None] = lambda _: None,
        token: Callable[[], str] | None = None,
    ) -> None:
        self._listener = listener
        self._times = times or RoomTimes()
        self._loop = asyncio.get_running_loop()
        self._watch = CallerWatch(
            participant=participant, lost_grace=self._times.lost_grace, left_grace=self._times.left_grace
        )
        self._driver: Driver[CallerEvent, Link | Unlink | End | Drop] = Driver(
            self._watch, self._perform, clock=self._loop, tick=Tick()
        )
        self._linked: LinkedParticipant | None = None
        self._ended: EndReason | None = None
        self._news = asyncio.Event()
        self._inside = False
        self._losses = 0
        self._publishing: asyncio.Timeout | None = None
        self._presence: Presence | None = None
        self._transcripts: Transcripts | None = None
        self._speaker: Speaker | None = None
        self._soundtracks: list[Soundtrack] = []
        self._leaving: list[Callable[[], Awaitable[None]]] = []
        self.microphone = Microphone(sample_rate=sample_rate)
        self._chat = Chat(self._text_received)
        self._intake: Intake | None = None
        rules = preconnect or PreconnectRules()
        owner = ClientOwner(
            lost=self._lost, settle=self._settle, changed=self._changed, renamed=self._renamed, ended=self._out
        )
        largest = max(MAX_CHAT, rules.max_bytes if rules.enabled else 0)
        self._client = Client(owner, times=self._times, max_stream=largest, token=token)
        self._client.handle_text(CHAT, self._chat.opened)
        if rules.enabled:
            self._intake = Intake(rules, sample_rate=sample_rate, reported=reported)
            self.handle_bytes(TOPIC, self._intake.opened)
        self._client.on_client(lambda room: _agents.update({room: self}))
        self._hearing = Hearing(self._client, self.microphone, intake=self._intake)
        self._client.on("participant_connected", self._on_arrived)
        self._client.on("participant_disconnected", self._on_departed)
        self._client.on("participant_active", self._on_active)
        self._client.on("local_track_subscribed", self._on_heard)

    @staticmethod
    def of(room: rtc.Room) -> AgentRoom | None:
        """The agent whose room that is, or was."""
        return _agents.get(room)

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
    def client(self) -> rtc.Room:
        """LiveKit's own object: another one after the room had to be entered anew."""
        return self._client.room

    @property
    def identity(self) -> str:
        """The agent's own."""
        return self.client.local_participant.identity

    def hurry(self, left_grace: float) -> None:
        """Wait no longer than so many seconds for a caller who has left in order, from now on."""
        self._driver.feed(Hurry(left_grace))

    def on_client(self, callback: Callable[[rtc.Room], None]) -> None:
        """Call with LiveKit's own object, at once if it is connected, and with each later one before its first event:
        what is registered on one is not on the next."""
        self._client.on_client(callback)

    def handle_bytes(self, topic: str, handler: Callable[[rtc.ByteStreamReader, str], None]) -> None:
        """Give byte streams on ``topic`` to ``handler`` (reader, sender's identity). Call before ``join``."""
        self._client.handle_bytes(topic, handler)

    async def join(self, url: str, token: str, *, room: str = "", sid: str = "") -> None:
        """Enter the room that ``token`` is for.

        Raises ``JoinFailed``, or ``WrongRoom`` when the room's name or sid is not the one given; the room has been left
        then. An empty name or sid is not checked. Raises ``RoomEnded`` when we are put out again at once.
        """
        redact_client_logs()
        try:
            await self._client.enter(url, token, room=room, sid=sid)
        except BaseException:
            await self.leave()
            raise
        self._client.entered()
        if self._ended is not None:
            raise RoomEnded(self._ended)

    async def open_speaker(self, *, sample_rate: int = 24_000, ready_timeout: float = 5.0) -> Speaker:
        """Publish the agent's voice, once; while we are away it waits.

        Raises ``JoinFailed`` when the server does not take it, ``RoomEnded`` when the call ends first.
        """
        speaker = self.make_speaker(sample_rate=sample_rate, ready_timeout=ready_timeout)
        await self.publish_speaker(speaker)
        return speaker

    def make_speaker(self, *, sample_rate: int = 24_000, ready_timeout: float = 5.0) -> Speaker:
        """The agent's voice, for ``publish_speaker``: until then whoever speaks with it waits."""
        if self._speaker is not None:
            raise RuntimeError("the room has a speaker already")
        self._speaker = Speaker(sample_rate=sample_rate, ready_timeout=ready_timeout)
        return self._speaker

    async def publish_speaker(self, speaker: Speaker) -> None:
        """As ``open_speaker``."""
        while True:
            await self._until(lambda: self._inside or bool(speaker.track_sid))
            if speaker.track_sid:  # coming back has published it
                return
            losses = self._losses
            try:
                await self._publish(speaker, self.client)
            except JoinFailed:
                if losses == self._losses:
                    raise

    async def open_soundtrack(self, bed: Bed, *, options: rtc.TrackPublishOptions | None = None) -> Soundtrack:
        """Publish a track of its own for a bed, also in each room that is entered anew. It is closed with the room.

        Raises ``JoinFailed`` when the server does not take it, ``RoomEnded`` when the call ends first.
        """
        await self._until(lambda: self._inside)
        soundtrack = Soundtrack(bed, options=options)
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                await soundtrack.publish(self.client.local_participant)
        except BaseException as error:
            await soundtrack.aclose(unpublish=False)
            if isinstance(error, PublishTrackError | TimeoutError):
                raise JoinFailed("the server did not take the background's track") from error
            raise
        self._soundtracks.append(soundtrack)
        return soundtrack

    def mix(self, bed: Bed, *, sample_rate: int) -> Beneath:
        """Play a bed beneath the agent's voice, on the voice's track; ``sample_rate`` is the bed's, in Hz.

        Raises ``RuntimeError`` where the agent has no voice, or one of another rate.
        """
        if self._speaker is None or self._speaker.sample_rate != sample_rate:
            raise RuntimeError(f"the agent has no voice of {sample_rate} Hz to be mixed with")
        return Beneath(bed, self._speaker.underlay, sample_rate=sample_rate)

    def before_leaving(self, closing: Callable[[], Awaitable[None]]) -> None:
        """Have that done when the room is left: it belongs to the room."""
        self._leaving.append(closing)

    async def wait_for_participant(self, timeout: float) -> LinkedParticipant:
        """Whom the agent talks with, as soon as they are here.

        Raises ``TimeoutError`` when nobody comes, ``RoomEnded`` when the call ends first.
        """
        async with asyncio.timeout(timeout):
            await self._until(lambda: self._linked is not None)
        return cast("LinkedParticipant", self._linked)

    def set_state(self, state: AgentState) -> None:
        """Show the agent's state to the room, once joined. Returns at once; a state that is overtaken is not shown.

        Other participants learn of it at once when the agent has a track, and up to three seconds later when not.
        """
        if self._presence is not None:
            self._presence.set(state)

    async def heard(self) -> None:
        """Until what the agent said last has arrived where somebody listens: leaving would cut it off."""
        if self._speaker is not None and self._linked is not None and self._ended is None:
            await asyncio.sleep(self._speaker.last_sound + WAY - self._loop.time())

    async def leave(self) -> None:
        """Go, and release everything; never raises, and takes ``RoomTimes.leave`` at most. May be called again."""
        self._driver.close()
        self._client.hush()
        for step in (self._close_parts, self._client.leave):
            try:
                async with asyncio.timeout(self._times.leave / 2):
                    await step()
            except TimeoutError:
                log.warning("leaving the room took too long", step=step.__name__, timeout=self._times.leave / 2)

    async def _close_parts(self) -> None:
        for soundtrack in self._soundtracks:
            await soundtrack.aclose(unpublish=False)
        for closing in self._leaving:
            await closing()
        for part in (self._chat, self._intake, self.microphone, self._presence, self._transcripts, self._speaker):
            if part is not None:
                await part.aclose()

    async def _until(self, fulfilled: Callable[[], bool]) -> None:
        """Raises ``RoomEnded`` when the call ends first."""
        while not fulfilled():
            if self._ended is not None:
                raise RoomEnded(self._ended)
            self._news.clear()
            await self._news.wait()

    async def _publish(self, speaker: Speaker, room: rtc.Room) -> None:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT) as self._publishing:
                await speaker.publish(room.local_participant)
        except TimeoutError as error:
            raise JoinFailed("the server did not take the agent's voice in time") from error
        except PublishTrackError as error:
            raise JoinFailed(f"the server did not take the agent's voice: {error.message}") from None
        finally:
            self._publishing = None

    # --- the connection -----------------------------------------------------------------------------------------------

    def _lost(self, reason: EndReason) -> None:
        self._go_away()
        if self._publishing is not None and not self._publishing.expired():
            self._publishing.reschedule(self._loop.time())
        self._listener.room_lost(reason)
        if self._linked is not None:
            self._driver.feed(Departed(self._linked.identity, Departure.LOST))

    async def _settle(self, room: rtc.Room) -> None:
        if self._speaker is not None:
            await self._publish(self._speaker, room)
        await republish(self._soundtracks, room.local_participant)

    def _changed(self, state: RoomState) -> None:
        if state != "connected":
            self._go_away()
            self._listener.room_changed(state, sid=self._client.sid)
            return
        self._come_back(self.client.local_participant)
        self._listener.room_changed(state, sid=self._client.sid)
        for participant in list(self.client.remote_participants.values()):
            self._on_arrived(participant)
        if self._linked is not None:
            self.transcripts.reader_returned()
        self._driver.feed(Back())

    def _renamed(self) -> None:
        if self._inside:
            self._listener.room_changed("connected", sid=self._client.sid)

    def _out(self, reason: EndReason) -> None:
        self._inside = False
        self._driver.feed(Disconnected(reason))

    def _go_away(self) -> None:
        """Nobody can be heard or told anything."""
        if not self._inside:
            return
        self._inside = False
        self._losses += 1
        self._driver.feed(Away())
        for part in (self._presence, self._transcripts):
            if part is not None:
                part.away()
        if self._speaker is not None:
            self._speaker.listener_left()

    def _come_back(self, local: rtc.LocalParticipant) -> None:
        """What stands still goes on; what was asked for while the connection was down went nowhere."""
        self._inside = True
        self._news.set()
        if self._presence is None or self._transcripts is None:
            self._presence = Presence(local)
            self._transcripts = Transcripts(local, agent_track=lambda: self._speaker.track_sid if self._speaker else "")
            return
        self._presence.back(local)
        self._transcripts.back(local)
        if self._linked is not None:
            self._hearing.ask()
            if self._speaker is not None:
                self._speaker.listener_returned()

    # --- who is there, and what they say ------------------------------------------------------------------------------

    def _perform(self, command: Link | Unlink | End | Drop) -> None:
        match command:
            case Link(identity, returned):
                self._link(identity, returned=returned)
            case Unlink(identity, how, grace):
                log.info("participant gone", participant=identity, how=how, grace=grace)
                self._linked = None
                self._hearing.unfollow()
                if self._transcripts is not None:
                    self._transcripts.reader_left()
                if self._speaker is not None:
                    self._speaker.listener_left()
                self._listener.participant_left(identity, how, grace=grace)
            case End(reason):
                log.info("call ended", reason=reason)
                self._ended = reason
                self._news.set()
                self._listener.room_ended(reason)
            case Drop(reason):
                log.debug("room event dropped", reason=reason)

    def _link(self, identity: str, *, returned: bool) -> None:
        participant = self.client.remote_participants[identity]
        self._linked = LinkedParticipant.of(participant)
        log.info("participant linked", participant=identity, kind=self._linked.kind, returned=returned)
        self._news.set()
        if self._speaker is not None:
            self._speaker.listener_expected()
        self._hearing.follow(identity)
        self._listener.participant_linked(self._linked, returned=returned)

    def _is_linked(self, participant: rtc.Participant) -> bool:
        return self._linked is not None and participant.identity == self._linked.identity

    def _on_arrived(self, participant: rtc.RemoteParticipant) -> None:
        if self._inside:  # when we are, those who are there are looked at
            self._driver.feed(Arrived(participant.identity, participant.kind in KINDS))

    def _on_departed(self, participant: rtc.RemoteParticipant) -> None:
        how = DEPARTURES.get(participant.disconnect_reason, Departure.LOST)
        self._driver.feed(Departed(participant.identity, how))

    def _on_active(self, participant: rtc.RemoteParticipant) -> None:
        if not self._is_linked(participant):
            return
        self.transcripts.reader_returned()
        if self._speaker is not None:
            self._speaker.listener_returned()

    def _on_heard(self, track: rtc.LocalTrack | None) -> None:
        if self._speaker is not None and not any(each.plays(track) for each in self._soundtracks):
            self._speaker.subscribed()

    def _text_received(self, identity: str, text: str) -> None:
        if self._linked is None or identity != self._linked.identity:
            log.debug("chat of another participant dropped", participant=identity)
        elif text.strip():
            self._listener.text_received(identity, text)
