from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.jobs.admission import Admission, Condition, Refusal, Refused, Reserved


def test_two_offers_and_one_slot() -> None:
    admission = Admission(1)
    assert admission.reserve("a") == Reserved("a", 0)
    assert admission.reserve("b") == Refused("b", Refusal.FULL)
    assert admission.free("a")
    assert admission.reserve("b") == Reserved("b", 0)


def test_a_job_holds_one_slot_however_often_it_is_offered() -> None:
    admission = Admission(3)
    admission.reserve("a")
    assert admission.reserve("a") == Reserved("a", 2)
    assert admission.start("a")
    assert admission.start("a")
    assert (admission.available, admission.running) == (2, 1)
    assert admission.free("a")
    assert not admission.free("a")
    assert admission.available == 3


def test_an_assignment_after_its_slot_was_freed() -> None:
    admission = Admission(1)
    admission.reserve("late")
    admission.free("late")
    assert not admission.start("late")
    assert admission.available == 1


def test_draining_keeps_what_was_promised() -> None:
    admission = Admission(2)
    admission.reserve("promised")
    admission.drain()
    assert admission.reserve("new") == Refused("new", Refusal.DRAINING)
    assert admission.start("promised")
    assert not admission.idle
    admission.free("promised")
    assert admission.idle


def test_an_agent_that_does_not_boot_takes_no_slot() -> None:
    admission = Admission(1)
    assert admission.reserve("a", Condition(warm=False)) == Refused("a", Refusal.NO_WARM_PROCESS)
    assert admission.available == 1


def test_a_live_call_is_adopted_even_beyond_the_limit() -> None:
    admission = Admission(1)
    admission.reserve("a")
    admission.adopt("from before")
    assert admission.available == 0
    assert admission.reserve("b") == Refused("b", Refusal.FULL)
    admission.free("a")
    assert admission.reserve("b") == Refused("b", Refusal.FULL)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (Condition(memory_mb=199), Refusal.LOW_MEMORY),
        (Condition(memory_mb=200), None),
        (Condition(memory_mb=None), None),
        (Condition(lag=0.51), Refusal.LAGGING),
        (Condition(lag=0.5), None),
        (Condition(warm=False, memory_mb=0, lag=9), Refusal.NO_WARM_PROCESS),
    ],
)
def test_a_slot_alone_is_not_enough(condition: Condition, reason: Refusal | None) -> None:
    admission = Admission(1, headroom_mb=200, max_lag=0.5)
    assert admission.refusal(condition) is reason
    assert admission.reserve("a", condition) == (Refused("a", reason) if reason else Reserved("a", 0))
    # With its limits off nothing of that counts.
    assert Admission(1).refusal(Condition(memory_mb=0, lag=9)) is None


def test_fewer_slots_end_nobodys_call() -> None:
    admission = Admission(3)
    for job_id in "abc":
        admission.reserve(job_id)
        admission.start(job_id)
    admission.limit(1)
    assert (admission.available, admission.running) == (0, 3)
    admission.free("a")
    admission.free("b")
    assert admission.refusal() is Refusal.FULL
    admission.free("c")
    assert admission.refusal() is None


def test_a_drain_may_be_taken_back() -> None:
    admission = Admission(1)
    admission.drain()
    admission.drain(False)
    assert admission.reserve("a") == Reserved("a", 0)
    assert admission.promised == 1
    admission.start("a")
    assert admission.promised == 0


def test_a_worker_without_slots_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Admission(0)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["reserve", "start", "free"]), st.sampled_from("abcdef"))),
)
def test_never_more_than_the_total(total: int, steps: list[tuple[str, str]]) -> None:
    admission = Admission(total)
    held: set[str] = set()
    for step, job_id in steps:
        if step == "reserve" and isinstance(admission.reserve(job_id), Reserved):
            held.add(job_id)
        elif step == "start":
            assert admission.start(job_id) == (job_id in held)
        elif step == "free":
            assert admission.free(job_id) == (job_id in held)
            held.discard(job_id)
        assert len(held) <= total
        assert admission.available == total - len(held)
        assert 0 <= admission.running <= len(held)
