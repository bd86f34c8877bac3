"""Never two agents for one: whether an offer is for a new call, or for one that already has its agent here.

A media server that was restarted, or a node that took a room over, knows nothing of the agents that come back into the
room, and may dispatch them once more. Such an offer is adopted: it is accepted in the name of the agent that is there,
and starts nothing. The server can then end that agent's job again, which it could not any more.

Rules, for an offer and the jobs that run here:

- A job is concerned when it has the same agent, job type and room as the offer, and is about the same participant.
- The same dispatch is never served twice.
- A job that is connected to another incarnation of the room than the offer's is about to end with it. One that is away
  from another incarnation has lost it with its server, and comes back into the new one: it adopts.
- In the same incarnation, as far as anybody knows, the dispatches that the server has now tell: a job whose dispatch is
  not among them was forgotten and adopts; where all are, somebody wants a second agent and gets it.
- Where the server does not say, a job adopts that has been away from the room, or of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from greenroom.server.events import JobType, Offer

__all__ = ["Adopt", "Compare", "Connection", "Serve", "Serving", "Verdict", "compared", "judge"]

Connection = Literal["connected", "away", "unknown"]
"""Of an agent to its room. ``away``: it tries to come back, or its process is being replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One job that runs here and is not ending.

    ``room_sid`` as last known, ``dispatch_id`` of the offer that it last took or adopted. ``interrupted``: it has been
    away from the room since then.
    """

    job_id: str
    agent_name: str
    job_type: JobType
    room: str
    room_sid: str
    participant: str
    identity: str
    dispatch_id: str
    connection: Connection
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Serve:
    """A new call."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Accept the offer as ``identity`` and start nothing: it is the running job's from now on."""

    job_id: str
    identity: str


@dataclass(frozen=True, slots=True)
class Compare:
    """Ask which dispatches the server has for the room, then ``compared``."""

    candidates: tuple[Serving, ...]


Verdict: TypeAlias = Serve | Adopt | Compare


def judge(offer: Offer, serving: Iterable[Serving]) -> Verdict:
    """What an offer is, given the jobs that run here and are not ending."""
    concerned = [job for job in serving if _concerned(job, offer)]
    for job in concerned:
        same = bool(offer.dispatch_id) and job.dispatch_id == offer.dispatch_id
        if same or (job.connection == "away" and _elsewhere(job, offer)):
            return _adopted(job)
    candidates = tuple(job for job in concerned if job.connection != "connected" or not _elsewhere(job, offer))
    return Compare(candidates) if candidates else Serve()


def compared(comparison: Compare, listed: frozenset[str] | None) -> Serve | Adopt:
    """What the offer is. ``listed``: the ids of the room's dispatches; ``None`` when the server did not say."""
    for job in comparison.candidates:
        if listed is None or not job.dispatch_id:
            forgotten = job.interrupted or job.connection != "connected"
        else:
            forgotten = job.dispatch_id not in listed
        if forgotten:
            return _adopted(job)
    return Serve()


def _adopted(job: Serving) -> Adopt:
    return Adopt(job.job_id, job.identity)


def _concerned(job: Serving, offer: Offer) -> bool:
    return (job.agent_name, job.job_type, job.room, job.participant) == (
        offer.agent_name,
        offer.job_type,
        offer.room,
        offer.participant_identity,
    )


def _elsewhere(job: Serving, offer: Offer) -> bool:
    return bool(job.room_sid and offer.room_sid) and job.room_sid != offer.room_sid
