"""A job that is offered, as ``Agent.on_request`` sees it, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Accept", "JobRequest", "Refuse"]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """``metadata``: what whoever dispatched the job has sent along. ``participant``: the identity that it is for, empty
    when it is for the room; ``attributes`` are that participant's.
    """

    id: str
    room: str
    room_sid: str = ""
    agent_name: str = ""
    metadata: str = ""
    participant: str = ""
    dispatch_id: str = ""
    job_type: str = "room"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accept:
    """Take it, and be in the room as this: what is left empty is as it would be."""

    identity: str = ""
    name: str = ""
    metadata: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do not take it. ``reason``: for the log and for metrics, a word or a few."""

    reason: str = ""
