"""Whose request is next."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from greenroom.models.queue import FairQueue, Request

LONG = 8.0


def queue(*requests: Request, slots: int = 2, batch: int = 1) -> FairQueue:
    made = FairQueue(slots=slots, batch=batch, long=LONG)
    for request in requests:
        made.put(request)
    return made


def ids(groups: list[list[Request]]) -> list[list[int]]:
    return [[request.id for request in group] for group in groups]


def test_no_more_than_there_are_slots() -> None:
    asked = queue(*(Request(n, caller=n) for n in range(5)))
    assert ids(asked.take()) == [[0], [1]]
    assert ids(asked.take()) == []
    asked.done(0)
    assert ids(asked.take()) == [[2]]
    assert (asked.waiting, asked.working) == (2, 2)


def test_callers_take_turns() -> None:
    asked = queue(*(Request(n, caller=1) for n in (10, 11, 12)), Request(20, caller=2), Request(30, caller=3), slots=1)
    order = []
    while groups := asked.take():
        order += ids(groups)[0]
        asked.done(order[-1])
    assert order == [10, 20, 30, 11, 12]


def test_a_long_request_leaves_a_slot_for_short_ones() -> None:
    asked = queue(Request(1, caller=1, size=60.0), Request(2, caller=2, size=60.0), Request(3, caller=3, size=1.0))
    assert ids(asked.take()) == [[1], [3]]
    asked.done(3)
    assert ids(asked.take()) == []
    asked.put(Request(4, caller=4, size=1.0))
    assert ids(asked.take()) == [[4]]
    asked.done(1)
    assert ids(asked.take()) == [[2]]


def test_where_there_is_one_slot_long_requests_have_it_in_turn() -> None:
    asked = queue(Request(1, caller=1, size=60.0), Request(2, caller=2), slots=1)
    assert ids(asked.take()) == [[1]]


def test_who_was_passed_over_is_before_who_came_later() -> None:
    asked = queue(Request(1, caller=1, size=60.0), Request(2, caller=2, size=50.0), Request(3, caller=3, size=60.0))
    assert ids(asked.take()) == [[1]]
    asked.done(1)
    assert ids(asked.take()) == [[2]]


def test_what_a_host_may_have_died_of_is_worked_on_alone() -> None:
    asked = queue(Request(1, caller=1), Request(2, caller=2, again=True), Request(3, caller=3))
    assert ids(asked.take()) == [[1]]
    asked.done(1)
    assert ids(asked.take()) == [[2]]
    asked.put(Request(4, caller=4))
    assert ids(asked.take()) == []
    asked.done(2)
    assert ids(asked.take()) == [[3], [4]]


def test_short_requests_of_several_callers_go_in_one_batch() -> None:
    asked = queue(
        Request(1, caller=1),
        Request(2, caller=1),
        Request(3, caller=2, size=60.0),
        Request(4, caller=3),
        Request(5, caller=4),
        slots=1,
        batch=3,
    )
    assert ids(asked.take()) == [[1, 4, 5]]
    for done in (1, 4):
        asked.done(done)
        assert asked.take() == []
    asked.done(5)
    assert ids(asked.take()) == [[3]]


def test_what_is_dropped_while_it_waits_is_not_begun() -> None:
    first, second = Request(1, caller=1), Request(2, caller=2)
    asked = queue(first, second, slots=1)
    asked.take()
    assert asked.drop(second)
    assert not asked.drop(second)
    assert not asked.drop(first)
    asked.done(1)
    assert asked.take() == []


@dataclass(frozen=True)
class Happening:
    """Something is asked, or the oldest work ends, or the newest that waits is dropped."""

    what: str
    caller: int = 0
    size: float = 0.0
    again: bool = False


HAPPENINGS = st.lists(
    st.one_of(
        st.builds(
            Happening,
            st.just("ask"),
            st.integers(1, 4),
            st.sampled_from([1.0, 60.0]),
            st.sampled_from([False, False, False, True]),
        ),
        st.just(Happening("done")),
        st.just(Happening("drop")),
    ),
    max_size=60,
)


class Watched:
    """A queue, and what has to be so of it at any moment."""

    def __init__(self, slots: int, batch: int) -> None:
        self.slots, self.batch = slots, batch
        self.asked = FairQueue(slots=slots, batch=batch, long=LONG)
        self.waiting: dict[int, Request] = {}
        self.groups: list[set[int]] = []
        self.known: dict[int, Request] = {}
        self.begun: list[int] = []

    def happen(self, n: int, event: Happening) -> None:
        if event.what == "ask":
            self.known[n] = self.waiting[n] = Request(n, event.caller, event.size, event.again)
            self.asked.put(self.known[n])
        elif event.what == "done" and self.groups:
            self._end(min(self.groups[0]))
        elif event.what == "drop" and self.waiting:
            request = self.waiting.pop(max(self.waiting))
            assert self.asked.drop(request)
        self.take()

    def take(self) -> None:
        for group in self.asked.take():
            assert 1 <= len(group) <= self.batch
            for request in group:
                del self.waiting[request.id]
                self.begun.append(request.id)
            self.groups.append({request.id for request in group})
            self._check(group)

    def finish(self) -> None:
        """Whatever waits is begun once what is in work has ended."""
        while self.groups:
            self._end(min(self.groups[0]))
            self.take()
        assert not self.waiting

    def _end(self, request_id: int) -> None:
        self.asked.done(request_id)
        self.groups[0].discard(request_id)
        self.groups = [group for group in self.groups if group]

    def _check(self, group: list[Request]) -> None:
        assert len(self.groups) <= self.slots
        if any(request.again for request in group):
            assert len(group) == len(self.groups) == 1
        if len(group) > 1:
            assert all(request.size <= LONG for request in group)
            assert len({request.caller for request in group}) == len(group)
        long = sum(any(self.known[one].size > LONG for one in each) for each in self.groups)
        assert long <= max(1, self.slots - 1)


@given(st.integers(1, 4), st.integers(1, 3), HAPPENINGS)
def test_whatever_happens_everything_is_begun_in_order(slots: int, batch: int, happenings: list[Happening]) -> None:
    watched = Watched(slots, batch)
    for n, event in enumerate(happenings):
        watched.happen(n, event)
    watched.finish()
    for caller in range(1, 5):
        own = [one for one in watched.begun if watched.known[one].caller == caller]
        assert own == sorted(own)
