"""How a worker's status is told to people."""

from __future__ import annotations

from collections.abc import Sequence

from greenroom.ops.facts import AgentStatus, JobStatus, ModelHostStatus, Status, unready
from greenroom.wording import on_one_line

__all__ = ["duration", "left_over", "overview"]

MINUTE, HOUR, DAY = 60, 3600, 86_400
NAMELESS = "(no name)"


def duration(seconds: float) -> str:
    """Two units at most: ``4 s``, ``3 min 20 s``, ``2 h 5 min``, ``9 d 4 h``."""
    whole = max(round(seconds), 0)
    for size, name, smaller, its_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {its_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def overview(status: Status) -> str:
    """The whole, a screen at most where few calls go on."""
    reasons = unready(status)
    lines = [
        f"greenroom {status.version}, pid {status.pid}, for {duration(status.seconds)}: "
        + ("not ready" if reasons else "ready")
    ]
    lines += [
        "  "
        + ": ".join(
            part for part in ("" if one.agent is None else one.agent or NAMELESS, one.reason, one.detail) if part
        )
        for one in reasons
        if one.reason != "draining"
    ]
    if status.drain is not None:
        lines.append(f"  {left_over(status)}")
    lines += ["", *_facts(status), "", *_table(_agent_rows(status))]
    if status.jobs:
        lines += ["", *_table([["call", "agent", "room", "state", "for", "pid", "memory"], *map(_job, status.jobs)])]
    return "\n".join(on_one_line(line) for line in lines)


def left_over(status: Status) -> str:
    """What a drain still waits for."""
    calls = f"{len(status.jobs)} {'call is' if len(status.jobs) == 1 else 'calls are'} left"
    if status.drain is None:
        return calls
    doing = {
        "waiting": "may end by themselves for",
        "wrapping_up": "are told to come to an end, for",
        "ending": "are ended, within",
    }
    return f"{calls}; they {doing[status.drain.phase]} {duration(status.drain.left)}"


def _facts(status: Status) -> list[str]:
    server = ", ".join(dict.fromkeys(link.server_version for link in status.links if link.server_version))
    trips = [link.round_trip for link in status.links if link.round_trip is not None]
    trip = f", {max(trips) * 1000:.1f} ms away" if trips else ""
    memory = f"{status.memory_available_mb:.0f} MB left" if status.memory_available_mb is not None else "unknown"
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(status.refused.items())) or "none"
    rows = [
        ["server", f"{status.url}{f' ({server}{trip})' if server else ''}"],
        ["calls", f"{status.max_jobs - status.free} of {status.max_jobs}"],
        ["refused", refused],
        ["loop", f"late by {status.lag * 1000:.0f} ms at worst"],
        ["memory", memory],
    ]
    if status.model_host is not None:
        rows.append(["models", _models(status.model_host)])
    rows += [[name, text] for name, text in (("settings", status.settings), ("run_dir", status.run_dir)) if text]
    return _table(rows)


def _models(host: ModelHostStatus) -> str:
    """What is shared, and how that is."""
    if host.pid is None:
        return "their process is being started"
    held = ", ".join(f"{one.kind} {one.provider}" for one in host.models) or "none yet"
    memory = "" if host.memory_mb is None else f", {host.memory_mb:.0f} MB"
    restarts = f", started again {host.restarts} times" if host.restarts else ""
    return f"{held}{'' if host.ready or not host.models else ', more on the way'} (pid {host.pid}{memory}{restarts})"


def _agent_rows(status: Status) -> list[list[str]]:
    rows = [["agent", "registered", "warm", "starting", "calls", "would take a call"]]
    for agent in status.agents:
        links = [link for link in status.links if link.agent_name == agent.name and not link.deployment]
        registered = ", ".join(f"{link.job_type} {link.state}" for link in links) or "not yet"
        calls = sum(job.agent_name == agent.name for job in status.jobs)
        warm = f"{agent.warm} of {agent.wanted}"
        verdict = ", ".join(one.reason for one in unready(status, agent=agent.name)) or "yes"
        rows.append([agent.name or NAMELESS, registered, warm, _starting(agent), str(calls), verdict])
    return rows


def _starting(agent: AgentStatus) -> str:
    return f"{agent.starting}, {agent.waiting} waited for" if agent.waiting else str(agent.starting)


def _job(job: JobStatus) -> list[str]:
    notes = [
        job.state,
        *(["adopted"] if job.adopted else []),
        *([f"{job.attempt}. process"] if job.attempt > 1 else []),
    ]
    return [
        job.id or "-",
        job.agent_name or NAMELESS,
        job.room or "-",
        ", ".join(notes),
        duration(job.seconds),
        str(job.pid or "-"),
        f"{job.memory_mb:.0f} MB" if job.memory_mb is not None else "-",
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
