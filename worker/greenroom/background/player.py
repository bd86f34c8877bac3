"""What users call to have something heard behind the agent's voice. The names and meanings are LiveKit's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Literal, Protocol

import structlog

from greenroom.background.config import AudioConfig, Playable, choices, choose
from greenroom.background.envelope import Samples
from greenroom.background.mixer import Ducking, Mixer, Part
from greenroom.background.sounds import Told, open_sound, prepare
from greenroom.dialog.events import AgentState
from greenroom.room.room import AgentRoom
from greenroom.room.soundtrack import SAMPLE_RATE, Soundtrack
from greenroom.session.hooks import AgentStateChangedEvent
from greenroom.session.session import AgentSession

if TYPE_CHECKING:
    from livekit import rtc

    from greenroom.room.underlay import Bed

__all__ = ["BackgroundAudioPlayer", "Ground", "PlayHandle", "Stage"]

log = structlog.get_logger(__name__)


class Ground(Protocol):
    """Where the mix is played."""

    @property
    def queued(self) -> float:
        """Seconds of the mix that were read and have not left."""
        ...

    def changed(self) -> None:
        """The mix is to sound otherwise from now on: what has not left is read again."""
        ...

    async def aclose(self) -> None:
        """Silence."""
        ...


class Stage(Protocol):
    """A room with grounds: ``AgentRoom``, and what takes its place in tests."""

    async def open_soundtrack(self, bed: Bed, *, options: rtc.TrackPublishOptions | None = None) -> Ground: ...

    def mix(self, bed: Bed, *, sample_rate: int) -> Ground: ...

    def before_leaving(self, closing: Callable[[], Awaitable[None]]) -> None: ...


class PlayHandle:
    """One sound that ``play`` began. Awaiting it, or ``wait_for_playout``, waits until its last sample has left."""

    def __init__(self) -> None:
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._error: Exception | None = None
        self._part: Part | None = None
        self._changed: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<PlayHandle {'done' if self.done() else 'playing'}>"

    def done(self) -> bool:
        """Whether it is over: played to its end, stopped, or failed."""
        return self._done.done()

    def stop(self, *, fade: float | None = None) -> None:
        """Fall silent within ``fade`` seconds, by default its configuration's ``fade_out``; without a click either way.

        It is done when it is silent. Of no effect the second time.
        """
        if self._part is not None:
            self._part.stop(fade=fade)
            self._changed()

    @property
    def volume(self) -> float:
        """What it is, or is on its way to. It may be set, and then gets there in 50 ms."""
        return self._part.volume if self._part is not None else 0.0

    @volume.setter
    def volume(self, volume: float) -> None:
        self.fade(volume, seconds=0.0)

    def fade(self, volume: float, *, seconds: float) -> None:
        """Be as loud as that so many seconds later."""
        AudioConfig("", volume=volume)  # refuses what is no volume
        if self._part is not None:
            self._part.turn(volume, seconds=max(seconds, 0.05))
            self._changed()

    def exception(self) -> Exception | None:
        """What made it end early: a file that cannot be decoded, or what the frames raised."""
        return self._error

    async def wait_for_playout(self) -> None:
        """Returns when it is over."""
        await asyncio.shield(self._done)

    def __await__(self) -> Generator[Any, None, PlayHandle]:
        yield from self.wait_for_playout().__await__()
        return self

    # --- for the player -----------------------------------------------------------------------------------------------

    def begin(self, part: Part, changed: Callable[[], None]) -> None:
        """Its part is in the mix."""
        self._part, self._changed = part, changed

    def fail(self, error: Exception) -> None:
        """Its sound ends here."""
        self._error = error

    def finish(self) -> None:
        """It is over."""
        self._part = None
        if not self._done.done():
            self._done.set_result(None)


class BackgroundAudioPlayer:
    """Plays sounds behind the agent's voice: at once, as many as there are.

    ``ambient_sound``: on a loop, from ``start`` on. ``thinking_sound``: while the agent is in the state ``thinking``,
    on a loop; of several, one is chosen each time. ``ducking``: how far all of it goes down while the agent speaks.
    ``track``: ``"own"`` publishes a second track; ``"mixed"`` plays it on the agent's own, for clients and telephones
    that hear only one.
    """

    def __init__(
        self,
        *,
        ambient_sound: Playable | None = None,
        thinking_sound: Playable | None = None,
        ducking: Ducking | None = None,
        track: Literal["own", "mixed"] = "own",
    ) -> None:
        self._ambient = choices(ambient_sound)
        self._thinking = choices(thinking_sound)
        self._mixed = track == "mixed"
        self._mixer = Mixer(SAMPLE_RATE, ducking=ducking)
        self._handles: dict[Part, PlayHandle] = {}
        self._musing: PlayHandle | None = None
        self._ground: Ground | None = None
        self._session: AgentSession | None = None
        self._reaping: asyncio.TimerHandle | None = None
        self._closed = False

    def load(self) -> None:
        """Make, or decode, what plays by itself, so that it begins at once. Blocks; ``start`` does it in a thread.

        Raises ``ValueError`` for a file that is not there, or cannot be decoded.
        """
        for config in (*self._ambient, *self._thinking):
            prepare(config.source, sample_rate=SAMPLE_RATE)

    async def start(
        self,
        *,
        room: rtc.Room | Stage,
        agent_session: AgentSession | None = None,
        track_publish_options: rtc.TrackPublishOptions | None = None,
    ) -> None:
        """Begin, in the job's room (``get_job_context().room``): also in those that are entered anew, and until the
        room is left. Without ``agent_session`` there is no thinking sound, and nothing is ducked.

        Raises ``ValueError`` as ``load``; ``JoinFailed`` when the server does not take the track, and ``RuntimeError``
        when it is started twice, or there is no voice to be mixed with.
        """
        if self._ground is not None or self._closed:
            raise RuntimeError("the background was started before; expected a new BackgroundAudioPlayer")
        await asyncio.to_thread(self.load)
        bed = _Bed(self._mixer, self._read)
        stage = _stage(room)
        if self._mixed:
            self._ground = stage.mix(bed, sample_rate=SAMPLE_RATE)
        else:
            self._ground = await stage.open_soundtrack(bed, options=track_publish_options)
        stage.before_leaving(self.aclose)
        if agent_session is not None:
            self._session = agent_session
            agent_session.on("agent_state_changed", self._agent_state_changed)
            self._follow(agent_session.agent_state)
        if self._ambient:
            self._begin(self._ambient, loop=True)

    def play(self, audio: Playable, *, loop: bool = False) -> PlayHandle:
        """Play something, once or until it is stopped. Of several one is chosen; where none is, the handle is done.

        Raises ``RuntimeError`` before ``start``; ``ValueError`` for a file that is not there, and for frames that are
        to be looped. What goes wrong later is logged and ends the sound (``PlayHandle.exception``).
        """
        return self._begin(choices(audio), loop=loop, strict=True)

    async def aclose(self) -> None:
        """Silence all of it, and take the track out of the room. It cannot be started again; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._session is not None:
            self._session.off("agent_state_changed", self._agent_state_changed)
        if self._reaping is not None:
            self._reaping.cancel()
        if self._ground is not None:
            await self._ground.aclose()
        parts = self._mixer.clear()
        for part in parts:
            self._finish(part)
        await asyncio.gather(*(part.sound.wait_closed() for part in parts))

    # --- sounds -------------------------------------------------------------------------------------------------------

    def _begin(self, configs: tuple[AudioConfig, ...], *, loop: bool, strict: bool = False) -> PlayHandle:
        if self._ground is None or self._closed:
            raise RuntimeError("the background is not started; expected play() between start() and aclose()")
        handle, config = PlayHandle(), choose(configs)
        if config is None:
            handle.finish()
            return handle
        looped = loop and (strict or not isinstance(config.source, AsyncIterable))
        told = Told(ready=self._changed, failed=handle.fail)
        sound = open_sound(config.source, sample_rate=SAMPLE_RATE, loop=looped, told=told)
        part = Part(
            sound,
            sample_rate=SAMPLE_RATE,
            volume=config.volume,
            fade_in=config.fade_in,
            fade_out=config.fade_out,
        )
        handle.begin(part, self._changed)
        self._handles[part] = handle
        self._mixer.add(part)
        self._changed()
        return handle

    def _changed(self) -> None:
        """The mix is another from now on."""
        if self._ground is not None and not self._closed:
            self._ground.changed()
            self._reap_soon()

    def _finish(self, part: Part) -> None:
        handle = self._handles.pop(part, None)
        if handle is not None:
            handle.finish()

    # --- the agent ----------------------------------------------------------------------------------------------------

    def _agent_state_changed(self, event: AgentStateChangedEvent) -> None:
        self._follow(event.new_state)

    def _follow(self, state: AgentState) -> None:
        if self._ground is None:
            return
        if self._mixer.duck(state is AgentState.SPEAKING):
            self._changed()
        if state is not AgentState.THINKING:
            if self._musing is not None:
                self._musing.stop()
                self._musing = None
        elif self._thinking and self._musing is None:
            self._musing = self._begin(self._thinking, loop=True)

    # --- the mix ------------------------------------------------------------------------------------------------------

    def _read(self, samples: int) -> Samples:
        mixed = self._mixer.read(samples)
        self._reap_soon()
        return mixed

    def _reap_soon(self) -> None:
        if self._mixer.next_end is not None and self._reaping is None:
            self._reaping = asyncio.get_running_loop().call_later(0.0, self._reap)

    def _reap(self) -> None:
        """Finish what has been heard to its end, and look again when the next will have been."""
        self._reaping = None
        if self._ground is None:
            return
        left = self._mixer.position - round(self._ground.queued * SAMPLE_RATE)
        for part in self._mixer.reap(left):
            self._finish(part)
        if (end := self._mixer.next_end) is not None:
            seconds = max((end - left) / SAMPLE_RATE, 0.001)
            self._reaping = asyncio.get_running_loop().call_later(seconds, self._reap)


class _Bed:
    """The mixer, as a track plays it."""

    def __init__(self, mixer: Mixer, read: Callable[[int], Samples]) -> None:
        self._mixer = mixer
        self.read = read

    @property
    def playing(self) -> bool:
        return self._mixer.playing

    def rewind(self, samples: int) -> None:
        self._mixer.rewind(samples)


class _OtherRoom:
    """A room that is not an agent's of greenroom: it has no voice of ours, and is not entered anew."""

    def __init__(self, room: rtc.Room) -> None:
        self._room = room

    async def open_soundtrack(self, bed: Bed, *, options: rtc.TrackPublishOptions | None = None) -> Ground:
        soundtrack = Soundtrack(bed, options=options)
        try:
            await soundtrack.publish(self._room.local_participant)
        except BaseException:
            await soundtrack.aclose(unpublish=False)
            raise
        return soundtrack

    def mix(self, bed: Bed, *, sample_rate: int) -> Ground:
        raise RuntimeError("the agent has no voice in this room; expected track='own', or the job's room")

    def before_leaving(self, closing: Callable[[], Awaitable[None]]) -> None:
        """Whoever started the player closes it."""


def _stage(room: rtc.Room | Stage) -> Stage:
    from livekit import rtc

    if isinstance(room, rtc.Room):
        return AgentRoom.of(room) or _OtherRoom(room)
    return room
