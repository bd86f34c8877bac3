"""When a probe fails, and what strangers may know."""

from __future__ import annotations

import msgspec
import pytest

from greenroom.ops.facts import DrainStatus, Status, unhealthy, unready
from tests.ops.workers import agent, link, one_call, status


def reasons(found: Status, *, agent: str | None = None, full: bool = False) -> list[tuple[str, str | None]]:
    return [(reason.reason, reason.agent) for reason in unready(found, agent=agent, full=full)]


def test_a_worker_that_would_take_a_call() -> None:
    assert unhealthy(status()) == ()
    assert unready(status()) == ()


def test_without_a_fork_server_it_is_neither_healthy_nor_ready() -> None:
    gone = status(fork_server_pid=None)
    assert [reason.reason for reason in unhealthy(gone)] == ["fork_server_gone"]
    assert reasons(gone) == [("fork_server_gone", None)]


@pytest.mark.parametrize("state", ["opening", "registering", "closed"])
def test_without_a_registration_no_call_comes(state: str) -> None:
    assert reasons(status(links=(link(state=state),))) == [("not_registered", "reception")]


def test_before_it_registers_it_is_starting() -> None:
    assert reasons(status(links=())) == [("not_registered", "reception")]


def test_each_registration_counts_but_not_the_reconcilers_own() -> None:
    own = link(state="opening", deployment="d")
    assert reasons(status(links=(link(), own))) == []
    assert reasons(status(links=(own,))) == [("not_registered", "reception")]
    assert reasons(status(links=(link(), link(state="opening", job_type="publisher")))) == [
        ("not_registered", "reception")
    ]


@pytest.mark.parametrize(
    ("refusal", "detail"),
    [
        ("full", "10 of 10 slots are taken"),
        ("no_warm_process", "ImportError: no module"),
        ("low_memory", "123 MB of memory are left"),
        ("lagging", "the event loop was late by 0.75 s"),
        ("some_new_reason", "an offer would be refused"),
    ],
)
def test_what_an_offer_would_be_refused_with_is_the_reason(refusal: str, detail: str) -> None:
    sick = agent(refusal=refusal, warm=0, boot_error="ImportError: no module")
    (reason,) = unready(status(free=0, agents=(sick,), memory_available_mb=123.4, lag=0.75))
    assert (reason.reason, reason.agent, reason.detail) == (refusal, "reception", detail)


def test_one_agent_can_be_asked_for() -> None:
    two = status(
        agents=(agent(), agent("hotline", refusal="no_warm_process")), links=(link(), link("hotline")), free=10
    )
    assert reasons(two) == [("no_warm_process", "hotline")]
    assert reasons(two, agent="reception") == []
    assert reasons(two, agent="hotline") == [("no_warm_process", "hotline")]
    assert reasons(two, agent="nobody") == [("unknown_agent", "nobody")]


def test_a_full_worker_may_count_as_ready() -> None:
    full = status(free=0, agents=(agent(refusal="full"),))
    assert (reasons(full), reasons(full, full=True)) == ([("full", "reception")], [])
    assert reasons(status(agents=(agent(refusal="lagging"),)), full=True) == [("lagging", "reception")]


def test_a_drain_is_said_once_and_not_as_each_agents_refusal() -> None:
    draining = status(
        agents=(agent(refusal="draining"),),
        links=(link(state="draining"),),
        drain=DrainStatus(phase="waiting", left=100.0),
        jobs=(one_call(),),
    )
    (reason,) = unready(draining)
    assert (reason.reason, reason.detail) == ("draining", "calls left: 1")


def test_strangers_learn_nothing_of_callers_or_of_this_machine() -> None:
    whole = status(jobs=(one_call(),), agents=(agent(boot_error="/srv/agents/x.py: boom"),))
    seen = msgspec.json.encode(whole.public()).decode()
    for secret in ("secret-room", "AJ_1", "4711", "/run/greenroom", "/etc/greenroom", "boom"):
        assert secret in msgspec.json.encode(whole).decode()
        assert secret not in seen
    assert whole.public().jobs[0].state == "running"
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Status) == whole
