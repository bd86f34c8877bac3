"""What an agent's class says about offers, in a warm process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from greenroom import Accept, Agent, JobRequest, Refuse
from greenroom.job.runner import Runner
from greenroom.jobs.ipc import Considered, JobInfo
from greenroom.settings import AgentSettings, Deadlines, ServerSettings, Settings, WorkerSettings

OFFER = JobInfo(
    id="AJ_1",
    room="hall",
    room_sid="RM_1",
    agent_name="host",
    url="",
    token="",
    identity="",
    metadata="vip",
    participant="ann",
    attributes={"tier": "gold"},
)


class Welcoming(Agent):
    """Not asked."""


class Choosy(Agent):
    """Takes what the metadata say."""

    seen: JobRequest | None = None

    @classmethod
    async def on_request(cls, request: JobRequest) -> bool | Accept | Refuse:
        Choosy.seen = request
        await asyncio.sleep(0)
        answers: dict[str, bool | Accept | Refuse] = {
            "yes": True,
            "no": False,
            "vip": Accept("host-1", "Host", "m", {"a": "b"}),
            "busy": Refuse("busy"),
            "shy": Refuse(),
        }
        return answers[request.metadata]


class Heir(Choosy):
    """Has its parent's."""


class Slow(Agent):
    @classmethod
    async def on_request(cls, request: JobRequest) -> bool | Accept | Refuse:
        asyncio.get_running_loop().create_task(asyncio.sleep(60), name="left behind")
        await asyncio.sleep(60)
        return True


class Vague(Agent):
    @classmethod
    async def on_request(cls, request: JobRequest) -> bool | Accept | Refuse:
        return "perhaps"  # type: ignore[return-value]


def runner(agent: str, folder: Path) -> Runner:
    made = Runner()
    settings = Settings(
        server=ServerSettings(url="ws://localhost", api_key="key", api_secret="s" * 32),
        agents=(AgentSettings(agent=f"{__name__}:{agent}" if agent else ""),),
        worker=WorkerSettings(deadlines=Deadlines(on_request=0.05)),
        file=str(folder / "agents.yaml"),
    )
    made.boot(settings.encode(), "")
    return made


def asked(made: Runner, metadata: str) -> Considered:
    return made.consider(msgspec.structs.replace(OFFER, metadata=metadata))


def test_only_a_class_that_wants_to_decide_is_asked(tmp_path: Path) -> None:
    wants = {name: runner(name, tmp_path).considers for name in ("", "Welcoming", "Choosy", "Heir")}
    assert wants == {"": False, "Welcoming": False, "Choosy": True, "Heir": True}
    for name in ("", "Welcoming"):
        assert runner(name, tmp_path).consider(OFFER) == Considered("AJ_1", accepted=True)


def test_what_it_says(tmp_path: Path) -> None:
    made = runner("Heir", tmp_path)
    assert asked(made, "yes") == Considered("AJ_1", accepted=True)
    assert asked(made, "no") == Considered("AJ_1", accepted=False, reason="declined")
    assert asked(made, "busy") == Considered("AJ_1", accepted=False, reason="busy")
    assert asked(made, "shy") == Considered("AJ_1", accepted=False, reason="declined")
    assert asked(made, "vip") == Considered("AJ_1", True, "", "host-1", "Host", "m", {"a": "b"})
    expected = JobRequest("AJ_1", "hall", "RM_1", "host", "vip", "ann", "", "room", {"tier": "gold"})
    assert Choosy.seen == expected


def test_what_it_raises_is_for_the_caller_to_judge(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        asked(runner("Choosy", tmp_path), "?")
    with pytest.raises(TypeError, match="on_request returned str; expected bool, Accept or Refuse"):
        asked(runner("Vague", tmp_path), "")


def test_it_has_its_time_and_leaves_nothing_behind(tmp_path: Path) -> None:
    made = runner("Slow", tmp_path)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            asked(made, "")
