"""Whether an offer is for a new call, or for one that has its agent here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from greenroom.server.events import Offer
from greenroom.server.rooms import Adopt, Compare, Serve, Serving, compared, judge

OFFER = Offer(id="AJ_2", job_type="room", room="lobby", room_sid="RM_1", agent_name="reception", dispatch_id="AD_2")
JOB = Serving(
    job_id="AJ_1",
    agent_name="reception",
    job_type="room",
    room="lobby",
    room_sid="RM_1",
    participant="",
    identity="agent-AJ_1",
    dispatch_id="AD_1",
    connection="connected",
)
ADOPTED = Adopt("AJ_1", "agent-AJ_1")


def test_a_room_without_our_agent_is_served() -> None:
    assert judge(OFFER, []) == Serve()


@pytest.mark.parametrize(
    "other",
    [{"agent_name": "porter"}, {"room": "kitchen"}, {"job_type": "participant"}, {"participant": "ann"}],
    ids=lambda other: next(iter(other)),
)
def test_another_agent_or_room_or_participant_is_not_concerned(other: dict[str, Any]) -> None:
    assert judge(OFFER, [replace(JOB, connection="away", room_sid="RM_0", **other)]) == Serve()


@pytest.mark.parametrize("connection", ["connected", "away", "unknown"])
def test_the_same_dispatch_is_never_served_twice(connection: Any) -> None:
    again = replace(OFFER, dispatch_id="AD_1")
    assert judge(again, [replace(JOB, connection=connection)]) == ADOPTED


def test_a_caller_who_comes_back_to_a_participant_job_finds_its_agent() -> None:
    offer = replace(OFFER, job_type="participant", participant_identity="ann", dispatch_id="AD_1")
    job = replace(JOB, job_type="participant", participant="ann")
    assert judge(offer, [replace(job, participant="bob"), job]) == ADOPTED
    assert judge(offer, [replace(job, participant="bob")]) == Serve()


def test_dispatches_without_an_id_are_not_the_same() -> None:
    assert judge(replace(OFFER, dispatch_id=""), [replace(JOB, dispatch_id="", room_sid="RM_0")]) == Serve()


def test_a_restarted_server_that_made_the_room_anew_gives_the_agent_its_job_back() -> None:
    assert judge(OFFER, [replace(JOB, room_sid="RM_0", connection="away")]) == ADOPTED


def test_a_room_that_was_deleted_and_made_again_is_a_new_call() -> None:
    """The job of the old room has not noticed yet, or is about to end."""
    assert judge(OFFER, [replace(JOB, room_sid="RM_0")]) == Serve()
    assert judge(OFFER, [replace(JOB, room_sid="RM_0", interrupted=True)]) == Serve()


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        replace(JOB, connection="away"),
        replace(JOB, interrupted=True),
        replace(JOB, connection="unknown"),
        replace(JOB, connection="unknown", room_sid="RM_0"),
        replace(JOB, connection="unknown", room_sid=""),
    ],
)
def test_where_the_room_is_or_may_be_the_same_its_dispatches_tell(job: Serving) -> None:
    comparison = judge(OFFER, [job])
    assert comparison == Compare((job,))
    assert isinstance(comparison, Compare)
    assert compared(comparison, frozenset({"AD_1", "AD_2"})) == Serve()
    assert compared(comparison, frozenset({"AD_2"})) == ADOPTED


@pytest.mark.parametrize(
    ("job", "verdict"),
    [
        (JOB, Serve()),
        (replace(JOB, interrupted=True), ADOPTED),
        (replace(JOB, connection="away"), ADOPTED),
        (replace(JOB, connection="unknown"), ADOPTED),
    ],
)
def test_where_the_server_does_not_say_an_agent_that_was_away_adopts(job: Serving, verdict: Serve | Adopt) -> None:
    assert compared(Compare((job,)), None) == verdict
    # So it is with a job of whose dispatch no id is known.
    assert compared(Compare((replace(job, dispatch_id=""),)), frozenset({"AD_2"})) == verdict


def test_two_agents_that_were_forgotten_adopt_one_offer_each() -> None:
    second = replace(JOB, job_id="AJ_9", identity="agent-AJ_9", dispatch_id="AD_9")
    known = frozenset({"AD_2", "AD_3"})
    first = judge(OFFER, [JOB, second])
    assert isinstance(first, Compare)
    assert compared(first, known) == ADOPTED
    # The first has its new dispatch now.
    then = judge(replace(OFFER, id="AJ_3", dispatch_id="AD_3"), [replace(JOB, dispatch_id="AD_2"), second])
    assert isinstance(then, Compare)
    assert compared(then, known) == Adopt("AJ_9", "agent-AJ_9")
