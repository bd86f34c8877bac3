"""The machine of one transcriber's stream."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.providers.resilience.listening import (
    TURNS,
    Again,
    Blame,
    Event,
    Failed,
    Heard,
    Listening,
    Move,
    Raise,
    Release,
    Resumed,
    State,
    Tick,
    UtteranceBegan,
    UtteranceEnded,
)
from greenroom.providers.resilience.rules import Rules

RULES = Rules(attempts=2, delay=0.2, max_delay=2.0, timeout=5.0)
ALONE, BOTH = (0,), (0, 1)


def listening(models: int = 1) -> Listening:
    return Listening([RULES] * models, tuple(range(models)), spread=1.0)


def spoken(one: Listening, order: tuple[int, ...] = ALONE, *, at: float = 1.0, name: str = "u1") -> None:
    assert one.handle(UtteranceBegan(name, order), at - 1.0) == []
    assert one.handle(UtteranceEnded(name, 1.0), at) == []


def test_words_are_due_after_an_utterance() -> None:
    one = listening()
    assert one.deadline() is None
    spoken(one)
    assert one.deadline() == 7.0
    one.handle(Heard(), 2.0)  # some, not all
    assert one.deadline() == 7.0
    one.handle(Heard("u1"), 3.0)
    assert one.deadline() is None


def test_a_failing_stream_is_read_on() -> None:
    one = listening()
    assert one.handle(Failed(ALONE), 1.0) == [Blame(0, "error", "retried", 0, spent=False)]
    assert one.deadline() == 1.2
    assert one.handle(Tick(ALONE), 1.2) == [Again()]
    one.handle(Heard(), 1.3)  # it works: with nothing owed the count begins anew
    assert one.handle(Failed(ALONE), 2.0) == [Blame(0, "error", "retried", 0, spent=False)]
    one.handle(Tick(ALONE), 2.2)
    assert one.handle(Failed(ALONE), 3.0) == [Blame(0, "error", "gave_up"), Raise()]
    assert one.state is State.STOPPED
    assert one.handle(Resumed(ALONE), 4.0) == [Move(0)]


def test_another_one_listens() -> None:
    one = listening(2)
    spoken(one, BOTH)
    assert one.handle(Failed(BOTH, retryable=False), 2.0) == [Blame(0, "refused", "fell_back", 1), Move(1)]
    assert one.deadline() == 7.0  # from then on
    assert one.handle(Failed((1, 0), retryable=False), 3.0) == [
        Blame(1, "refused", "gave_up"),
        Release("u1"),
        Raise(),
    ]


def test_who_hears_nothing_is_replaced() -> None:
    one = listening(2)
    spoken(one, BOTH)
    assert one.handle(Tick(BOTH), 7.0) == [Blame(0, "timeout", "fell_back", 1), Move(1)]
    alone = listening()
    spoken(alone)
    assert alone.handle(Tick(ALONE), 7.0) == [Blame(0, "timeout", "retried", 0, spent=False), Move(0)]
    assert alone.handle(Tick(ALONE), 12.0) == [Blame(0, "timeout", "gave_up"), Release("u1"), Raise()]
    assert alone.deadline() is None


def test_a_vendor_says_how_long_to_wait() -> None:
    one = listening(2)
    one.handle(Failed(BOTH, wait=1.0), 1.0)
    assert one.deadline() == 2.0
    assert listening(2).handle(Failed(BOTH, wait=20.0), 1.0) == [Blame(0, "error", "fell_back", 1), Move(1)]


def test_back_to_the_first_between_two_utterances() -> None:
    one = listening(2)
    one.handle(Failed(BOTH, retryable=False), 1.0)
    spoken(one, (1, 0), at=3.0)
    assert one.handle(UtteranceBegan("u2", BOTH), 4.0) == []  # words of the first are due
    one.handle(Heard("u1"), 4.0)
    one.handle(UtteranceEnded("u2", 1.0), 5.0)
    one.handle(Heard("u2"), 5.5)
    assert one.handle(UtteranceBegan("u3", BOTH), 6.0) == [Move(0)]
    assert one.model == 0


def events(orders: list[tuple[int, ...]]) -> st.SearchStrategy[Event]:
    order, name = st.sampled_from(orders), st.sampled_from(["u1", "u2", "u3"])
    return st.one_of(
        st.builds(UtteranceBegan, name, order),
        st.builds(UtteranceEnded, name, st.floats(0, 3)),
        st.builds(Heard, st.sampled_from(["", "u1", "u2"])),
        st.builds(Failed, order, st.booleans(), st.sampled_from([None, 0.5, 9.0])),
        st.builds(Resumed, order),
        st.builds(Tick, order),
    )


@settings(deadline=None)
@given(st.data())
def test_whatever_happens(data: st.DataObject) -> None:
    models = data.draw(st.integers(1, 3))
    orders = [tuple(one) for one in data.draw(st.lists(st.permutations(range(models)), min_size=1, max_size=4))]
    one = Listening([RULES] * models, orders[0])
    now, state, due = 0.0, one.state, set[str]()
    story: list[tuple[Any, float]] = data.draw(st.lists(st.tuples(events(orders), st.floats(0, 3)), max_size=40))
    for event, gap in story:
        deadline = one.deadline()
        assert deadline is None or deadline >= now
        now = min(now + gap, deadline if deadline is not None else now + gap)
        happens = Tick(orders[0]) if now == deadline else event
        commands = one.handle(happens, now)
        assert one.state is state or one.state in TURNS[state]
        state = one.state
        if isinstance(happens, UtteranceEnded) and one.deadline() is not None:
            due.add(happens.utterance)
        for command in commands:
            match command:
                case Move(model):
                    assert model == one.model
                    assert one.state is State.LISTENING
                case Release(utterance):
                    assert utterance in due
                case Raise():
                    assert one.state is State.STOPPED


def test_a_stream_that_breaks_off_after_some_words_each_time_is_left() -> None:
    one = listening(2)
    spoken(one, BOTH)
    one.handle(Heard(), 1.1)
    one.handle(Failed(BOTH), 1.2)
    one.handle(Tick(BOTH), one.deadline() or 0.0)
    one.handle(Heard(), 2.0)
    assert one.handle(Failed(BOTH), 2.1) == [Blame(0, "error", "fell_back", 1), Move(1)]
