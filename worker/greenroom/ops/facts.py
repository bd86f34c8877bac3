"""What a worker says about itself: one snapshot, for probes, for metrics and for people.

The daemon makes it; everything that answers questions is built on it alone. Names of rooms, ids and whatever else
speaks of a caller is in ``jobs``, from which ``Status.public`` takes it for strangers.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec
from msgspec import Struct

__all__ = [
    "AgentStatus",
    "DrainStatus",
    "Facts",
    "JobState",
    "JobStatus",
    "LinkStatus",
    "ModelHostStatus",
    "ModelStatus",
    "Reason",
    "Status",
    "unhealthy",
    "unready",
]

JobState: TypeAlias = Literal["starting", "running", "away", "recovering", "ending"]
"""Assigned and not in the room yet; in the room; cut off from its room; its process died and another takes over; asked
to end, or about to leave."""


class AgentStatus(Struct, frozen=True, kw_only=True):
    """One agent of the settings.

    ``refusal``: what an offer would be refused with now; empty: it would be taken. ``warm``: processes that are ready,
    of ``wanted``. ``waiting``: jobs without a process. ``boot_error``: why the last boot failed.
    """

    name: str
    warm: int
    wanted: int
    starting: int = 0
    waiting: int = 0
    boot_error: str = ""
    refusal: str = ""


class LinkStatus(Struct, frozen=True, kw_only=True):
    """One registration with the media server. ``state``: of ``server.events.LinkState``. ``round_trip``: seconds.

    ``deployment``: of the registration that the reconciler keeps beside an agent's own; empty for that.
    """

    agent_name: str
    job_type: str
    state: str
    namespace: str = ""
    deployment: str = ""
    worker_id: str = ""
    server_version: str = ""
    round_trip: float | None = None
    dropped: int = 0


class JobStatus(Struct, frozen=True, kw_only=True):
    """One call. ``seconds``: since its job was assigned or adopted. ``attempt``: 1, and one more for each recovery."""

    id: str
    room: str
    agent_name: str
    state: JobState
    seconds: float
    pid: int | None = None
    attempt: int = 1
    adopted: bool = False
    memory_mb: float | None = None


class ModelStatus(Struct, frozen=True, kw_only=True):
    """A model that the model host holds. ``users``: processes that are connected for it."""

    kind: str
    provider: str
    users: int = 0


class ModelHostStatus(Struct, frozen=True, kw_only=True):
    """The process that holds what all calls use. ``pid``: ``None`` while there is none. ``ready``: all models that the
    settings name are there. ``restarts``: since the worker started. ``memory_mb``: when it was last measured."""

    pid: int | None
    ready: bool
    restarts: int = 0
    memory_mb: float | None = None
    models: tuple[ModelStatus, ...] = ()


class DrainStatus(Struct, frozen=True, kw_only=True):
    """How far a drain is. ``left``: seconds of this phase: calls end by themselves, are told to wrap up, are ended."""

    phase: Literal["waiting", "wrapping_up", "ending"]
    left: float


class Status(Struct, frozen=True, kw_only=True):
    """A worker at one moment.

    ``seconds``: since it started. ``lag``: the worst lateness of its event loop lately. ``fork_server_pid``: ``None``
    once the fork server is gone, and with it every new process. ``free``: slots that nobody holds. ``refused``: offers
    since the start, by reason. ``url``: of the media server.
    """

    version: str
    pid: int
    seconds: float
    run_dir: str
    url: str
    max_jobs: int
    free: int
    agents: tuple[AgentStatus, ...]
    links: tuple[LinkStatus, ...]
    jobs: tuple[JobStatus, ...] = ()
    refused: dict[str, int] = {}
    drain: DrainStatus | None = None
    fork_server_pid: int | None = None
    lag: float = 0.0
    memory_available_mb: float | None = None
    model_host: ModelHostStatus | None = None
    """``None`` where nothing is shared."""
    settings: str = ""
    """The file that it runs on."""

    def public(self) -> Status:
        """Without a word about callers, without paths of this machine and without what code said."""
        jobs = tuple(msgspec.structs.replace(job, id="", room="", pid=None) for job in self.jobs)
        agents = tuple(msgspec.structs.replace(agent, boot_error="") for agent in self.agents)
        return msgspec.structs.replace(self, jobs=jobs, agents=agents, run_dir="", settings="")


class Reason(Struct, frozen=True):
    """Why a probe fails. ``reason``: a word for machines; ``agent``: whom it concerns, ``None`` for all."""

    reason: str
    detail: str
    agent: str | None = None


class Facts(Protocol):
    """What the daemon offers to those who ask."""

    def status(self) -> Status:
        """The worker as it is now. Cheap: it is called for each probe."""
        ...

    def drain(self, *, now: bool) -> None:
        """Take no more calls and stop when those that are held have ended; ``now``: end them."""
        ...

    async def hand_over(self) -> None:
        """Start a new daemon in this one's place; returns when it has it. Raises ``GreenroomError`` if it does not."""
        ...


def unhealthy(status: Status) -> tuple[Reason, ...]:
    """Why this worker should be started anew; nothing for a healthy one."""
    if status.fork_server_pid is None:
        return (Reason("fork_server_gone", "no process for a call can be made"),)
    return ()


def unready(status: Status, *, agent: str | None = None, full: bool = False) -> tuple[Reason, ...]:
    """Why a call would not be taken now: for any of the agents, or for this one. Nothing: it would be.

    ``full``: slots that are all taken are no reason, for those who would remove a worker that is not ready.
    """
    reasons = list(unhealthy(status))
    if status.drain is not None:
        reasons.append(Reason("draining", f"calls left: {len(status.jobs)}"))
    for one in status.agents:
        if agent is None or one.name == agent:
            reasons += _unready_agent(one, status)
    if agent is not None and all(one.name != agent for one in status.agents):
        reasons.append(Reason("unknown_agent", "no agent of this name is in the settings", agent))
    return tuple(one for one in reasons if not (full and one.reason == "full"))


def _unready_agent(agent: AgentStatus, status: Status) -> list[Reason]:
    links = [link for link in status.links if link.agent_name == agent.name and not link.deployment]
    reasons = [
        Reason("not_registered", f"{link.job_type}: {link.state}", agent.name)
        for link in links
        if link.state not in ("registered", "draining")
    ]
    if not links:
        reasons.append(Reason("not_registered", "the worker is starting", agent.name))
    if agent.refusal and status.drain is None:
        reasons.append(Reason(agent.refusal, _described(agent, status), agent.name))
    return reasons


def _described(agent: AgentStatus, status: Status) -> str:
    match agent.refusal:
        case "full":
            return f"{status.max_jobs - status.free} of {status.max_jobs} slots are taken"
        case "no_warm_process":
            return agent.boot_error or f"{agent.warm} of {agent.wanted} processes are warm"
        case "low_memory" if status.memory_available_mb is not None:
            return f"{status.memory_available_mb:.0f} MB of memory are left"
        case "lagging":
            return f"the event loop was late by {status.lag:.2f} s"
        case _:
            return "an offer would be refused"
