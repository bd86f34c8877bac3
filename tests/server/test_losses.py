"""Which dispatches are lost, by explicit times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from greenroom.server.losses import Losses, waiting
from greenroom.server.sightings import DispatchSeen, PersonSeen

AFTER = 9.0
AGENTS = ("reception",)
ANN = PersonSeen(identity="ann", sid="PA_1")
AGENT = PersonSeen(identity="agent-AJ_1", sid="PA_2", is_agent=True, agent_name="reception")
LOST = DispatchSeen(id="AD_1", agent_name="reception", room="lobby")


def lost(
    losses: Losses, *dispatches: DispatchSeen, now: float, people: tuple[PersonSeen, ...] = (ANN,), **options: Any
) -> list[str]:
    server_time = options.get("server_time")
    found = losses.lost(dispatches, people, agents=AGENTS, now=now, server_time=server_time)
    return [each.id for each in found]


def test_a_dispatch_without_a_job_is_lost_when_it_is_old_enough() -> None:
    losses = Losses(AFTER)
    assert lost(losses, LOST, now=100.0) == []
    assert losses.due(LOST, now=105.0, server_time=None) == 109.0
    assert lost(losses, LOST, now=108.9) == []
    assert lost(losses, LOST, now=109.0) == ["AD_1"]


def test_its_age_is_known_from_the_servers_clock() -> None:
    created = replace(LOST, created=1_000_000.0)
    assert lost(Losses(AFTER), created, now=100.0, server_time=1_000_008.9) == []
    assert lost(Losses(AFTER), created, now=100.0, server_time=1_000_009.0) == ["AD_1"]
    # A clock that runs behind does not make it younger than it was seen to be.
    losses = Losses(AFTER)
    lost(losses, created, now=100.0, server_time=999_990.0)
    assert losses.due(created, now=101.0, server_time=999_991.0) == 109.0


@pytest.mark.parametrize(
    "other",
    [{"jobs": 1}, {"agent_name": "porter"}, {"deployment": "canary"}],
    ids=lambda other: next(iter(other)),
)
def test_what_is_served_or_not_ours_is_not_waiting(other: dict[str, Any]) -> None:
    assert waiting([replace(LOST, **other)], agents=AGENTS) == []


def test_what_another_worker_made_again_for_itself_is_ours_to_mend() -> None:
    theirs = replace(LOST, deployment="greenroom-0a1b2c")
    assert waiting([theirs, LOST], agents=AGENTS) == [theirs, LOST]


@pytest.mark.parametrize("people", [(), (AGENT,), (replace(AGENT, agent_name="porter"),)])
def test_where_nobody_waits_nothing_is_lost(people: tuple[PersonSeen, ...]) -> None:
    losses = Losses(AFTER)
    lost(losses, LOST, now=0.0, people=people)
    assert lost(losses, LOST, now=60.0, people=people) == []


@pytest.mark.parametrize(
    ("agent", "found"),
    [(AGENT, []), (replace(AGENT, agent_name=""), []), (replace(AGENT, agent_name="porter"), ["AD_1"])],
    ids=["the agent", "an agent that does not say its name", "another agent"],
)
def test_an_agent_that_is_there_serves_the_dispatch(agent: PersonSeen, found: list[str]) -> None:
    losses = Losses(AFTER)
    lost(losses, LOST, now=0.0)
    assert lost(losses, LOST, now=60.0, people=(ANN, agent)) == found


def test_of_two_dispatches_one_is_served() -> None:
    losses = Losses(AFTER)
    served, older = replace(LOST, id="AD_0", jobs=1), replace(LOST, id="AD_2", created=5.0)
    younger = replace(LOST, id="AD_3", created=6.0)
    lost(losses, served, LOST, now=0.0)
    assert lost(losses, served, LOST, now=9.0, people=(ANN, AGENT)) == ["AD_1"]
    # One agent and two dispatches that wait: the younger may be its own.
    lost(losses, younger, older, now=20.0)
    assert lost(losses, younger, older, now=200.0, people=(ANN, AGENT)) == ["AD_2"]


def test_the_more_were_lost_the_longer_the_next_may_take() -> None:
    losses, now, waits = Losses(AFTER), 0.0, []
    for number in range(8):
        each = replace(LOST, id=f"AD_{number}")
        due = losses.due(each, now=now, server_time=None)
        waits.append(due - now)
        assert lost(losses, each, now=due) == [each.id]
        assert losses.due(each, now=due, server_time=None) == due, "its own loss does not count against it"
        now = due
    assert waits == [9.0, 18.0, 36.0, 72.0, 144.0, 288.0, 288.0, 288.0]
    # Elsewhere nothing was lost.
    assert losses.due(replace(LOST, id="AD_x", room="kitchen"), now=now, server_time=None) == now + 9.0
    losses.keep((), rooms=("kitchen",))
    assert losses.due(replace(LOST, id="AD_y"), now=now, server_time=None) == now + 9.0
