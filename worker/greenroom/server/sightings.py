"""What the media server says of its rooms when it is asked. Frozen values of the standard library alone.

Metadata and attributes never show in a ``repr``: they may be large, and personal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["DispatchSeen", "PersonSeen", "RoomSeen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSeen:
    """A room. ``people`` counts who is in it without agents."""

    name: str
    sid: str
    people: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSeen:
    """Someone in a room. ``agent_name``: of an agent, the name it was dispatched by, if it says so."""

    identity: str
    sid: str
    is_agent: bool = False
    agent_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSeen:
    """A request for an agent in a room. ``jobs`` came of it; ``created`` is in seconds, by the server's clock."""

    id: str
    agent_name: str
    room: str
    jobs: int = 0
    created: float = 0.0
    deployment: str = ""
    restart_policy: int = 0
    metadata: str = field(default="", repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
