"""What one run did to the words: compares what the session heard with the source, and with what LiveKit handed over.

Three recordings are placed on the source's time line: the *buffer* (the bytes of the pre-connect stream, decoded here,
independently of the agent), the *live* audio (as LiveKit's client delivered it to the agent's process) and what was
*heard* (the frames that the agent's session gave to its transcriber). What was heard is, up to the seam, a copy of
the buffer, and from it on a copy of the live audio; where the seam lies is found by following both copies.

- ``unsent_head``: source before the buffer's first sample; the client never recorded it.
- ``head_loss``: source that the buffer (or the live audio) holds before the first sample that was heard.
- ``unsent``: source between the buffer's last sample and the live audio's first: in neither, so lost to any agent.
  Zeros that LiveKit delivers before a track's first packet are no live audio.
- ``missing``: sound between the last used sample of the buffer and the first of the live audio, beyond ``unsent``.
- ``duplicated``: the same where it is negative: sound that was heard twice.
- ``pause``: the silence in that, which is no sound: by so much a pause was made longer; shorter, where it is negative.
- ``step``: gain of the 0.5 s after the seam over that of the 0.5 s before it, each against the source. dB.
- ``clock``: by how much the capture times jump at the seam, against the source.
- ``words``: how many were sent: most of their pieces are in the buffer or in the live audio.
- ``broken``: those of them of which more than a fifth of these pieces was not heard.
- ``doubled``: words that were heard whole once more than the source has them.

The live audio's own time line is not straight: LiveKit's jitter buffer stretches and shortens its first half second by
up to 50 ms. That is measured in the live audio itself and is not counted as the agent's doing. All figures are in
seconds but ``step``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import av
import numpy as np

from greenroom.audio import Pcm
from tests.instant.seam import PIECE, SURE, Found, Ruler
from tests.instant.tap import RATE, Piece, Tapped
from tests.instant.words import Word

__all__ = ["Recordings", "Report", "first_sound", "report"]

NEAR = 0.5
AGREE = 0.0015
"""Two copies of the same audio lie apart by the same distance everywhere, within this. Seconds."""
BLOCK = 0.001
END = 0.01
"""What is so near to the end of a recording lies in the source as its end does. Seconds."""
FIFTH = 0.2


@dataclass(frozen=True, slots=True)
class Recordings:
    """Mono at ``RATE``. ``capture``: of what was heard, (place, capture time, arrival) of each frame."""

    buffer: Pcm
    live: Pcm
    heard: Pcm
    capture: list[tuple[float, float, float]] = field(default_factory=list)

    @staticmethod
    def of(tapped: Tapped) -> Recordings:
        capture, samples = [], 0
        for piece in tapped.heard:
            capture.append((samples / RATE, piece.at, piece.came))
            samples += len(piece.pcm)
        return Recordings(
            buffer=_decoded(tapped), live=_joined(tapped.live), heard=_joined(tapped.heard), capture=capture
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """See the module. ``delivered``: from joining to the last of the buffer; ``None`` where there was no seam."""

    begins: float
    """Source time of the first sample that could have been heard."""
    unsent_head: float
    head_loss: float
    unsent: float = 0.0
    missing: float = 0.0
    duplicated: float = 0.0
    pause: float = 0.0
    step: float = 0.0
    clock: float = 0.0
    overlap: float = 0.0
    delivered: float | None = None
    words: int = 0
    broken: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        """What the run should not have shown."""
        limits = (
            ("head", self.head_loss, 0.001),
            ("missing", self.missing, 0.010),
            ("duplicated", self.duplicated, 0.020),
            ("step", abs(self.step), 1.0),
        )
        found = [f"{name} {value:.3f}" for name, value, limit in limits if not value <= limit]
        if self.delivered is None:
            found.append("no buffer was heard")
        return found + [f"{word} broken" for word in self.broken] + [f"{word} doubled" for word in self.doubled]


def report(ruler: Ruler, recordings: Recordings, *, joined: float = 0.0) -> Report:
    """Raises ``ValueError`` when nothing of the source was heard."""
    buffer, live, heard = (ruler.measure(pcm) for pcm in (recordings.buffer, recordings.live, recordings.heard))
    if not heard:
        raise ValueError("nothing of the source was heard")
    held = _by_source(buffer) | _by_source(live)
    first = min(_start(each) for each in (buffer, live) if each)
    words = [word for word in ruler.words if 2 * len(_pieces(word, held)) > ruler.pieces(word)]
    seam = _seam(recordings, buffer, live, heard)
    head = max(0.0, _start(heard) - first)
    common = {
        "begins": first,
        "unsent_head": max(0.0, first),
        "head_loss": head,
        "words": len(words),
        "broken": tuple(word.text for word in words if _broken(word, held, heard)),
        "doubled": tuple(
            word.text for word in words if len(ruler.sight(word, recordings.heard)) > ruler.own[word.text]
        ),
    }
    if seam is None:
        return Report(**common)  # type: ignore[arg-type]
    return Report(**common, **_at_seam(ruler, recordings, seam, joined))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Seam:
    """``place`` in what was heard; ``buffer_shift`` and ``live_shift`` carry a place of the copies to one of it."""

    place: float
    buffer_shift: float
    live_shift: float
    buffer: list[Found]
    live: list[Found]
    heard: list[Found]


def _seam(recordings: Recordings, buffer: list[Found], live: list[Found], heard: list[Found]) -> _Seam | None:
    """Where the copy of the buffer ends; ``None`` when one of the two was not heard."""
    from_buffer, from_live = _shift(buffer, heard, first=True), _shift(live, heard, first=False)
    if from_buffer is None or from_live is None:
        return None
    copies = [
        (each, _copied(each, _by_source(buffer), from_buffer), _copied(each, _by_source(live), from_live))
        for each in heard
    ]
    before = [(each.place, gain) for each, gain, other in copies if gain is not None and other is None]
    last = before[-1][0] if before else float("inf")
    after = [(each.place, gain) for each, other, gain in copies if gain is not None and other is None]
    after = [(place, gain) for place, gain in after if place > last]
    if not after:
        return None
    around = (last - PIECE / 2, after[0][0] + PIECE / 2)
    gains = _median([gain for _, gain in before]), _median([gain for _, gain in after])
    place = _change(recordings, (from_buffer, from_live), gains, around=around)
    return _Seam(place, from_buffer, from_live, buffer, live, heard)


def _at_seam(ruler: Ruler, recordings: Recordings, seam: _Seam, joined: float) -> dict[str, float]:
    all_buffer, first = len(recordings.buffer) / RATE, first_sound(recordings.live)
    used, begun = min(seam.place - seam.buffer_shift, all_buffer), max(seam.place - seam.live_shift, first)
    sent_end = ruler.end(recordings.buffer, all_buffer, seam.buffer, ending=True)
    sent_start = ruler.end(recordings.live, first, seam.live, ending=False)
    buffer_end, live_start = sent_end - (all_buffer - used), sent_start + (begun - first)
    # at the ends themselves one measurement is made, not two that may differ
    if all_buffer - used >= END:
        buffer_end = ruler.end(recordings.buffer, used, seam.buffer, ending=True)
    if begun - first >= END:
        live_start = ruler.end(recordings.live, begun, seam.live, ending=False)
    unsent, gap = sent_start - sent_end, live_start - buffer_end
    missing = ruler.sounding(buffer_end, live_start) - ruler.sounding(sent_end, sent_start)
    duplicated = ruler.sounding(live_start, buffer_end)
    before = [each for each in seam.heard if seam.place - NEAR < each.place < seam.place - 0.03]
    after = [each for each in seam.heard if seam.place + 0.03 < each.place < seam.place + NEAR]
    return {
        "unsent": max(0.0, unsent),
        "overlap": max(0.0, -unsent),
        "missing": max(0.0, missing),
        "duplicated": duplicated,
        "pause": max(0.0, unsent) - gap + max(0.0, missing) - duplicated,
        "step": _median([each.gain for each in after]) - _median([each.gain for each in before]),
        "clock": _clock(recordings, after) - _clock(recordings, before) if before and after else 0.0,
        "delivered": max(came for place, _, came in recordings.capture if place <= seam.place) - joined,
    }


def _change(
    recordings: Recordings, shifts: tuple[float, float], gains: tuple[float, float], *, around: tuple[float, float]
) -> float:
    """The place from which on what was heard is more like the live audio than like the buffer."""
    step = round(BLOCK * RATE)
    first, last = max(0, round(around[0] * RATE)), round(around[1] * RATE)
    heard = recordings.heard[first:last].astype(np.float64)
    errors = []
    for pcm, shift, gain in zip((recordings.buffer, recordings.live), shifts, gains, strict=True):
        start = first - round(shift * RATE)
        copy = np.zeros(len(heard))
        inside = np.arange(start, start + len(heard))
        there = (inside >= 0) & (inside < len(pcm))
        copy[there] = pcm[inside[there]] * 10 ** (gain / 20)
        errors.append(np.concatenate([[0.0], np.cumsum((heard - copy) ** 2)]))
    cost = errors[0] + errors[1][-1] - errors[1]  # the buffer's error before the place, the live audio's after it
    return (first + int(np.argmin(cost[::step])) * step) / RATE


def _by_source(found: list[Found]) -> dict[float, Found]:
    return {each.source: each for each in found}


def _shift(copy: list[Found], heard: list[Found], *, first: bool) -> float | None:
    """How far what was heard lies behind the copy, from the pieces that agree best; ``None`` when none do."""
    places = _by_source(copy)
    apart = [each.place - places[each.source].place for each in heard if each.source in places]
    ends = apart[:25] if first else apart[-25:]
    if not ends:
        return None
    middle = _median(ends)
    return middle if sum(abs(each - middle) < AGREE for each in ends) > len(ends) / 2 else None


def _copied(heard: Found, copy: dict[float, Found], shift: float) -> float | None:
    """By how much what was heard is louder than the copy, dB; ``None`` where it is no copy."""
    other = copy.get(heard.source)
    return heard.gain - other.gain if other is not None and abs(heard.place - other.place - shift) < AGREE else None


def _start(found: list[Found]) -> float:
    """The source time of the first sample. The first piece alone would not do: half of it may not be there."""
    return _median([each.offset for each in found if each.alike > SURE][:5] or [found[0].offset])


def first_sound(live: Pcm) -> float:
    """Where the live audio begins: until a track's first packet comes, LiveKit delivers zeros."""
    sounds = np.flatnonzero(live)
    return float(sounds[0]) / RATE if len(sounds) else 0.0


def _pieces(word: Word, found: dict[float, Found]) -> list[Found]:
    return [each for source, each in found.items() if word.start <= source <= word.end]


def _broken(word: Word, held: dict[float, Found], heard: list[Found]) -> bool:
    there = {each.source for each in heard}
    pieces = _pieces(word, held)
    return sum(each.source not in there for each in pieces) > FIFTH * len(pieces)


def _clock(recordings: Recordings, found: list[Found]) -> float:
    """Capture time minus source time."""
    places, times = [place for place, _, _ in recordings.capture], [at for _, at, _ in recordings.capture]
    return _median([float(np.interp(each.place, places, times)) - each.source for each in found])


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else 0.0


def _joined(pieces: list[Piece]) -> Pcm:
    return np.concatenate([np.zeros(0, dtype=np.int16), *(piece.pcm for piece in pieces)])


def _decoded(tapped: Tapped) -> Pcm:
    """The pre-connect stream, whole, by the container's own decoder. Browsers send no other kind."""
    data = b"".join(data for _, data in tapped.chunks)
    if not data:
        return np.zeros(0, dtype=np.int16)
    pieces = [np.zeros(0, dtype=np.int16)]
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(io.BytesIO(data), mode="r") as container:
        for frame in (*container.decode(audio=0), None):
            pieces.extend(each.to_ndarray().ravel().astype(np.int16) for each in resampler.resample(frame))
    return np.concatenate(pieces)
