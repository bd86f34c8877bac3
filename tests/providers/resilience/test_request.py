"""The machine of one request, by timelines and at random."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.providers.resilience.request import (
    TURNS,
    Abandon,
    Ask,
    Began,
    Blame,
    Came,
    Command,
    Ended,
    Event,
    Failed,
    Fed,
    Finish,
    GiveUp,
    Hedged,
    Request,
    Starved,
    State,
    Tick,
    Use,
    Wanted,
)
from greenroom.providers.resilience.rules import Rules

RULES = Rules(attempts=2, delay=0.2, max_delay=2.0, timeout=5.0, stall=3.0)


def request(models: int = 1, *, rules: Rules = RULES, **options: Any) -> Request:
    made = Request(range(models), [rules] * models, spread=1.0, **options)
    assert made.handle(Began(), 0.0) == [Ask(1, 0)]
    return made


def test_an_answer_is_used_and_ends() -> None:
    one = request()
    assert one.deadline() == 5.0
    assert one.handle(Came(1), 0.4) == [Use(1, 0)]
    assert one.deadline() is None  # nobody waits for more
    assert one.handle(Wanted(), 1.0) == []
    assert one.deadline() == 4.0
    assert one.handle(Came(1), 1.1) == []
    assert one.handle(Wanted(), 1.2) == []
    assert one.handle(Ended(1), 1.3) == [Finish()]
    assert one.state is State.ENDED
    assert one.handle(Failed(1), 1.4) == []


def test_a_failure_is_tried_again_after_a_delay_and_then_told() -> None:
    one = request()
    assert one.handle(Failed(1), 1.0) == [Blame(0, "error", "retried", 1, 0, spent=False)]
    assert one.deadline() == 1.2
    assert one.handle(Tick(), 1.2) == [Ask(2, 0)]
    assert one.handle(Failed(2), 1.3) == [Blame(0, "error", "gave_up", 2), GiveUp(2)]
    assert one.state is State.FAILED
    assert one.deadline() is None


def test_the_delay_doubles_up_to_the_longest_with_jitter() -> None:
    rules = Rules(attempts=6, delay=0.5, max_delay=1.5)
    for spread, expected in ((1.0, [0.5, 1.0, 1.5, 1.5]), (0.0, [0.25, 0.5, 0.75, 0.75])):
        one = Request([0], [rules], spread=spread)
        one.handle(Began(), 0.0)
        waits = []
        for attempt in range(1, 5):
            one.handle(Failed(attempt), 0.0)
            waits.append(one.deadline())
            one.handle(Tick(), waits[-1] or 0.0)
        assert waits == expected


def test_what_would_fail_again_is_not_tried_again() -> None:
    assert request().handle(Failed(1, retryable=False), 1.0) == [Blame(0, "refused", "gave_up", 1), GiveUp(1)]
    assert request(2).handle(Failed(1, retryable=False), 1.0) == [Blame(0, "refused", "fell_back", 1, 1), Ask(2, 1)]


def test_a_vendor_says_how_long_to_wait() -> None:
    one = request()
    one.handle(Failed(1, wait=1.5), 1.0)
    assert one.deadline() == 2.5
    assert request().handle(Failed(1, wait=30.0), 1.0) == [Blame(0, "error", "gave_up", 1), GiveUp(1)]
    assert request(2).handle(Failed(1, wait=30.0), 1.0) == [Blame(0, "error", "fell_back", 1, 1), Ask(2, 1)]


def test_who_is_late_is_tried_again_where_nobody_else_is_left() -> None:
    one = request()
    assert one.handle(Tick(), 5.0) == [Abandon(1), Blame(0, "timeout", "retried", 1, 0, spent=False)]
    assert one.handle(Tick(), one.deadline() or 0.0) == [Ask(2, 0)]
    late = one.handle(Tick(), one.deadline() or 0.0)
    assert late == [Abandon(2), Blame(0, "timeout", "gave_up", 2), GiveUp(2)]


def test_who_is_late_makes_room_for_the_next() -> None:
    one = request(2)
    assert one.handle(Tick(), 5.0) == [Abandon(1), Blame(0, "timeout", "fell_back", 1, 1), Ask(2, 1)]
    assert one.handle(Came(1), 5.1) == []  # too late
    assert one.handle(Came(2), 5.2) == [Use(2, 1)]


def test_each_model_has_its_own_patience() -> None:
    one = Request([0, 1], [Rules(timeout=1.0), Rules(timeout=4.0, attempts=1)])
    one.handle(Began(), 0.0)
    one.handle(Tick(), 1.0)
    assert one.deadline() == 5.0
    assert one.handle(Failed(2), 2.0) == [Blame(1, "error", "gave_up", 2), GiveUp(2)]


def test_nothing_is_said_twice() -> None:
    for event, fault in ((Failed(1), "cut"), (Tick(), "stall")):
        one = request(2)
        one.handle(Came(1), 1.0)
        one.handle(Wanted(), 1.0)
        commands = one.handle(event, 4.0)
        assert [command for command in commands if not isinstance(command, Abandon)] == [
            Blame(0, fault, "gave_up", 1),  # type: ignore[arg-type]
            GiveUp(1),
        ]


def test_what_can_be_resumed_goes_on() -> None:
    one = request(2, resumable=True)
    one.handle(Came(1), 1.0)
    one.handle(Wanted(), 1.0)
    assert one.handle(Failed(1, retryable=False), 2.0) == [Blame(0, "cut", "fell_back", 1, 1), Ask(2, 1)]
    assert one.handle(Came(2), 2.5) == [Use(2, 1)]
    one.handle(Wanted(), 2.5)
    assert one.handle(Tick(), 5.5) == [Abandon(2), Blame(1, "stall", "retried", 2, 1, spent=False)]
    assert one.handle(Tick(), one.deadline() or 0.0) == [Ask(3, 1)]
    assert one.handle(Ended(3), 6.0) == [Finish()]


def test_an_answer_with_nothing_in_it() -> None:
    for allowed, end in ((False, [Blame(0, "silence", "gave_up", 2), GiveUp(2)]), (True, [Finish()])):
        one = request(empty=allowed)
        assert one.handle(Ended(1, empty=True), 1.0) == [Blame(0, "silence", "retried", 1, 0, spent=False)]
        one.handle(Tick(), 2.0)
        assert one.handle(Ended(2, empty=True), 3.0) == end


def test_who_waits_for_its_text_is_not_late() -> None:
    one = request()
    one.handle(Starved(1), 1.0)
    assert one.deadline() is None
    one.handle(Wanted(), 2.0)
    assert one.deadline() is None
    one.handle(Fed(1), 60.0)
    assert one.deadline() == 65.0


def test_a_hedge_that_wins() -> None:
    one = request(2, hedge_after=1.0)
    assert one.deadline() == 1.0
    assert one.handle(Tick(), 1.0) == [Ask(2, 1)]
    assert one.deadline() == 5.0
    assert one.handle(Came(2), 1.5) == [Use(2, 1), Hedged(0, 1, won=True), Abandon(1)]
    one.handle(Wanted(), 1.5)
    assert one.handle(Failed(1), 1.6) == []
    assert one.handle(Ended(2), 2.0) == [Finish()]


def test_a_hedge_that_loses() -> None:
    one = request(hedge_after=1.0)
    assert one.handle(Tick(), 1.0) == [Ask(2, 0)]  # the same model, where there is no other
    assert one.handle(Came(1), 1.5) == [Use(1, 0), Hedged(0, 0, won=False), Abandon(2)]


def test_a_quick_answer_is_not_hedged() -> None:
    one = request(2, hedge_after=1.0)
    one.handle(Came(1), 0.5)
    one.handle(Wanted(), 0.5)
    assert one.deadline() == 3.5


def test_of_two_one_may_fail() -> None:
    one = request(2, hedge_after=1.0)
    one.handle(Tick(), 1.0)
    assert one.handle(Failed(1), 1.2) == [Blame(0, "error", "hedged", 1, 1)]
    assert one.handle(Failed(2), 1.3) == [Blame(1, "error", "retried", 2, 1, spent=False)]
    assert one.handle(Tick(), one.deadline() or 0.0) == [Ask(3, 1)]
    assert one.handle(Came(3), 2.0) == [Use(3, 1)]
    other = request(2, hedge_after=1.0)
    other.handle(Tick(), 1.0)
    assert other.handle(Ended(2, empty=True), 1.2) == [Blame(1, "silence", "hedged", 2, 0)]
    assert other.handle(Failed(1), 1.3) == [Blame(0, "error", "retried", 1, 0, spent=False)]


def events() -> st.SearchStrategy[Event]:
    attempt = st.integers(1, 8)
    return st.one_of(
        st.builds(Wanted),
        st.builds(Came, attempt),
        st.builds(Ended, attempt, st.booleans()),
        st.builds(Failed, attempt, st.booleans(), st.sampled_from([None, 0.5, 9.0])),
        st.builds(Starved, attempt),
        st.builds(Fed, attempt),
        st.builds(Tick),
    )


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([None, 0.5, 20.0]),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(events(), st.floats(0, 3)), max_size=40),
)
def test_whatever_happens(
    models: int, hedge_after: float | None, resumable: bool, empty: bool, story: list[tuple[Event, float]]
) -> None:
    one = Request(range(models), [RULES] * models, hedge_after=hedge_after, resumable=resumable, empty=empty)
    now, live, over, state = 0.0, set[int](), 0, one.state
    asked: dict[int, int] = {}
    done: list[Command] = []
    for event, gap in [(Began(), 0.0), *story]:
        deadline = one.deadline()
        assert deadline is None or deadline >= now
        now = min(now + gap, deadline if deadline is not None else now + gap)
        commands = one.handle(Tick() if now == deadline else event, now)
        assert one.state is state or one.state in TURNS[state] or len(commands) > 1
        state = one.state
        for command in commands:
            assert not over, "nothing happens after the end"
            match command:
                case Ask(number, model):
                    assert number == len(asked) + 1
                    asked[number] = model
                    live.add(number)
                case Use(number, _):
                    assert number in live
                case Abandon(number):
                    assert number in live
                    live.discard(number)
                case Blame(_, _, _, number):
                    live.discard(number)
                case Finish() | GiveUp():
                    over += 1
        done += commands
        ended = event if isinstance(event, Ended) else None
        if ended is not None and over:
            live.discard(ended.attempt)
        assert len(live) <= 2
    for model in range(models):
        times = list(asked.values()).count(model)
        assert times <= RULES.attempts
    assert over <= 1
    hedged = [command for command in done if isinstance(command, Hedged)]
    assert len(hedged) <= 1
    if over:
        assert one.deadline() is None
