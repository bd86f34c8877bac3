"""The end user: a participant whose microphone never stops, with an ear on the agent's track."""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from livekit import rtc

from tests.bench.speech import FRAME, RATE, Ear, Edge, utterance

__all__ = ["User", "now"]

T = TypeVar("T")

TICK = FRAME / RATE
LATE = 0.02
"""A tick of the microphone that comes later than this is counted: the driver itself was held up. Seconds."""
LOOK_AGAIN = 0.5

now = time.perf_counter
SILENCE = bytes(FRAME * 2)


class User:
    """One. Times are ``now()``.

    ``agents``, ``active``, ``left``: when an agent came, became active, left; ``subscribed``: when a track of audio was
    subscribed; ``edges``: when what is heard turned loud or quiet.
    """

    def __init__(self, room: str) -> None:
        self.room_name = room
        self.identity = f"user-{uuid.uuid4().hex[:6]}"
        self.agents: list[float] = []
        self.active: list[float] = []
        self.left: list[float] = []
        self.subscribed: list[float] = []
        self.edges: list[Edge] = []
        self.ear = Ear()
        self.late_ticks = 0
        self._room = rtc.Room()
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=0)  # no queue: what is pushed is sent
        self._speech = utterance()
        self._queue: deque[bytes] = deque()
        self._said: asyncio.Future[tuple[float, float]] | None = None
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        for event, times in (
            ("participant_connected", self.agents),
            ("participant_active", self.active),
            ("participant_disconnected", self.left),
        ):
            self._room.on(event, functools.partial(self._agent, times))  # type: ignore[arg-type]  # its literal type
        self._room.on("track_subscribed", self._track)

    async def connect(self, url: str, token: str) -> None:
        await self._room.connect(url, token)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self._room.local_participant.publish_track(track, options)
        self._tasks.append(asyncio.create_task(self._pump(), name="microphone"))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._room.disconnect()
        await self._source.aclose()

    async def speak(self) -> tuple[float, float]:
        """Say the utterance; when its first and its last frame were handed to the network."""
        self._said = asyncio.get_running_loop().create_future()
        self._queue = deque(self._speech)
        return await self._said

    async def ask(self) -> tuple[float, float | None]:
        """Speak; when the last frame was handed to the network, and when the reply began, if one did within 6 s."""
        first, last = await self.speak()
        return last, await self.edge(loud=True, after=first, timeout=6)

    async def answered(self) -> float | None:
        """Speak; when the reply began, if one did within 6 s."""
        _, heard = await self.ask()
        return heard

    async def edge(self, *, loud: bool, after: float, timeout: float) -> float | None:
        """When what is heard turned loud (or quiet) first, at ``after`` or later."""
        return await self.until(
            lambda: next((edge.at for edge in self.edges if edge.loud is loud and edge.at >= after), None),
            timeout=timeout,
        )

    async def until(self, check: Callable[[], T], *, timeout: float) -> T:
        """``check()`` once it is true, or as it is when the time is over."""
        end = now() + timeout
        while not (value := check()) and now() < end:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(end - now(), LOOK_AGAIN)):
                    await self._changed.wait()
        return value

    async def _pump(self) -> None:
        tick, began = now(), 0.0
        while True:
            frame = self._queue.popleft() if self._queue else None
            if frame is not None:
                began = began or now()
            await self._source.capture_frame(rtc.AudioFrame(frame or SILENCE, RATE, 1, FRAME))
            if frame is not None and not self._queue:
                if self._said is not None and not self._said.done():  # who waited for it may have gone
                    self._said.set_result((began, now()))
                began = 0.0
            tick += TICK
            self.late_ticks += now() - tick > LATE
            await asyncio.sleep(max(0.0, tick - now()))

    async def _listen(self, track: rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream.from_track(track=track, sample_rate=RATE, num_channels=1, frame_size_ms=10)
        try:
            async for event in stream:
                edge = self.ear.hear(event.frame.data, now())
                if edge is not None:
                    self.edges.append(edge)
                    self._tell()
        finally:
            await stream.aclose()

    def _agent(self, times: list[float], participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            times.append(now())
            self._tell()

    def _track(self, track: rtc.Track, _publication: object, _participant: object) -> None:
        if isinstance(track, rtc.RemoteAudioTrack):
            self.subscribed.append(now())
            self._tell()
            self._tasks.append(asyncio.create_task(self._listen(track), name="ear"))

    def _tell(self) -> None:
        self._changed.set()
        self._changed.clear()
