"""Which stream is the user's recording, and how long the live audio waits for it. Pure.

- A recording is expected of a track whose publication promises one, and of no other: for those nothing waits. It is
  waited for ``timeout`` seconds from when the track is asked for, and from each piece that arrives; but never more than
  ``max_wait`` in all.
- For another track of the same caller it is waited ``AGAIN`` at most. The agent is there by then, so that what comes
  comes at once; and clients that rebuild their connection promise again what they do not send. For a track that was
  heard before nothing is waited for.
- It belongs to the track that it names, or to its sender's where it names none. Its sender must be the caller. One that
  names another track is kept aside for ``timeout``, since the news of that track may be slower, and then refused.
- Streams that come before it is known who the caller is are kept aside too, ``MOST_HELD`` of them.
- The first is taken, and a second copy refused; but where the first turned out to hold nothing, the next is tried,
  ``MOST_TRIED`` in all.
- What has arrived when the time is over is used.
- When the live audio goes ahead without it, a recording may still come, and is used, as long as no voice was heard
  live, and for ``LATEST``. Afterwards it would be the answer to another question.

The states and what they take are in ``TABLE``. What has no row is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias

__all__ = [
    "TABLE",
    "AudioDecoded",
    "BufferWatch",
    "CallerGone",
    "CallerLinked",
    "Deliver",
    "Drop",
    "Finish",
    "Hold",
    "PieceArrived",
    "Refuse",
    "Release",
    "State",
    "StreamEnded",
    "StreamOpened",
    "Take",
    "Tick",
    "TrackExpected",
    "TrackGone",
    "VoiceHeard",
    "WatchCommand",
    "WatchEvent",
]

AGAIN: Final = 1.0
"""For a recording of a caller of whom something was heard already. Seconds."""
FINISHING: Final = 0.5
"""For what has arrived to be decoded to its end. Seconds."""
MOST_HELD: Final = 4
MOST_TRIED: Final = 3
LATEST: Final = 10.0
"""After the live audio went ahead. Seconds."""

COPY = "a second copy"
OTHERS = "from another participant"
ELSEWHERE = "names a track that is not the caller's"
MANY = "too many at once"
OVER = "the call's track is gone"
HEARD = "came after what was heard live"
LATE = "came too late"


@dataclass(frozen=True, slots=True)
class CallerLinked:
    identity: str


@dataclass(frozen=True, slots=True)
class CallerGone:
    """The caller left; what is theirs goes with them."""


@dataclass(frozen=True, slots=True)
class TrackExpected:
    """The caller's microphone is asked for. ``promised``: its publication says that a recording comes."""

    track: str
    promised: bool


@dataclass(frozen=True, slots=True)
class TrackGone:
    track: str


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """``track``: empty where the stream names none."""

    stream: int
    sender: str
    track: str


@dataclass(frozen=True, slots=True)
class PieceArrived:
    """Bytes of a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class AudioDecoded:
    """Some of a stream has become audio."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream that was taken is over, and what it brought is decoded. ``reason``: what went wrong, if anything."""

    stream: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VoiceHeard:
    """The live audio that was let go ahead has a voice in it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has come."""


WatchEvent: TypeAlias = (
    CallerLinked
    | CallerGone
    | TrackExpected
    | TrackGone
    | StreamOpened
    | PieceArrived
    | AudioDecoded
    | StreamEnded
    | VoiceHeard
    | Tick
)


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep what arrives aside, undecoded."""

    stream: int


@dataclass(frozen=True, slots=True)
class Take:
    """This is the recording: decode it."""

    stream: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close the stream and forget what it brought."""

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Read no more of it, and decode what there is to its end."""

    stream: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand the recording over. ``partial``: not all of it came. ``late``: the live audio did not wait for it."""

    stream: int
    partial: bool
    late: bool


@dataclass(frozen=True, slots=True)
class Release:
    """The live audio goes ahead without a recording. ``missed``: one was promised, and none came."""

    reason: str
    missed: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """The event changes nothing."""

    reason: str


WatchCommand: TypeAlias = Hold | Take | Refuse | Finish | Deliver | Release | Drop


class State(Enum):
    ABSENT = "absent"
    WAITING = "waiting"
    ARRIVING = "arriving"
    FINISHING = "finishing"
    OPEN = "open"
    DONE = "done"


_ANYWHERE: Final[Mapping[type[WatchEvent], tuple[State, ...]]] = {
    CallerLinked: (State.ABSENT,),
    CallerGone: (State.ABSENT,),
    TrackExpected: (State.WAITING, State.ARRIVING, State.OPEN),
}
TABLE: Final[Mapping[State, Mapping[type[WatchEvent], tuple[State, ...]]]] = MappingProxyType(
    {
        State.ABSENT: {
            **_ANYWHERE,
            StreamOpened: (State.ABSENT,),
            Tick: (State.ABSENT,),
        },
        State.WAITING: {
            **_ANYWHERE,
            TrackGone: (State.ABSENT, State.WAITING),
            StreamOpened: (State.ARRIVING, State.WAITING),
            Tick: (State.OPEN, State.WAITING),
        },
        State.ARRIVING: {
            **_ANYWHERE,
            TrackGone: (State.ABSENT, State.ARRIVING),
            StreamOpened: (State.ARRIVING,),
            PieceArrived: (State.ARRIVING,),
            AudioDecoded: (State.ARRIVING,),
            StreamEnded: (State.DONE, State.OPEN, State.ARRIVING),
            VoiceHeard: (State.DONE, State.ARRIVING),
            Tick: (State.FINISHING, State.ARRIVING),
        },
        State.FINISHING: {
            **_ANYWHERE,
            TrackGone: (State.ABSENT, State.FINISHING),
            StreamOpened: (State.FINISHING,),
            AudioDecoded: (State.FINISHING,),
            StreamEnded: (State.DONE, State.OPEN, State.FINISHING),
            VoiceHeard: (State.DONE, State.FINISHING),
            Tick: (State.DONE, State.OPEN, State.FINISHING),
        },
        State.OPEN: {
            **_ANYWHERE,
            TrackGone: (State.ABSENT, State.OPEN),
            StreamOpened: (State.ARRIVING, State.OPEN),
            VoiceHeard: (State.DONE,),
            Tick: (State.DONE, State.OPEN),
        },
        State.DONE: {
            **_ANYWHERE,
            TrackGone: (State.ABSENT, State.DONE),
            StreamOpened: (State.DONE,),
            Tick: (State.DONE,),
        },
    }
)
"""What each state takes, and where that may lead. Anything else is dropped."""


@dataclass(frozen=True, slots=True)
class _Held:
    sender: str
    track: str
    until: float | None


class BufferWatch:
    """The machine, for one caller's track after the other. Streams are told apart by numbers that are never used twice.

    ``timeout`` and ``max_wait``: in seconds, from when the track is asked for.
    """

    def __init__(self, *, timeout: float = 3.0, max_wait: float = 10.0) -> None:
        self.state = State.ABSENT
        self._timeout = timeout
        self._max_wait = max(timeout, max_wait)
        self._caller = ""
        self._track = ""
        self._before = ""
        """The last track of this caller."""
        self._held: dict[int, _Held] = {}
        self._stream = 0
        self._audible = False
        self._settled = ""
        """Why no other stream is taken, once that is so."""
        self._failed = 0
        self._late = False
        """The live audio has gone ahead."""
        self._until: float | None = None
        self._last = 0.0
        """No wait goes on after this."""

    def deadline(self) -> float | None:
        times = [held.until for held in self._held.values() if held.until is not None]
        if self._until is not None:
            times.append(self._until)
        return min(times, default=None)

    def handle(self, event: WatchEvent, now: float) -> list[WatchCommand]:
        if type(event) not in TABLE[self.state]:
            return [Drop(f"{type(event).__name__} while {self.state.value}")]
        match event:
            case CallerLinked(identity):
                return self._linked(identity)
            case CallerGone():
                return [*self._leave(OVER), *self._refuse_held(lambda _: OVER)]
            case TrackExpected(track, promised):
                return self._expected(track, promised, now)
            case TrackGone(track):
                return self._leave(OVER) if track == self._track else [Drop("another track")]
            case StreamOpened():
                return self._opened(event, now)
            case PieceArrived(stream):
                return self._went_on(stream, now)
            case AudioDecoded(stream):
                self._audible = self._audible or stream == self._stream
                return []
            case StreamEnded(stream, reason):
                return self._ended(stream, reason, now)
            case VoiceHeard():
                return self._voice_heard()
            case Tick():
                return self._tick(now)

    # --- who and what -------------------------------------------------------------------------------------------------

    def _linked(self, identity: str) -> list[WatchCommand]:
        commands = self._leave(OVER)
        if identity != self._caller:
            self._caller, self._before = identity, ""
        return [*commands, *self._refuse_held(lambda held: OTHERS if held.sender != identity else "")]

    def _expected(self, track: str, promised: bool, now: float) -> list[WatchCommand]:
        if track == self._track:
            return [Drop("it is expected already")]
        commands = self._leave(OVER)
        self._track, self._failed, self._late = track, 0, False
        self._last = now + self._max_wait
        for stream, held in list(self._held.items()):
            if held.track in ("", track):
                del self._held[stream]
                commands += [Refuse(stream, COPY)] if self._stream else self._take(stream, now)
            elif held.until is None:
                self._held[stream] = _Held(held.sender, held.track, now + self._timeout)
        if self._stream:
            self._before = track
            return commands
        before, self._before = self._before, track
        if promised and track != before:
            patience = min(self._timeout, AGAIN) if before else self._timeout
            self.state, self._until = State.WAITING, now + patience
            return commands
        return [*commands, *self._release("none was promised", now, missed=False)]

    def _opened(self, event: StreamOpened, now: float) -> list[WatchCommand]:
        if self._caller and event.sender != self._caller:
            return [Refuse(event.stream, OTHERS)]
        if self.state is State.ABSENT or event.track not in ("", self._track):
            if len(self._held) >= MOST_HELD:
                return [Refuse(event.stream, MANY)]
            until = None if self.state is State.ABSENT else now + self._timeout
            self._held[event.stream] = _Held(event.sender, event.track, until)
            return [Hold(event.stream)]
        if self._stream or self._settled:
            return [Refuse(event.stream, self._settled or COPY)]
        return self._take(event.stream, now)

    # --- its arrival --------------------------------------------------------------------------------------------------

    def _take(self, stream: int, now: float) -> list[WatchCommand]:
        self._stream, self._audible = stream, False
        self.state, self._until = State.ARRIVING, max(now, min(now + self._timeout, self._last))
        return [Take(stream)]

    def _went_on(self, stream: int, now: float) -> list[WatchCommand]:
        if stream == self._stream:
            self._until = max(now, min(now + self._timeout, self._last))
        return []

    def _ended(self, stream: int, reason: str, now: float) -> list[WatchCommand]:
        if stream != self._stream:
            return [Drop("another stream")]
        if self._audible:
            return self._deliver(partial=self.state is State.FINISHING or bool(reason))
        return self._without(reason or "it holds no audio", now)

    def _deliver(self, *, partial: bool) -> list[WatchCommand]:
        stream = self._stream
        self._settle(COPY)
        return [Deliver(stream, partial, self._late)]

    def _without(self, reason: str, now: float) -> list[WatchCommand]:
        """The stream that was taken is worth nothing; another may come."""
        stream, self._stream = self._stream, 0
        self._failed += 1
        if self._failed >= MOST_TRIED:
            released: list[WatchCommand] = [] if self._late else [Release(reason, missed=False)]
            self._settle(MANY)
            return [Refuse(stream, reason), *released]
        return [Refuse(stream, reason), *self._release(reason, now, missed=False)]

    def _release(self, reason: str, now: float, *, missed: bool) -> list[WatchCommand]:
        """Let the live audio go ahead, if it has not gone already."""
        self.state = State.OPEN
        if self._late:
            self._until = self._last
            return []
        self._late, self._last = True, now + LATEST
        self._until = self._last
        return [Release(reason, missed)]

    def _settle(self, reason: str) -> None:
        self.state, self._until, self._stream, self._settled = State.DONE, None, 0, reason

    def _voice_heard(self) -> list[WatchCommand]:
        if not self._late:
            return [Drop("the live audio waits")]
        stream = self._stream
        self._settle(HEARD)
        return [Refuse(stream, HEARD)] if stream else []

    def _leave(self, reason: str) -> list[WatchCommand]:
        """The track is over."""
        commands: list[WatchCommand] = [Refuse(self._stream, reason)] if self._stream else []
        self.state, self._track, self._stream, self._settled, self._until = State.ABSENT, "", 0, "", None
        return commands

    def _refuse_held(self, why: Callable[[_Held], str]) -> list[WatchCommand]:
        refused = {stream: reason for stream, held in self._held.items() if (reason := why(held))}
        for stream in refused:
            del self._held[stream]
        return [Refuse(stream, reason) for stream, reason in refused.items()]

    def _tick(self, now: float) -> list[WatchCommand]:
        commands: list[WatchCommand] = []
        for stream, held in list(self._held.items()):
            if held.until is not None and now >= held.until:
                del self._held[stream]
                commands.append(Refuse(stream, ELSEWHERE))
        if self._until is None or now < self._until:
            return commands or [Drop("a tick before its time")]
        match self.state:
            case State.WAITING:
                commands += self._release("none came", now, missed=True)
            case State.ARRIVING:
                self.state, self._until = State.FINISHING, now + FINISHING
                commands.append(Finish(self._stream))
            case State.FINISHING if self._audible:
                commands += self._deliver(partial=True)
            case State.FINISHING:
                commands += self._without("it could not be decoded in time", now)
            case _:
                self._settle(LATE)
        return commands
