"""The worker that runs, held against its settings."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.doctor.findings import Finding, as_json, as_text, note, right, wrong
from greenroom.doctor.worker import examine_agents, examine_name, examine_worker
from greenroom.ops.facts import DrainStatus
from greenroom.redaction import hide
from greenroom.settings import AcceptRule, AgentSettings, ServerSettings, Settings
from tests.ops.workers import agent, link, one_call, status


def settings(*agents: AgentSettings, url: str = "ws://media:7880") -> Settings:
    server = ServerSettings(url=url, api_key="key", api_secret="s" * 32)
    return Settings(server=server, agents=agents or (AgentSettings(name="reception"),))


def verdicts(findings: list[Finding]) -> list[str]:
    return [finding.verdict for finding in findings]


def test_a_worker_that_would_take_a_call() -> None:
    assert examine_worker(settings(), status()) == [
        right("worker", "greenroom 1.2.3 runs, pid 42"),
        right("worker", "reception is registered, 2 of 2 processes are warm"),
    ]


@pytest.mark.parametrize(
    ("fields", "said", "mend"),
    [
        ({"free": 0, "agents": (agent(refusal="full"),)}, "full: 10 of 10 slots are taken", "worker.max_jobs"),
        (
            {"agents": (agent(refusal="no_warm_process", warm=0, boot_error="ImportError: nope"),)},
            "no_warm_process: ImportError: nope",
            "greenroom check",
        ),
        ({"links": (link(state="opening"),)}, "not_registered: room: opening", "log"),
        ({"links": ()}, "not_registered: the worker is starting", "log"),
        ({"agents": (agent(refusal="low_memory"),), "memory_available_mb": 90.0}, "90 MB of memory", "headroom"),
        ({"agents": (agent(refusal="lagging"),), "lag": 2.0}, "late by 2.00 s", "processors"),
        ({"fork_server_pid": None}, "fork_server_gone", "greenroom start"),
        (
            {"drain": DrainStatus(phase="waiting", left=9.0), "jobs": (one_call(),)},
            "draining: calls left: 1",
            "start a new worker",
        ),
    ],
)
def test_what_keeps_it_from_taking_a_call(fields: dict[str, Any], said: str, mend: str) -> None:
    bad = [finding for finding in examine_worker(settings(), status(**fields)) if finding.verdict == "wrong"]
    (finding,) = bad
    assert said in finding.text
    assert mend in finding.mend


def test_a_worker_with_other_settings() -> None:
    other = settings(AgentSettings(name="hotline"), url="wss://elsewhere")
    _, server, missing = examine_worker(other, status())
    assert server.text == "it is on ws://media:7880, the settings name wss://elsewhere"
    assert missing.text == "hotline is in the settings, not in the worker, which has reception"
    assert "SIGHUP" in missing.mend
    assert verdicts([server, missing]) == ["wrong", "wrong"]


def test_the_same_server_may_be_written_in_two_ways() -> None:
    assert verdicts(examine_worker(settings(url="http://media:7880/"), status())) == ["right", "right"]


def test_a_name_that_no_agent_has() -> None:
    known = settings(AgentSettings(name="reception"), AgentSettings())
    assert examine_name("reception", known).verdict == "right"
    assert examine_name("", known).verdict == "right"
    finding = examine_name("receptoin", known)
    assert (finding.verdict, finding.text) == (
        "wrong",
        "no agent here is called receptoin; there is reception, the agent without a name; did you mean reception?",
    )


def test_what_the_settings_say_about_who_is_called_and_when() -> None:
    assert examine_agents(settings()) == []
    late = AgentSettings(name="late", job_types=("publisher", "participant"))
    picky = AgentSettings(name="picky", accept=(AcceptRule(room="a.*"),), namespace="north")
    texts = [finding.text for finding in examine_agents(settings(late, picky, AgentSettings()))]
    assert texts == [
        "late has no job of type room: it comes when somebody publishes and somebody joins",
        "picky is asked for in the namespace north only",
        "picky takes only jobs that one of its 1 accept rules fits",
        "the agent without a name comes to each new room, unless its first token asks for others",
    ]


def test_findings_for_people_and_for_machines() -> None:
    found = [right("server", "fine"), wrong("rooms", "lost\x1b[31m", mend="again")]
    assert as_text(found).splitlines() == [
        "right  server       fine",
        "wrong  rooms        lost\\x1b[31m",
        "                    mend: again",
    ]
    assert as_json(found).splitlines()[0] == '{"topic":"server","verdict":"right","text":"fine","mend":""}'


def test_no_finding_shows_a_secret() -> None:
    hide("hunter22hunter22")
    for show in (as_text, as_json):
        assert "hunter22" not in show([note("server", "it said hunter22hunter22")])
