"""The worker that runs here, held against its settings: would it take a call, and whose?"""

from __future__ import annotations

from greenroom.doctor.findings import Finding, note, right, wrong
from greenroom.errors import SettingsError
from greenroom.ops.facts import AgentStatus, Status, unready
from greenroom.server.link import agent_url
from greenroom.settings import AgentSettings, Settings
from greenroom.wording import suggestion

__all__ = ["examine_agents", "examine_name", "examine_worker", "shown"]

_MENDS = {
    "full": "raise worker.max_jobs, or start one more worker; the server is told, and asks others",
    "draining": "start a new worker: this one stops when its calls have ended",
    "no_warm_process": "greenroom check says what is wrong with the agent; the worker's log has the whole error",
    "low_memory": "give this machine memory, or lower worker.max_jobs or worker.memory_headroom_mb",
    "lagging": "take other work off this machine's processors, or raise worker.max_lag",
    "not_registered": "the worker's log says why: not registered, link lost",
    "fork_server_gone": "start the worker anew: greenroom start",
}
_SEE = "greenroom status, and the worker's log"


def examine_worker(settings: Settings, status: Status) -> list[Finding]:
    """What keeps the worker that answered from taking a call of each agent of the settings."""
    topic = "worker"
    findings = [right(topic, f"greenroom {status.version} runs, pid {status.pid}")]
    if not _same_server(settings.server.url, status.url):
        mend = (
            "have the worker read its settings: greenroom start --takeover; or ask with the settings that it has (-c)"
        )
        findings.append(wrong(topic, f"it is on {status.url}, the settings name {settings.server.url}", mend=mend))
    findings += [
        wrong(topic, f"{reason.reason}: {reason.detail}", mend=_MENDS.get(reason.reason, _SEE))
        for reason in unready(status)
        if reason.agent is None
    ]
    for agent in settings.agents:
        findings += _examine_agent(agent, status)
    return findings


def examine_agents(settings: Settings) -> list[Finding]:
    """What the settings themselves say about who is called, and when."""
    findings = []
    for agent in settings.agents:
        who = shown(agent.name)
        if not agent.name:
            findings.append(note("agents", f"{who} comes to each new room, unless its first token asks for others"))
        if "room" not in agent.job_types:
            when = " and ".join(
                {"publisher": "somebody publishes", "participant": "somebody joins"}[kind] for kind in agent.job_types
            )
            text = f"{who} has no job of type room: it comes when {when}"
            findings.append(note("agents", text, mend="add room to its job_types, if it is to come at once"))
        if agent.namespace:
            findings.append(note("agents", f"{who} is asked for in the namespace {agent.namespace} only"))
        if agent.accept:
            text = f"{who} takes only jobs that one of its {len(agent.accept)} accept rules fits"
            findings.append(note("agents", text))
    return findings


def examine_name(name: str, settings: Settings) -> Finding:
    """Whether what is dispatched is the name of an agent here."""
    names = [agent.name for agent in settings.agents]
    if name in names:
        return right("agents", f"{shown(name)} is the name of an agent here")
    known = ", ".join(shown(one) for one in names)
    hint = suggestion(name, [one for one in names if one])
    mend = "the name in the dispatch, or in the token's room configuration, has to be that of agents[].name exactly"
    return wrong("agents", f"no agent here is called {shown(name)}; there is {known}{hint}", mend=mend)


def shown(name: str) -> str:
    """An agent's name, for people."""
    return name or "the agent without a name"


def _examine_agent(agent: AgentSettings, status: Status) -> list[Finding]:
    topic, who = "worker", shown(agent.name)
    running: AgentStatus | None = next((one for one in status.agents if one.name == agent.name), None)
    if running is None:
        known = ", ".join(shown(one.name) for one in status.agents)
        mend = "have the worker read its settings again: SIGHUP, systemctl reload, or greenroom start --takeover"
        return [wrong(topic, f"{who} is in the settings, not in the worker, which has {known}", mend=mend)]
    reasons = [reason for reason in unready(status, agent=agent.name) if reason.agent is not None]
    if not reasons:
        return [right(topic, f"{who} is registered, {running.warm} of {running.wanted} processes are warm")]
    return [
        wrong(topic, f"{who} takes no call: {reason.reason}: {reason.detail}", mend=_MENDS.get(reason.reason, _SEE))
        for reason in reasons
    ]


def _same_server(one: str, other: str) -> bool:
    try:
        return agent_url(one) == agent_url(other)
    except SettingsError:
        return one == other
