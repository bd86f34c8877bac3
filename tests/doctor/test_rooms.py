"""What is amiss in a room, of what the server says about it."""

from __future__ import annotations

from greenroom.doctor.findings import Finding
from greenroom.doctor.rooms import LOST_AFTER, Open, judge
from greenroom.server.sightings import DispatchSeen, PersonSeen, RoomSeen

NOW = 1_000_000.0
NAMES = {"reception": True, "listener": False}
CALLER = PersonSeen(identity="ann", sid="PA_1")
AGENT = PersonSeen(identity="agent-1", sid="PA_2", is_agent=True, agent_name="reception")


def dispatch(name: str = "reception", *, age: float = 60.0, jobs: int = 0) -> DispatchSeen:
    return DispatchSeen(id="AD_1", agent_name=name, room="lobby", jobs=jobs, created=NOW - age)


def amiss(
    *dispatches: DispatchSeen, people: tuple[PersonSeen, ...] = (CALLER,), names: dict[str, bool] | None = None
) -> list[Finding]:
    room = RoomSeen(name="lobby", sid="RM_1", people=sum(not person.is_agent for person in people))
    return judge(Open(room, dispatches, people), NAMES if names is None else names, now=NOW)


def test_a_call_that_goes_on() -> None:
    assert amiss(dispatch(jobs=1), people=(CALLER, AGENT)) == []


def test_a_dispatch_that_is_young_may_still_be_answered() -> None:
    assert amiss(dispatch(age=LOST_AFTER - 1)) == []
    assert amiss(dispatch("receptoin", age=LOST_AFTER - 1)) == []


def test_a_dispatch_that_is_lost() -> None:
    (finding,) = amiss(dispatch())
    assert (finding.verdict, finding.topic) == ("wrong", "rooms")
    assert "room lobby: its dispatch of reception, 60 s old, is lost" in finding.text
    assert "worker.reconcile.enabled" in finding.mend


def test_an_agent_that_waits_for_somebody_to_publish_is_not_lost() -> None:
    assert amiss(dispatch("listener")) == []


def test_a_wrong_name() -> None:
    (finding,) = amiss(dispatch("receptoin"))
    assert finding.verdict == "wrong"
    assert "asks for receptoin" in finding.text
    assert "did you mean reception?" in finding.text


def test_a_name_that_is_somebody_elses() -> None:
    (finding,) = amiss(dispatch("billing"))
    assert (finding.verdict, "did you mean" in finding.text) == ("note", False)
    assert amiss(dispatch("billing", jobs=1), people=(CALLER, AGENT)) == []


def test_a_job_that_was_taken_by_who_did_not_come() -> None:
    (finding,) = amiss(dispatch(jobs=1))
    assert finding.verdict == "wrong"
    assert "no agent is in the room" in finding.text
    assert "AD_1" in finding.mend


def test_a_room_that_asks_for_nobody() -> None:
    (finding,) = amiss()
    assert (finding.verdict, finding.text) == ("note", "room lobby has 1 in it, and asks for no agent")
    assert "room configuration" in finding.mend
    assert amiss(people=()) == []


def test_the_dispatch_without_a_name_that_every_room_has() -> None:
    (finding,) = amiss(dispatch(""))
    assert (finding.verdict, "asks for no agent" in finding.text) == ("note", True)
    (finding,) = amiss(dispatch(""), names={"": True})
    assert (finding.verdict, "the agent without a name" in finding.text) == ("wrong", True)
