"""What can go wrong with a recording, each as a client would do it, and what the agent made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import numpy as np

from greenroom.audio import AudioFrame, Pcm
from greenroom.room.preconnect.intake import TOPIC
from greenroom.room.room import AgentRoom, PreconnectReport
from tests.room.people import House, Person, Record, running
from tests.room.preconnect.sounds import FRAGMENTED, alignment, encoded, resampled, scratched, stereo, voice

__all__ = ["FAULTS", "Fault", "Outcome", "play"]

RATE = 16_000
SPOKEN = 3.0
"""Seconds that were spoken before the agent listens."""
OVERLAP = 0.3
WEBM = "audio/webm;codecs=opus"
CHUNK = 15_000
WATCHED = 2.5
"""Seconds of a call that are looked at after the live audio has begun."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``make``: the recording's bytes, before the agent comes; ``send``: what is done with them when it has.

    ``used``: the outcomes that are right. ``wait``: the longest that live audio may be held back, in seconds, as
    documented. ``seconds``: how much of the recording is heard, about. ``quiet``: the caller says nothing live.
    ``alone``: it would slow other calls in the same process down, since this is the sender's process too.
    """

    make: Callable[[Sender], bytes]
    used: tuple[str, ...]
    wait: float
    seconds: float = 0.0
    send: Callable[[Sender], Coroutine[object, object, None]] = lambda sender: sender.send()
    quiet: bool = False
    promise: bool = True
    alone: bool = False


@dataclass
class Outcome:
    """What came of it. ``waited``: from the moment when the microphone was asked for to the first live frame."""

    reports: list[PreconnectReport] = field(default_factory=list)
    waited: float = float("inf")
    recorded: float = 0.0
    likeness: float = 0.0
    lag: float = 0.0

    @property
    def first(self) -> PreconnectReport:
        """What became of the recording; refused copies beside it are not it."""
        used = [report for report in self.reports if report.outcome not in ("refused", "missing")]
        return (used or self.reports or [PreconnectReport(outcome="missing", reason="nothing was reported")])[0]


class Sender:
    """A client with a recording of what it said."""

    def __init__(self, person: Person, track: str, other: Person, spoken: Pcm) -> None:
        self.person = person
        self.track = track
        self.other = other
        self.spoken = spoken
        """At 48 kHz."""
        self.data = b""

    def pcm(self, rate: int) -> Pcm:
        return resampled(self.spoken, 48_000, rate)

    def webm(self) -> bytes:
        return encoded(self.spoken, 48_000, "webm")

    async def send(
        self,
        *,
        mime: str = WEBM,
        track: str | None = None,
        rate: str = "48000",
        channels: str = "1",
        close: bool = True,
        by: Person | None = None,
    ) -> None:
        """Send ``data``, said to be what the arguments name."""
        writer = await (by or self.person).room.local_participant.stream_bytes(
            "preconnect-buffer",
            mime_type=mime,
            topic=TOPIC,
            attributes={"trackId": self.track if track is None else track, "sampleRate": rate, "channels": channels},
        )
        for start in range(0, len(self.data), CHUNK):
            await writer.write(self.data[start : start + CHUNK])
        if close:
            await writer.aclose()


def saying(**claims: str | bool) -> Callable[[Sender], Coroutine[object, object, None]]:
    return lambda sender: sender.send(**claims)  # type: ignore[arg-type]


def late(seconds: float) -> Callable[[Sender], Coroutine[object, object, None]]:
    async def send(sender: Sender) -> None:
        await asyncio.sleep(seconds)
        await sender.send()

    return send


async def nothing(sender: Sender) -> None:
    """No recording."""


async def hundred(sender: Sender) -> None:
    await asyncio.gather(*(sender.send() for _ in range(100)))


async def twice(sender: Sender) -> None:
    await asyncio.gather(sender.send(), sender.send())


def noise(size: int) -> bytes:
    return np.random.default_rng(5).bytes(size)


def raw(rate: int) -> Callable[[Sender], bytes]:
    return lambda sender: sender.pcm(rate).tobytes()


def minute(sender: Sender) -> Pcm:
    return np.concatenate((np.tile(voice(SPOKEN, seed=9), 20)[: -len(sender.spoken)], sender.spoken))


def broken_half(sender: Sender) -> bytes:
    data = sender.webm()
    return data[: len(data) // 2] + noise(len(data) // 2)


def mp4(rate: int, channels: int, options: dict[str, str] | None = None) -> Callable[[Sender], bytes]:
    return lambda s: encoded(s.pcm(rate), rate, "mp4", codec="aac", channels=channels, options=options)


def opus(container: str) -> Callable[[Sender], bytes]:
    return lambda sender: encoded(sender.spoken, 48_000, container, channels=2)


WHOLE = Sender.webm
USED, REFUSED, MISSING = ("used",), ("refused",), ("missing", "refused")
PROMISED, ARRIVING, AT_ONCE = 6.0, 16.0, 2.8
"""How long it is waited for what never comes, for what arrives, and for what is worth nothing: 3, 10 and 1 s, with as
wide a margin as keeps them apart."""
WRONG_RATES = ("0", "-1", "abc", "1000000000")
FAULTS: dict[str, Fault] = {
    "as it should be": Fault(WHOLE, USED, ARRIVING, SPOKEN),
    "none promised, none sent": Fault(WHOLE, (), AT_ONCE, send=nothing, promise=False),
    "promised, never sent": Fault(WHOLE, MISSING, PROMISED, send=nothing),
    "stream never closed": Fault(WHOLE, ("partial",), ARRIVING, SPOKEN, saying(close=False)),
    "late by 2.5 s": Fault(WHOLE, USED, ARRIVING, SPOKEN, late(2.5)),
    "late by 4 s, caller silent": Fault(WHOLE, ("late",), PROMISED, SPOKEN, late(4.0), quiet=True),
    "late by 4 s, caller speaking": Fault(WHOLE, MISSING, PROMISED, send=late(4.0)),
    "header only": Fault(lambda s: s.webm()[:200], REFUSED, AT_ONCE),
    "empty stream": Fault(lambda s: b"", REFUSED, AT_ONCE),
    "corrupt from the beginning": Fault(lambda s: noise(40_000), REFUSED, AT_ONCE),
    "corrupt second half": Fault(broken_half, USED, ARRIVING, SPOKEN / 2),
    "truncated": Fault(lambda s: s.webm()[: len(s.webm()) * 2 // 3], USED, ARRIVING, SPOKEN * 2 / 3),
    "60 s of Opus": Fault(lambda s: encoded(minute(s), 48_000, "webm"), USED, ARRIVING, 60.0, alone=True),
    "60 s of samples (5.8 MB)": Fault(
        lambda s: minute(s).tobytes(), ("used", "partial"), ARRIVING, 60.0, saying(mime=""), alone=True
    ),
    "Swift: 24 kHz, no mime type, no trackId": Fault(
        raw(24_000), USED, ARRIVING, SPOKEN, saying(mime="", rate="24000", track="")
    ),
    "Flutter: 24 kHz": Fault(
        raw(24_000), USED, ARRIVING, SPOKEN, saying(mime="application/octet-stream", rate="24000")
    ),
    "Android: 48 kHz": Fault(raw(48_000), USED, ARRIVING, SPOKEN, saying(mime="")),
    "Android, older: writes its scratch array whole": Fault(
        lambda s: scratched(s.pcm(48_000).tobytes(), 960), USED, ARRIVING, SPOKEN, saying(mime="")
    ),
    "Android, older: mono labelled stereo": Fault(raw(48_000), USED, ARRIVING, SPOKEN, saying(mime="", channels="2")),
    "stereo 44.1 kHz: samples": Fault(
        lambda s: stereo(s.pcm(44_100)).tobytes(), USED, ARRIVING, SPOKEN, saying(mime="", rate="44100", channels="2")
    ),
    "stereo 44.1 kHz: WebM": Fault(opus("webm"), USED, ARRIVING, SPOKEN, saying(rate="44100", channels="2")),
    "stereo 44.1 kHz: Ogg": Fault(
        opus("ogg"), USED, ARRIVING, SPOKEN, saying(mime="audio/ogg", rate="44100", channels="2")
    ),
    "stereo 44.1 kHz: MP4": Fault(
        mp4(44_100, 2), USED, ARRIVING, SPOKEN, saying(mime="audio/mp4", rate="44100", channels="2")
    ),
    "video/mp4 in fragments": Fault(mp4(48_000, 1, FRAGMENTED), USED, ARRIVING, SPOKEN, saying(mime="video/mp4")),
    "trackId empty": Fault(WHOLE, USED, ARRIVING, SPOKEN, saying(track="")),
    "trackId wrong": Fault(WHOLE, MISSING, PROMISED, send=saying(track="TR_nobody")),
    "trackId of another's track": Fault(
        WHOLE,
        MISSING,
        PROMISED,
        send=lambda s: s.send(track=next(iter(s.other.room.local_participant.track_publications))),
    ),
    **{f"sampleRate {rate}, WebM": Fault(WHOLE, USED, ARRIVING, SPOKEN, saying(rate=rate)) for rate in WRONG_RATES},
    **{
        f"sampleRate {rate}, samples": Fault(raw(48_000), REFUSED, AT_ONCE, send=saying(rate=rate, mime=""))
        for rate in WRONG_RATES
    },
    "sent twice": Fault(WHOLE, USED, ARRIVING, SPOKEN, twice),
    "100 at once": Fault(WHOLE, ("used", "partial"), ARRIVING, SPOKEN, hundred, alone=True),
    "from another participant": Fault(WHOLE, MISSING, PROMISED, send=lambda s: s.send(by=s.other)),
}


async def play(house: House, fault: Fault) -> Outcome:
    """A call in which the caller spoke before the agent came, and this went wrong."""
    outcome, frames = Outcome(), Record[tuple[float, AudioFrame]]()
    whole = voice(SPOKEN + 12.0)
    spoken = whole[: round(SPOKEN * 48_000)]
    ann = await house.enter("ann", microphone=False)
    track = await ann.publish(promise=fault.promise)
    sender = Sender(ann, track, await house.enter("bob"), spoken)
    sender.data = await asyncio.to_thread(fault.make, sender)
    loop = asyncio.get_running_loop()
    agent = await house.agent(participant="ann", reported=outcome.reports.append)
    asked = loop.time()
    live = whole[round((SPOKEN - OVERLAP) * 48_000) :]
    said = np.zeros_like(live) if fault.quiet else live
    async with running(_read(agent, frames), _speak(ann, said), fault.send(sender)) as tasks:
        await frames.until(lambda got: any(frame.at > asked - 0.05 for _, frame in got), timeout=fault.wait + 5.0)
        began = next(when for when, frame in frames if frame.at > asked - 0.05)
        outcome.waited = began - asked
        await frames.until(lambda got: got[-1][0] > began + WATCHED, timeout=WATCHED + 5.0)
        async with asyncio.timeout(15.0):
            await asyncio.shield(tasks[2])
    early = [frame for _, frame in frames if frame.at + frame.duration <= asked + 0.2]
    if early and outcome.first.outcome not in ("refused", "missing"):
        heard = np.concatenate([frame.pcm for frame in early])
        wanted = resampled(spoken, 48_000, RATE)
        outcome.recorded = outcome.first.seconds
        tail = heard[-min(len(heard), len(wanted) + RATE) :]
        lag, outcome.likeness = alignment(tail, wanted)
        outcome.lag = lag / RATE
    await agent.leave()
    return outcome


async def _read(agent: AgentRoom, frames: Record[tuple[float, AudioFrame]]) -> None:
    loop = asyncio.get_running_loop()
    async for frame in agent.microphone.frames(RATE):
        frames.add((loop.time(), frame))


async def _speak(person: Person, pcm: Pcm) -> None:
    await person.say(pcm)
    while True:
        await person.say(np.zeros(4800, dtype=np.int16))
