"""What leaves the track, to the sample: pieces, pauses, fades, and when there is sound at all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.audio import Pcm, faded
from greenroom.dialog.events import Aired, Event, Played
from greenroom.session.playout import Playout
from greenroom.session.voice import Voice
from greenroom.testing.loopback import LoopbackOutput
from greenroom.testing.virtual_time import run, virtual_time

RATE = 24_000
FADE = 0.02
TAIL = round(FADE * RATE)


def tone(seconds: float, *, level: float = 8000.0) -> Pcm:
    """220 Hz, rounded down from no zero crossing in particular: every cut of it is a jump."""
    at = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(np.round(level * np.cos(2 * np.pi * 220 * at)), dtype=np.int16)


def quiet(seconds: float) -> Pcm:
    return np.zeros(round(seconds * RATE), dtype=np.int16)


@dataclass
class Track:
    """A playout in front of a loopback output, and all that it told."""

    playout: Playout
    out: LoopbackOutput
    events: list[tuple[float, Event]] = field(default_factory=list)
    words: list[tuple[str, int, str]] = field(default_factory=list)
    answer: Callable[[Event], None] = lambda event: None

    def feed(self, event: Event) -> None:
        self.events.append((asyncio.get_running_loop().time(), event))
        self.answer(event)

    def spoken(self, speech: str, step: int, text: str) -> None:
        self.words.append((speech, step, text))

    def play(self, speech: str, pcm: Pcm, *, text: str = "", end: bool = True) -> Voice:
        """Begin a speech of one step whose audio is all there."""
        voice = Voice(RATE)
        add(voice, pcm, text=text)
        if end:
            voice.end()
        self.playout.play(speech, 1, voice)
        return voice

    def played(self, what: str, speech: str = "") -> Played:
        """The one event of that kind."""
        (event,) = [
            event
            for _, event in self.events
            if isinstance(event, Played) and event.what == what and speech in ("", event.speech)
        ]
        return event

    def aired(self) -> list[tuple[bool, float]]:
        return [(event.audible, round(event.at, 6)) for _, event in self.events if isinstance(event, Aired)]

    def heard(self) -> Pcm:
        """All that has left, without the pauses."""
        return np.concatenate([quiet(0), *(frame.pcm for frame in self.out.heard)])

    async def settled(self) -> None:
        """What was handed to the track has left it."""
        await asyncio.sleep(1.5)


def add(voice: Voice, pcm: Pcm, *, text: str = "") -> None:
    """``Voice.write`` for audio that does not fill its lead."""
    with pytest.raises(StopIteration):
        voice.write(pcm, text=text, aligned=bool(text)).send(None)


@asynccontextmanager
async def track(*, fade: float = FADE, limit: float = 0.2, ready: bool = True) -> AsyncIterator[Track]:
    out = LoopbackOutput(sample_rate=RATE, limit=limit, ready=ready)
    made: list[Track] = []
    playout = Playout(
        out, feed=lambda event: made[0].feed(event), spoken=lambda *words: made[0].spoken(*words), fade=fade
    )
    made.append(Track(playout, out))
    try:
        yield made[0]
    finally:
        await playout.aclose()


@virtual_time
async def test_a_voice_is_played_as_it_was_made() -> None:
    async with track() as t:
        pcm = tone(1.0)
        t.play("a", pcm, text="All of it.")
        await t.settled()
        assert np.array_equal(t.heard(), pcm)
        assert t.played("started").at == 0.0
        assert t.played("finished") == Played("a", 1, "finished", 1.0, len(pcm), "All of it.", True)
        assert t.words == [("a", 1, "All of it.")]


@virtual_time
async def test_without_a_fade_a_stop_cuts_at_once() -> None:
    async with track(fade=0.0) as t:
        pcm = tone(2.0)
        t.play("a", pcm)
        await asyncio.sleep(0.51)
        t.playout.stop("a", 1)
        await t.settled()
        assert t.played("stopped").samples == round(0.51 * RATE)
        assert np.array_equal(t.heard(), pcm[: round(0.51 * RATE)])


@virtual_time
async def test_a_stop_fades() -> None:
    async with track() as t:
        pcm = tone(2.0)
        t.play("a", pcm)
        await asyncio.sleep(0.51)
        t.playout.stop("a", 1)
        cut = round(0.51 * RATE)
        stopped = t.played("stopped")  # told at once, with what will be heard
        assert stopped.at == pytest.approx(0.51)
        assert stopped.samples == cut + TAIL
        await t.settled()
        (stretch,) = t.out.heard
        assert np.array_equal(stretch.pcm, np.concatenate([pcm[:cut], faded(pcm[cut : cut + TAIL])]))
        steps = np.abs(np.diff(stretch.pcm.astype(np.int32)))
        assert steps[cut - 1 :].max() <= steps[: cut - 1].max()  # no step that the voice itself does not have
        assert abs(int(stretch.pcm[-1])) <= 1


@virtual_time
async def test_words_of_the_faded_end_count_as_heard() -> None:
    async with track() as t:
        voice = t.play("a", tone(0.51), text="one ", end=False)
        add(voice, tone(0.5), text="two ")
        add(voice, tone(0.5), text="three")
        await asyncio.sleep(1.0)
        t.playout.stop("a", 1)
        assert t.played("stopped").text == "one two "  # "two" ends 10 ms after the stop


@virtual_time
async def test_a_fade_is_no_longer_than_what_is_left() -> None:
    async with track() as t:
        pcm = tone(0.5)
        t.play("a", pcm)
        await asyncio.sleep(0.495)
        t.playout.stop("a", 1)
        await t.settled()
        cut = round(0.495 * RATE)
        assert t.played("stopped").samples == len(pcm)
        assert np.array_equal(t.heard(), np.concatenate([pcm[:cut], faded(pcm[cut:])]))


@virtual_time
async def test_the_next_speech_follows_the_fade_at_once() -> None:
    async with track() as t:
        first, second = tone(2.0), tone(0.5, level=3000)
        t.play("a", first)

        def go_on(event: Event) -> None:
            if isinstance(event, Played) and event.what == "stopped":
                t.play("b", second)

        t.answer = go_on
        await asyncio.sleep(0.6)
        t.playout.stop("a", 1)
        await t.settled()
        cut = round(0.6 * RATE)
        (stretch,) = t.out.heard
        assert np.array_equal(stretch.pcm, np.concatenate([first[:cut], faded(first[cut : cut + TAIL]), second]))
        assert t.played("started", "b").at == pytest.approx(0.6 + FADE)
        assert t.played("finished", "b").samples == len(second)


@virtual_time
async def test_a_speech_stopped_during_the_fade_of_the_one_before_leaves_that_whole() -> None:
    async with track() as t:
        pcm = tone(2.0)
        t.play("a", pcm)
        await asyncio.sleep(0.6)
        t.playout.stop("a", 1)
        t.play("b", tone(1.0))
        await asyncio.sleep(0.01)
        t.playout.stop("b", 1)
        await t.settled()
        assert t.played("stopped", "b").samples == 0
        assert len(t.heard()) == round(0.6 * RATE) + TAIL


@virtual_time
async def test_what_was_never_heard_is_not_faded_in() -> None:
    async with track(ready=False) as t:
        t.play("a", tone(1.0))
        await asyncio.sleep(0.5)
        t.playout.stop("a", 1)
        t.out.set_ready(True)
        await t.settled()
        assert t.played("stopped").samples == 0
        assert not t.out.heard


@virtual_time
async def test_a_stop_while_the_voice_is_starved_adds_nothing() -> None:
    async with track() as t:
        pcm = tone(0.5)
        voice = t.play("a", pcm, end=False)
        await asyncio.sleep(0.8)
        add(voice, tone(0.5))
        t.playout.stop("a", 1)  # what has just come has not begun to leave
        await t.settled()
        assert t.played("stopped").samples == len(pcm)
        assert np.array_equal(t.heard(), pcm)


@virtual_time
async def test_a_pause_runs_out_to_where_it_is_quiet_and_loses_no_sample() -> None:
    async with track() as t:
        pcm = tone(2.0)
        t.play("a", pcm)
        await asyncio.sleep(0.5)  # at a crest of the wave
        t.playout.pause("a", 1)
        paused = t.played("paused")
        assert round(0.5 * RATE) < paused.samples <= round(0.5 * RATE) + TAIL
        await asyncio.sleep(1.0)
        t.playout.resume("a", 1)
        await asyncio.sleep(2.0)
        before, after = t.out.heard
        assert np.array_equal(np.concatenate([before.pcm, after.pcm]), pcm)
        assert len(before.pcm) == paused.samples
        assert max(abs(int(before.pcm[-1])), abs(int(after.pcm[0]))) < 300  # of a crest of 8000
        assert after.at == pytest.approx(1.5)


@virtual_time
async def test_a_pause_that_is_taken_back_at_once_has_no_gap() -> None:
    async with track() as t:
        pcm = tone(1.0)
        t.play("a", pcm)
        await asyncio.sleep(0.5)
        for _ in range(3):
            t.playout.pause("a", 1)
            t.playout.resume("a", 1)
        await t.settled()
        (stretch,) = t.out.heard
        assert np.array_equal(stretch.pcm, pcm)


@virtual_time
async def test_a_stop_in_a_pause_adds_nothing() -> None:
    async with track() as t:
        pcm = tone(2.0)
        t.play("a", pcm)
        await asyncio.sleep(0.5)
        t.playout.pause("a", 1)
        await t.settled()
        t.playout.stop("a", 1)
        await t.settled()
        assert t.played("stopped").samples == t.played("paused").samples
        assert np.array_equal(t.heard(), pcm[: t.played("paused").samples])


@virtual_time
async def test_a_stop_right_after_a_resume_adds_nothing() -> None:
    async with track() as t:
        pcm = tone(2.0)
        t.play("a", pcm)
        await asyncio.sleep(0.5)
        t.playout.pause("a", 1)
        await t.settled()
        t.playout.resume("a", 1)
        t.playout.stop("a", 1)
        await t.settled()
        assert t.played("stopped").samples == t.played("paused").samples
        assert np.array_equal(t.heard(), pcm[: t.played("paused").samples])


@pytest.mark.parametrize("what", ["started", "aired", "words"])
@virtual_time
async def test_whoever_is_told_of_a_piece_may_stop_it(what: str) -> None:
    async with track() as t:

        def stop(event: Event) -> None:
            if isinstance(event, Played if what == "started" else Aired) and not t.aired()[1:]:
                t.playout.stop("a", 1)

        if what == "words":
            t.spoken = lambda *_: t.playout.stop("a", 1)  # type: ignore[method-assign]
        else:
            t.answer = stop
        t.play("a", tone(1.0), text="Not this.")
        await t.settled()
        assert t.played("stopped").samples == 0
        assert t.played("stopped").text == ""
        assert not t.out.heard


@virtual_time
async def test_a_piece_that_was_never_handed_on_is_played_after_a_pause() -> None:
    async with track() as t:
        pcm = tone(1.0)

        def pause(event: Event) -> None:
            if isinstance(event, Played) and event.what == "started":
                t.playout.pause("a", 1)

        t.answer = pause
        t.play("a", pcm)
        await asyncio.sleep(0.5)
        assert t.played("paused").samples == 0
        t.playout.resume("a", 1)
        await asyncio.sleep(1.5)
        assert np.array_equal(t.heard(), pcm)
        assert t.played("finished").samples == len(pcm)


@virtual_time
async def test_closing_in_a_fade_leaves_nothing() -> None:
    async with track(fade=0.5) as t:  # longer than the track's queue: the fade waits there
        t.play("a", tone(2.0))
        await asyncio.sleep(0.5)
        t.playout.stop("a", 1)
        await asyncio.sleep(0.1)
        await t.playout.aclose()
        assert t.out.queued == 0


# --- sound ----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_sound_begins_with_the_first_audible_piece_and_ends_half_a_second_after_the_last() -> None:
    async with track() as t:
        t.play("a", np.concatenate([quiet(0.3), tone(1.0), quiet(2.0)]))
        await asyncio.sleep(4.0)
        assert t.aired() == [(True, 0.3), (False, 1.3)]
        told = [when for when, event in t.events if isinstance(event, Aired)]
        assert told[0] <= 0.3
        assert told[1] == pytest.approx(1.8)


@virtual_time
async def test_silent_audio_is_silence() -> None:
    async with track() as t:
        t.play("a", np.asarray(np.random.default_rng(1).integers(-8, 9, 2 * RATE), dtype=np.int16))  # dither
        await asyncio.sleep(3.0)
        assert t.played("finished").samples == 2 * RATE
        assert t.aired() == []


@virtual_time
async def test_speeches_in_a_row_and_pauses_between_words_are_one_sound() -> None:
    async with track() as t:
        t.play("a", np.concatenate([tone(0.5), quiet(0.4), tone(0.5)]))
        await asyncio.sleep(1.41)
        t.play("b", tone(0.5))
        await asyncio.sleep(2.0)
        assert t.aired() == [(True, 0.0), (False, 1.91)]


@pytest.mark.parametrize("how", ["starved", "paused", "stopped", "closed"])
@virtual_time
async def test_sound_ends_however_it_ends(how: Literal["starved", "paused", "stopped", "closed"]) -> None:
    async with track(fade=0.0) as t:
        voice = t.play("a", tone(2.0), end=False)
        if how == "starved":
            await asyncio.sleep(4.0)
            add(voice, tone(1.0))
            await asyncio.sleep(2.0)
            expected = [(True, 0.0), (False, 2.0), (True, 4.0), (False, 5.0)]
        else:
            await asyncio.sleep(1.03)
            if how == "closed":
                await t.playout.aclose()
            else:
                (t.playout.pause if how == "paused" else t.playout.stop)("a", 1)
            await asyncio.sleep(0.6)
            expected = [(True, 0.0), (False, 1.03)][: 1 if how == "closed" else 2]
        assert t.aired() == expected


# --- whatever happens -----------------------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(st.sampled_from(["wait", "pause", "resume", "write"]), st.integers(0, 300)), min_size=1, max_size=20
)


@settings(max_examples=150, deadline=None)
@given(
    moves=MOVES,
    last=st.sampled_from(["stop", "end"]),
    fade=st.sampled_from([0.0, 0.005, 0.02, 0.1]),
    limit=st.sampled_from([0.05, 0.2]),
)
def test_every_sample_is_heard_once_and_counted(
    moves: list[tuple[str, int]], last: str, fade: float, limit: float
) -> None:
    async def conversation() -> None:
        async with track(fade=fade, limit=limit) as t:
            made = tone(0.2)
            voice = t.play("a", made, end=False)
            for move, ms in moves:
                if move == "write":
                    part = tone(ms / 1000, level=2000.0 + ms)
                    add(voice, part)
                    made = np.concatenate([made, part])
                elif move == "wait":
                    await asyncio.sleep(ms / 1000)
                elif move == "pause":
                    t.playout.pause("a", 1)
                else:
                    t.playout.resume("a", 1)
            if last == "stop":
                t.playout.stop("a", 1)
            else:
                voice.end()
                t.playout.resume("a", 1)
                await asyncio.sleep(len(made) / RATE)
            await t.settled()
            check(t, made, tail=round(fade * RATE) if last == "stop" else 0)

    run(conversation())


def check(t: Track, made: Pcm, *, tail: int) -> None:
    """What was heard is the beginning of what was made, but for a faded end, and all of it was counted."""
    heard = t.heard()
    ends = [event for _, event in t.events if isinstance(event, Played) and event.what in ("stopped", "finished")]
    (end,) = ends
    assert end.samples == len(heard)
    sure = max(0, len(heard) - tail)
    assert np.array_equal(heard[:sure], made[:sure])
    assert np.array_equal(heard[sure:], made[sure : len(heard)]) or any(
        np.array_equal(heard[cut:], faded(made[cut : len(heard)])) and np.array_equal(heard[:cut], made[:cut])
        for cut in range(sure, len(heard))
    )
    assert end.what == "stopped" or len(heard) == len(made)
    counts = [event.samples for _, event in t.events if isinstance(event, Played) and event.what != "started"]
    assert counts == sorted(counts)
    sounds = t.aired()
    assert all(one[0] != other[0] and one[1] <= other[1] for one, other in itertools.pairwise(sounds))
