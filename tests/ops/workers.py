"""A worker's facts, made up; the rest of what these tests use is real."""

from __future__ import annotations

from typing import Any

from greenroom.errors import GreenroomError
from greenroom.ops.facts import AgentStatus, JobStatus, LinkStatus, Status

__all__ = ["MadeUp", "agent", "link", "one_call", "status"]


def agent(name: str = "reception", **fields: Any) -> AgentStatus:
    return AgentStatus(**{"name": name, "warm": 2, "wanted": 2, **fields})


def link(name: str = "reception", state: str = "registered", **fields: Any) -> LinkStatus:
    return LinkStatus(**{"agent_name": name, "job_type": "room", "state": state, **fields})


def one_call(**fields: Any) -> JobStatus:
    known = {"id": "AJ_1", "room": "secret-room", "agent_name": "reception", "state": "running", "seconds": 12.0}
    return JobStatus(**{**known, "pid": 4711, **fields})


def status(**fields: Any) -> Status:
    known: dict[str, Any] = {
        "version": "1.2.3",
        "pid": 42,
        "seconds": 60.0,
        "run_dir": "/run/greenroom",
        "url": "ws://media:7880",
        "max_jobs": 10,
        "free": 10,
        "agents": (agent(),),
        "links": (link(),),
        "fork_server_pid": 43,
        "settings": "/etc/greenroom/worker.yaml",
    }
    return Status(**{**known, **fields})


class MadeUp:
    """Facts as they are set, and what was asked for."""

    def __init__(self, **fields: Any) -> None:
        self.now = status(**fields)
        self.asked: list[str] = []
        self.refuse_hand_over = ""
        self.port = 0

    def status(self) -> Status:
        return self.now

    def drain(self, *, now: bool) -> None:
        self.asked.append("end" if now else "drain")

    async def hand_over(self) -> None:
        if self.refuse_hand_over:
            raise GreenroomError(self.refuse_hand_over)
        self.asked.append("hand over")
