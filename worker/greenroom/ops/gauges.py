"""What a worker is at this moment, as gauges: read off ``Status``."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from greenroom.ops import measures as m
from greenroom.ops.facts import JobState, Status, unready
from greenroom.ops.measures import Measure

__all__ = ["gauges"]

MB = 2**20
LINK_STATES = ("opening", "registering", "registered", "draining", "closed")


def gauges(status: Status) -> dict[Measure, dict[tuple[str, ...], float]]:
    """Each gauge's values by its labels. What is not known is left out."""
    reasons = unready(status)
    found: dict[Measure, dict[tuple[str, ...], float]] = {
        m.INFO: {(status.version,): 1.0},
        m.READY: {(): float(not reasons)},
        m.DRAINING: {(): float(status.drain is not None)},
        m.SLOTS: {(): float(status.max_jobs)},
        m.SLOTS_FREE: {(): float(_open_slots(status))},
        m.LOOP_LAG_WORST_SECONDS: {(): status.lag},
        m.JOBS: _jobs(status),
        m.JOBS_WAITING: {(agent.name,): float(agent.waiting) for agent in status.agents},
        m.PROCESSES: _processes(status),
        m.PROCESSES_WANTED: {(agent.name,): float(agent.wanted) for agent in status.agents},
        m.JOB_MEMORY_BYTES: _memory(status),
        m.LINKS: _links(status),
        m.LINK_ROUND_TRIP_SECONDS: {
            (link.agent_name, link.job_type): link.round_trip for link in status.links if link.round_trip is not None
        },
    }
    host = status.model_host
    if host is not None:
        found[m.MODEL_HOST_MODELS] = dict(Counter((one.kind, one.provider) for one in host.models))
        if host.memory_mb is not None:
            found[m.MODEL_HOST_MEMORY_BYTES] = {(): host.memory_mb * MB}
    if status.memory_available_mb is not None:
        found[m.MEMORY_AVAILABLE_BYTES] = {(): status.memory_available_mb * MB}
    return found


def _open_slots(status: Status) -> int:
    """A worker that is full of air, since its agents do not boot or it drains, is no room for calls."""
    if status.drain is not None or status.fork_server_pid is None:
        return 0
    return max(status.free, 0) if any(not agent.refusal for agent in status.agents) else 0


def _jobs(status: Status) -> dict[tuple[str, ...], float]:
    now = Counter((job.agent_name, job.state) for job in status.jobs)
    names = {agent.name for agent in status.agents} | {job.agent_name for job in status.jobs}
    return {(name, state): float(now[name, state]) for name in sorted(names) for state in get_args(JobState)}


def _processes(status: Status) -> dict[tuple[str, ...], float]:
    serving = Counter(job.agent_name for job in status.jobs if job.pid is not None)
    found: dict[tuple[str, ...], float] = {}
    for agent in status.agents:
        found[agent.name, "starting"] = float(agent.starting)
        found[agent.name, "warm"] = float(agent.warm)
        found[agent.name, "serving"] = float(serving[agent.name])
    return found


def _links(status: Status) -> dict[tuple[str, ...], float]:
    now = Counter((link.agent_name, link.job_type, link.state) for link in status.links)
    kinds = dict.fromkeys((link.agent_name, link.job_type) for link in status.links)
    return {(*kind, state): float(now[*kind, state]) for kind in kinds for state in LINK_STATES}


def _memory(status: Status) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for agent in status.agents:
        used = [job.memory_mb * MB for job in status.jobs if job.agent_name == agent.name and job.memory_mb is not None]
        found[agent.name, "sum"] = sum(used)
        found[agent.name, "max"] = max(used, default=0.0)
    return found
