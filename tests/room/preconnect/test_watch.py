"""Which stream is the recording, and how long it is waited for: explicit times, and what always holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.room.preconnect.watch import (
    AGAIN,
    COPY,
    ELSEWHERE,
    FINISHING,
    HEARD,
    LATE,
    LATEST,
    MANY,
    MOST_HELD,
    MOST_TRIED,
    OTHERS,
    OVER,
    TABLE,
    AudioDecoded,
    BufferWatch,
    CallerGone,
    CallerLinked,
    Deliver,
    Drop,
    Finish,
    Hold,
    PieceArrived,
    Refuse,
    Release,
    State,
    StreamEnded,
    StreamOpened,
    Take,
    Tick,
    TrackExpected,
    TrackGone,
    VoiceHeard,
    WatchCommand,
    WatchEvent,
)

TIMEOUT, MAX_WAIT = 3.0, 10.0
MIC, OTHER = "TR_mic", "TR_other"


def expecting(*, promised: bool = True, at: float = 0.0) -> BufferWatch:
    """Ann's microphone has just been asked for."""
    watch = BufferWatch(timeout=TIMEOUT, max_wait=MAX_WAIT)
    watch.handle(CallerLinked("ann"), at)
    watch.handle(TrackExpected(MIC, promised), at)
    return watch


def opened(stream: int = 1, *, sender: str = "ann", track: str = MIC) -> StreamOpened:
    return StreamOpened(stream, sender, track)


def test_a_publication_without_the_promise_is_not_waited_for() -> None:
    watch = BufferWatch(timeout=TIMEOUT)
    watch.handle(CallerLinked("ann"), 0.0)
    assert watch.handle(TrackExpected(MIC, promised=False), 0.0) == [Release("none was promised", missed=False)]


def test_a_recording_is_delivered_when_it_is_whole() -> None:
    watch = expecting()
    assert watch.deadline() == TIMEOUT
    assert watch.handle(opened(), 0.2) == [Take(1)]
    assert watch.handle(PieceArrived(1), 0.3) == []
    assert watch.handle(AudioDecoded(1), 0.3) == []
    assert watch.handle(StreamEnded(1), 0.4) == [Deliver(1, partial=False, late=False)]
    assert watch.deadline() is None


def test_one_that_never_comes_is_given_up() -> None:
    watch = expecting()
    assert watch.handle(Tick(), TIMEOUT - 0.01) == [Drop("a tick before its time")]
    assert watch.handle(Tick(), TIMEOUT) == [Release("none came", missed=True)]


def test_while_it_arrives_it_is_waited_for_but_not_for_ever() -> None:
    watch = expecting()
    watch.handle(opened(), 2.5)
    assert watch.deadline() == 2.5 + TIMEOUT
    for moment in (3.4, 5.2, 7.9):
        assert watch.handle(PieceArrived(1), moment) == []
        assert watch.handle(AudioDecoded(1), moment) == []
    watch.handle(PieceArrived(1), 9.7)
    assert watch.deadline() == MAX_WAIT
    assert watch.handle(Tick(), MAX_WAIT) == [Finish(1)]
    assert watch.handle(StreamEnded(1), MAX_WAIT + 0.1) == [Deliver(1, partial=True, late=False)]


def test_a_stream_that_stalls_is_used_as_far_as_it_came() -> None:
    watch = expecting()
    watch.handle(opened(), 2.8)
    watch.handle(PieceArrived(1), 2.9)
    watch.handle(AudioDecoded(1), 2.9)
    assert watch.handle(Tick(), 2.9 + TIMEOUT) == [Finish(1)]
    assert watch.deadline() == 2.9 + TIMEOUT + FINISHING


def test_a_decoder_that_is_stuck_holds_nobody_up() -> None:
    watch = expecting()
    watch.handle(opened(), 1.0)
    assert watch.handle(Tick(), 1.0 + TIMEOUT) == [Finish(1)]
    stuck = "it could not be decoded in time"
    assert watch.handle(Tick(), 1.0 + TIMEOUT + FINISHING) == [Refuse(1, stuck), Release(stuck, missed=False)]
    watch = expecting()
    watch.handle(opened(), 1.0)
    watch.handle(AudioDecoded(1), 1.1)
    watch.handle(Tick(), 1.0 + TIMEOUT)
    assert watch.handle(Tick(), 1.0 + TIMEOUT + FINISHING) == [Deliver(1, partial=True, late=False)]


def test_a_late_one_is_used_while_nothing_was_heard() -> None:
    watch = expecting()
    watch.handle(Tick(), TIMEOUT)
    assert watch.handle(opened(), 4.0) == [Take(1)]
    watch.handle(AudioDecoded(1), 4.1)
    assert watch.handle(StreamEnded(1), 4.2) == [Deliver(1, partial=False, late=True)]


def test_a_late_one_is_not_put_before_what_was_heard() -> None:
    watch = expecting()
    watch.handle(Tick(), TIMEOUT)
    assert watch.handle(VoiceHeard(), 3.5) == []
    assert watch.handle(opened(), 4.0) == [Refuse(1, HEARD)]
    watch = expecting()
    watch.handle(Tick(), TIMEOUT)
    watch.handle(opened(), 4.0)
    assert watch.handle(VoiceHeard(), 4.1) == [Refuse(1, HEARD)]
    assert watch.handle(StreamEnded(1), 4.2) == [Drop("StreamEnded while done")]


def test_after_a_while_it_is_too_late_for_good() -> None:
    watch = expecting()
    watch.handle(Tick(), TIMEOUT)
    assert watch.deadline() == TIMEOUT + LATEST
    watch.handle(Tick(), TIMEOUT + LATEST)
    assert watch.handle(opened(), TIMEOUT + LATEST + 1) == [Refuse(1, LATE)]


def test_one_without_audio_is_not_waited_for_but_the_next_may_be_better() -> None:
    watch = expecting()
    watch.handle(opened(1), 0.1)
    nothing = "it holds no audio"
    assert watch.handle(StreamEnded(1), 0.2) == [Refuse(1, nothing), Release(nothing, missed=False)]
    assert watch.handle(opened(2), 0.3) == [Take(2)]
    watch.handle(AudioDecoded(2), 0.4)
    assert watch.handle(StreamEnded(2), 0.5) == [Deliver(2, partial=False, late=True)]


def test_worthless_ones_are_not_tried_for_ever() -> None:
    watch = expecting()
    for stream in range(1, MOST_TRIED + 1):
        assert Take(stream) in watch.handle(opened(stream), 0.1 * stream)
        watch.handle(StreamEnded(stream), 0.1 * stream)
    assert watch.handle(opened(9), 1.0) == [Refuse(9, MANY)]


def test_a_second_copy_is_refused() -> None:
    watch = expecting()
    watch.handle(opened(1), 0.1)
    assert watch.handle(opened(2), 0.1) == [Refuse(2, COPY)]
    watch.handle(AudioDecoded(1), 0.2)
    watch.handle(StreamEnded(1), 0.2)
    assert watch.handle(opened(3), 0.3) == [Refuse(3, COPY)]


def test_without_a_track_it_is_its_senders() -> None:
    assert expecting().handle(opened(track=""), 0.1) == [Take(1)]


@pytest.mark.parametrize("track", [MIC, "", OTHER])
def test_others_cannot_speak_for_the_caller(track: str) -> None:
    assert expecting().handle(opened(sender="bob", track=track), 0.1) == [Refuse(1, OTHERS)]


def test_another_track_is_not_the_callers() -> None:
    watch = expecting()
    assert watch.handle(opened(track=OTHER), 0.5) == [Hold(1)]
    assert watch.handle(Tick(), TIMEOUT) == [Release("none came", missed=True)]
    assert watch.handle(Tick(), 0.5 + TIMEOUT) == [Refuse(1, ELSEWHERE)]


def test_a_stream_may_be_faster_than_the_news_of_its_track() -> None:
    watch = expecting()
    watch.handle(opened(track=OTHER), 0.5)
    watch.handle(TrackGone(MIC), 0.6)
    assert watch.handle(TrackExpected(OTHER, promised=True), 0.7) == [Take(1)]


def test_streams_wait_until_it_is_known_whose_they_are() -> None:
    watch = BufferWatch(timeout=TIMEOUT, max_wait=MAX_WAIT)
    assert watch.handle(opened(1, sender="bob"), 0.0) == [Hold(1)]
    assert watch.handle(opened(2), 0.0) == [Hold(2)]
    assert watch.handle(CallerLinked("ann"), 0.1) == [Refuse(1, OTHERS)]
    assert watch.handle(TrackExpected(MIC, promised=True), 0.1) == [Take(2)]


def test_only_a_few_streams_wait() -> None:
    watch = BufferWatch()
    held = [watch.handle(opened(stream), 0.0) for stream in range(1, 101)]
    assert held[:MOST_HELD] == [[Hold(stream)] for stream in range(1, MOST_HELD + 1)]
    assert held[MOST_HELD:] == [[Refuse(stream, MANY)] for stream in range(MOST_HELD + 1, 101)]
    watch.handle(CallerLinked("ann"), 0.1)
    assert watch.handle(TrackExpected(MIC, promised=True), 0.1) == [Take(1), *(Refuse(n, COPY) for n in (2, 3, 4))]


def test_whoever_leaves_takes_it_along() -> None:
    watch = expecting()
    watch.handle(opened(), 0.1)
    assert watch.handle(CallerGone(), 0.2) == [Refuse(1, OVER)]
    assert (watch.state, watch.deadline()) == (State.ABSENT, None)


def test_a_new_track_of_the_same_caller_is_waited_for_but_not_long() -> None:
    watch = expecting()
    watch.handle(Tick(), TIMEOUT)
    watch.handle(TrackGone(MIC), 20.0)
    assert watch.handle(TrackExpected(OTHER, promised=True), 20.0) == []
    assert watch.deadline() == 20.0 + AGAIN


def test_a_connection_that_is_rebuilt_waits_for_nothing_again() -> None:
    watch = expecting()
    watch.handle(Tick(), TIMEOUT)
    watch.handle(CallerGone(), 20.0)
    watch.handle(CallerLinked("ann"), 21.0)
    assert watch.handle(TrackExpected(MIC, promised=True), 21.0) == [Release("none was promised", missed=False)]


# --- whatever happens -----------------------------------------------------------------------------------------------

STREAMS = st.integers(1, 6)
EVENTS: st.SearchStrategy[WatchEvent] = st.one_of(
    st.sampled_from(["ann", "bob"]).map(CallerLinked),
    st.just(CallerGone()),
    st.builds(TrackExpected, st.sampled_from([MIC, OTHER]), st.booleans()),
    st.sampled_from([MIC, OTHER]).map(TrackGone),
    st.builds(StreamOpened, st.just(0), st.sampled_from(["ann", "bob"]), st.sampled_from(["", MIC, OTHER])),
    STREAMS.map(PieceArrived),
    STREAMS.map(AudioDecoded),
    st.builds(StreamEnded, STREAMS, st.sampled_from(["", "it broke off"])),
    st.just(VoiceHeard()),
    st.just(Tick()),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.floats(0.0, 2.0)), max_size=60))
def test_every_stream_has_one_end_and_no_wait_is_longer_than_it_may_be(steps: list[tuple[WatchEvent, float]]) -> None:
    watch = BufferWatch(timeout=TIMEOUT, max_wait=MAX_WAIT)
    now, number = 0.0, 0
    waiting_since: float | None = None
    live: set[int] = set()
    taken: int | None = None
    for event, pause in steps:
        deadline = watch.deadline()
        now = now + pause if deadline is None else min(now + pause, max(now, deadline))
        if deadline is not None and now >= deadline:
            event = Tick()  # the pump rings in time
        if isinstance(event, StreamOpened):
            number += 1
            event = StreamOpened(number, event.sender, event.track)
            live.add(number)
        before = watch.state
        commands: list[WatchCommand] = watch.handle(event, now)
        assert watch.state in {before, *TABLE[before].get(type(event), ())}
        if isinstance(event, TrackExpected) and not any(isinstance(command, Drop) for command in commands):
            waiting_since = now
        for command in commands:
            match command:
                case Hold(stream) | Finish(stream):
                    assert stream in live
                case Take(stream):
                    assert stream in live
                    taken = stream
                case Refuse(stream, _):
                    live.remove(stream)
                    taken = None if taken == stream else taken
                case Deliver(stream, _, late):
                    assert stream == taken
                    live.remove(stream)
                    taken = None
                    if not late:
                        waiting_since = None
                case Release():
                    assert waiting_since is not None
                    waiting_since = None
        if watch.state is State.ABSENT:
            waiting_since = None
        if waiting_since is not None:
            assert now - waiting_since <= MAX_WAIT + FINISHING
            assert watch.deadline() is not None
        assert len(live) <= MOST_HELD + 1
        deadline = watch.deadline()
        assert deadline is None or deadline >= now - 1e-9 or isinstance(event, StreamOpened | TrackExpected)
