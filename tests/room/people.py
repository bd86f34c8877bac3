"""The other end of a room: people with LiveKit's own client, who speak, listen and read."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
from livekit import api, rtc

from greenroom.audio import Pcm
from greenroom.embedded.mediaserver import MediaServer
from greenroom.room.caller import Departure, EndReason
from greenroom.room.participants import LinkedParticipant
from greenroom.room.room import AgentRoom, PreconnectReport, PreconnectRules, RoomState, RoomTimes

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds until a test gives up waiting."""
LOUD = 1000
"""Samples above it are sound; what codecs make of silence stays below."""


class Record(list[T], Generic[T]):
    """A list that can be waited on."""

    def __init__(self) -> None:
        super().__init__()
        self._added = asyncio.Event()

    def add(self, item: T) -> None:
        self.append(item)
        self._added.set()

    def touch(self) -> None:
        """An item has changed."""
        self._added.set()

    async def until(self, fulfilled: Callable[[list[T]], bool], *, timeout: float = PATIENCE) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not (self and fulfilled(self)):
                    self._added.clear()
                    await self._added.wait()
        except TimeoutError:
            raise AssertionError(f"did not come; the last of {len(self)}: {self[-5:]}") from None


@dataclass
class Listener:
    """A ``RoomListener`` that writes down what it is told."""

    told: Record[tuple[object, ...]] = field(default_factory=Record)
    states: Record[tuple[str, str]] = field(default_factory=Record)
    """Of the connection, with the room's sid; "ended" at last."""

    def participant_linked(self, participant: LinkedParticipant, *, returned: bool) -> None:
        self.told.add(("linked", participant.identity, returned))

    def participant_left(self, identity: str, how: Departure, *, grace: float) -> None:
        self.told.add(("left", identity, how, grace))

    def room_lost(self, reason: EndReason) -> None:
        self.told.add(("lost", reason))

    def room_changed(self, state: RoomState, *, sid: str) -> None:
        self.states.add((state, sid))

    def room_ended(self, reason: EndReason) -> None:
        self.told.add(("ended", reason))
        self.states.add(("ended", ""))

    def text_received(self, identity: str, text: str) -> None:
        self.told.add(("text", identity, text))

    async def until(self, *what: object, timeout: float = PATIENCE) -> None:
        await self.told.until(lambda told: any(each[: len(what)] == what for each in told), timeout=timeout)


@dataclass
class Stream:
    """A text stream as it arrived."""

    sender: str
    attributes: dict[str, str]
    pieces: list[str]
    closed: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def tone(seconds: float, *, sample_rate: int = 48_000, pitch: float = 300.0, amplitude: float = 12_000) -> Pcm:
    """A square wave: its first and last sample are as loud as the others."""
    phase = np.arange(round(seconds * sample_rate)) * pitch / sample_rate
    return np.asarray(np.where(phase % 1 < 0.5, amplitude, -amplitude), dtype=np.int16)


class Person:
    """A participant with a microphone."""

    def __init__(self, room: rtc.Room) -> None:
        self.room = room
        self.streams: Record[Stream] = Record()
        self.attributes: Record[dict[str, str]] = Record()
        self.heard: Record[tuple[float, Pcm]] = Record()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sources: dict[str, rtc.AudioSource] = {}
        self._tracks: dict[str, rtc.LocalAudioTrack] = {}
        self._listening: list[rtc.AudioStream] = []

    async def publish(self, name: str = "mic", *, promise: bool = False) -> str:
        """Switch a microphone on; returns its track's sid. ``promise``: a recording of what was said before comes."""
        source = self._sources[name] = rtc.AudioSource(48_000, 1, queue_size_ms=100)
        track = self._tracks[name] = rtc.LocalAudioTrack.create_audio_track(name, source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, preconnect_buffer=promise)
        return (await self.room.local_participant.publish_track(track, options)).sid

    async def unpublish(self, name: str = "mic") -> None:
        await self.room.local_participant.unpublish_track(self._tracks.pop(name).sid)
        await self._sources.pop(name).aclose()

    def mute(self, muted: bool, name: str = "mic") -> None:
        if muted:
            self._tracks[name].mute()
        else:
            self._tracks[name].unmute()

    async def say(self, pcm: Pcm, name: str = "mic") -> float:
        """Speak at real pace; returns when the first sample went out, on the loop's clock."""
        source, loop = self._sources[name], asyncio.get_running_loop()
        began = loop.time() + source.queued_duration
        for start in range(0, len(pcm), 480):
            piece = pcm[start : start + 480]
            await source.capture_frame(rtc.AudioFrame(piece.tobytes(), 48_000, 1, len(piece)))
        return began

    def listen(self, *, sample_rate: int = 24_000) -> None:
        """Keep what every subscribed track sounds like, in pieces of 10 ms with their arrival times.

        A track that somebody publishes anew takes the place of the one before: its sound may come by the same line, and
        who listens to both then hears it twice.
        """
        ears: dict[tuple[str, str], asyncio.Task[None]] = {}

        def subscribed(
            track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
        ) -> None:
            if isinstance(track, rtc.RemoteAudioTrack):
                name = (participant.identity, publication.name)
                if (before := ears.get(name)) is not None:
                    before.cancel()
                ears[name] = self._start(self._hear(track, sample_rate))

        self.room.on("track_subscribed", subscribed)
        for participant in self.room.remote_participants.values():
            for publication in participant.track_publications.values():
                if publication.track is not None:
                    subscribed(publication.track, publication, participant)

    def read(self, topic: str) -> None:
        """Keep the text streams on ``topic``."""

        def opened(reader: rtc.TextStreamReader, identity: str) -> None:
            self._start(self._read(reader, identity))

        self.room.register_text_stream_handler(topic, opened)

    def watch(self, identity: str) -> None:
        """Keep the changes of a participant's attributes, and those that they come with."""

        def came(participant: rtc.Participant) -> None:
            if participant.identity == identity and participant.attributes:
                self.attributes.add(dict(participant.attributes))

        def changed(changes: dict[str, str], participant: rtc.Participant) -> None:
            if participant.identity == identity:
                self.attributes.add(dict(changes))

        self.room.on("participant_connected", came)
        self.room.on("participant_attributes_changed", changed)

    async def leave(self) -> None:
        for stream in self._listening:
            await stream.aclose()
        await self.room.disconnect()
        for source in self._sources.values():
            await source.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def hear_until(self, when: float) -> None:
        """Listen until the loop's clock says ``when``."""
        await self.heard.until(lambda heard: heard[-1][0] > when)

    async def hear_sound(self, seconds: float) -> None:
        """Listen until so much sound has come."""
        await self.heard.until(lambda _: self.sound() > seconds)

    def loud(self) -> list[float]:
        """When sound arrived: the times of the pieces of 10 ms that held any."""
        return [at for at, pcm in self.heard if np.abs(pcm).max() > LOUD]

    def sound(self) -> float:
        """Seconds of sound heard."""
        return sum(int(np.count_nonzero(np.abs(pcm) > LOUD)) for _, pcm in self.heard) / 24_000

    def pauses(self, *, longer_than: float) -> int:
        """How often a tone fell silent between its first sound and its last; codecs fill short ones up to a third."""
        sounds = np.flatnonzero(np.abs(np.concatenate([pcm for _, pcm in self.heard])) > 4 * LOUD)
        return int(np.count_nonzero(np.diff(sounds) > longer_than * 24_000))

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hear(self, track: rtc.RemoteAudioTrack, sample_rate: int) -> None:
        loop = asyncio.get_running_loop()
        stream = rtc.AudioStream.from_track(track=track, sample_rate=sample_rate, num_channels=1, frame_size_ms=10)
        self._listening.append(stream)
        async for event in stream:
            self.heard.add((loop.time(), np.frombuffer(event.frame.data, dtype=np.int16)))

    async def _read(self, reader: rtc.TextStreamReader, identity: str) -> None:
        stream = Stream(identity, dict(reader.info.attributes or {}), [])
        self.streams.add(stream)
        with suppress(rtc.StreamError):  # we left while it was open
            async for piece in reader:
                stream.pieces.append(piece)
                self.streams.touch()
            stream.attributes.update(reader.info.attributes or {})
            stream.closed = True
            self.streams.touch()


class House:
    """A room of a server that nobody else uses, and everybody in it: who is still there at the end is seen out."""

    def __init__(self, server: MediaServer) -> None:
        self.server = server
        self.room = f"room-{uuid.uuid4().hex[:8]}"
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.api = await self._stack.enter_async_context(
            api.LiveKitAPI(self.server.url, self.server.api_key, self.server.api_secret)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def token(self, identity: str, *, agent: bool = False, room: str = "") -> str:
        token = api.AccessToken(self.server.api_key, self.server.api_secret).with_identity(identity)
        if agent:
            token = token.with_kind("agent")
        grants = api.VideoGrants(
            room_join=True, room=room or self.room, agent=agent, can_update_own_metadata=True, can_publish_data=True
        )
        return token.with_grants(grants).to_jwt()

    async def enter(self, identity: str, *, microphone: bool = True) -> Person:
        """A person joins. The server announces one without a track to the others up to three seconds later."""
        room = rtc.Room()
        await room.connect(self.server.url, self.token(identity), rtc.RoomOptions(single_peer_connection=False))
        person = Person(room)
        self._stack.push_async_callback(person.leave)
        if microphone:
            await person.publish()
        return person

    async def agent(
        self,
        listener: Listener | None = None,
        *,
        participant: str = "",
        times: RoomTimes | None = None,
        sid: str = "",
        preconnect: PreconnectRules | None = None,
        reported: Callable[[PreconnectReport], None] = lambda _: None,
        token: Callable[[], str] | None = None,
    ) -> AgentRoom:
        """The agent joins."""
        agent = AgentRoom(
            listener or Listener(),
            participant=participant,
            times=times,
            preconnect=preconnect,
            reported=reported,
            token=token,
        )
        self._stack.push_async_callback(agent.leave)
        await agent.join(self.server.url, self.token("agent", agent=True), room=self.room, sid=sid)
        return agent

    async def present(self) -> set[str]:
        """The identities that the server counts as there."""
        answer = await self.api.room.list_participants(api.ListParticipantsRequest(room=self.room))
        return {each.identity for each in answer.participants}

    async def sid(self) -> str:
        """The room's sid, as the server knows it."""
        rooms = await self.api.room.list_rooms(api.ListRoomsRequest(names=[self.room]))
        return rooms.rooms[0].sid


@asynccontextmanager
async def running(*works: Coroutine[object, object, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks for the length of a block."""
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
