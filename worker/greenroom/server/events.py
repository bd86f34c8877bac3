"""What happens on the line to the media server, and what is to be done about it.

Events come in (past tense), commands go out (imperative). All are frozen values of the standard library alone. Tokens,
metadata and attributes never show in a ``repr``: the first are secrets, the others are large and may be personal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

from greenroom.errors import LocalProtocolError

__all__ = [
    "Acceptance",
    "Announce",
    "Answer",
    "Assigned",
    "Assignment",
    "CapacityChanged",
    "CloseAsked",
    "Command",
    "Decide",
    "DrainAsked",
    "Drop",
    "DropLink",
    "End",
    "Event",
    "GiveUp",
    "JobRecovered",
    "JobStatus",
    "JobStatusReported",
    "JobType",
    "LinkLost",
    "LinkOpened",
    "LinkState",
    "Malformed",
    "Offer",
    "OfferAnswered",
    "OfferReceived",
    "PongReceived",
    "Refusal",
    "Registered",
    "Registration",
    "RemoteEvent",
    "SendAvailability",
    "SendJobStatus",
    "SendPing",
    "SendRegister",
    "SendWorkerStatus",
    "Start",
    "Terminated",
    "Tick",
    "Unsent",
]

JobType = Literal["room", "publisher", "participant"]
JobStatus = Literal["running", "success", "failed"]


class LinkState(Enum):
    """Where one registration stands with the server."""

    OPENING = "opening"
    """No link, or none that counts: the shell connects, or waits to try again."""
    REGISTERING = "registering"
    """Connected; the server has not confirmed the registration."""
    REGISTERED = "registered"
    """The server knows this worker and may offer it jobs."""
    DRAINING = "draining"
    """Registered, and every offer is refused; the jobs that run are seen to their end."""
    CLOSED = "closed"
    """Over. The link is not made again."""


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Registration:
    """What the server routes jobs by. One registration has one job type and one socket.

    A dispatch for ``deployment`` reaches only workers that registered with the same one.
    """

    agent_name: str = ""
    namespace: str = ""
    job_type: JobType = "room"
    deployment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One job, as the server described it. Its TURN password and other unneeded parts stay behind in the codec.

    ``participant_*`` are of the participant whom a publisher or participant job is about, empty for a room job.
    """

    id: str
    job_type: JobType
    room: str
    room_sid: str = ""
    agent_name: str = ""
    dispatch_id: str = ""
    participant_identity: str = ""
    room_metadata: str = field(default="", repr=False)
    participant_metadata: str = field(default="", repr=False)
    participant_attributes: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    metadata: str = field(default="", repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Yes, and who the agent will be in the room. The server puts these into the job's token as they are.

    ``identity`` must differ between the jobs of a room, or the later one evicts the earlier; a token for an empty one
    cannot be used, so an empty one raises ``LocalProtocolError`` here.
    """

    identity: str
    name: str = ""
    metadata: str = field(default="", repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        if not self.identity:
            raise LocalProtocolError("an offer was accepted without a participant identity")


@dataclass(frozen=True, slots=True)
class Refusal:
    """No; the server asks the next worker. ``reason`` is for our log alone, the server takes none."""

    reason: str


Answer: TypeAlias = Acceptance | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A job that is ours. ``url`` is empty when the server left the choice to us, which it usually does."""

    offer: Offer
    identity: str
    worker_id: str
    url: str
    token: str = field(repr=False)


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """The socket is open."""


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The socket is gone. Harmless when the machine has already given the link up."""

    reason: str


@dataclass(frozen=True, slots=True)
class Registered:
    """Server: you are this worker. The id is new on each connection."""

    worker_id: str
    server_version: str = ""
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """Server: will you take this job?"""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Assigned:
    """Server: the job is yours."""

    offer: Offer
    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Terminated:
    """Server: this job is over for me."""

    job_id: str


@dataclass(frozen=True, slots=True)
class PongReceived:
    """Server: I heard ping ``number``."""

    number: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """Server: something that is not one of its messages, or lacks what it must have."""

    reason: str


@dataclass(frozen=True, slots=True)
class OfferAnswered:
    """What ``Decide`` came to."""

    job_id: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class CapacityChanged:
    """``free`` of ``total`` slots can take a job now."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class JobStatusReported:
    """How a job of ours stands. ``success`` and ``failed`` end it on this link; ``error`` explains ``failed``."""

    job_id: str
    status: JobStatus
    error: str = ""


@dataclass(frozen=True, slots=True)
class JobRecovered:
    """The job goes on as another participant of the same identity, or will: the server ends it for the old one."""

    job_id: str


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Take no more jobs, for good."""


@dataclass(frozen=True, slots=True)
class CloseAsked:
    """Leave the server now."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that ``deadline()`` named has come."""


RemoteEvent: TypeAlias = Registered | OfferReceived | Assigned | Terminated | PongReceived | Malformed
Event: TypeAlias = (
    RemoteEvent
    | LinkOpened
    | LinkLost
    | OfferAnswered
    | CapacityChanged
    | JobStatusReported
    | JobRecovered
    | DrainAsked
    | CloseAsked
    | Tick
)


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SendRegister:
    registration: Registration


@dataclass(frozen=True, slots=True)
class SendAvailability:
    """Answer an offer. A refusal goes out as ``available=false, terminate=false``: another worker is asked."""

    job_id: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class SendWorkerStatus:
    """``load`` is always sent: a status without it would count as load 0."""

    load: float
    full: bool


@dataclass(frozen=True, slots=True)
class SendJobStatus:
    job_id: str
    status: JobStatus
    error: str = ""


@dataclass(frozen=True, slots=True)
class SendPing:
    number: int


@dataclass(frozen=True, slots=True)
class DropLink:
    """Close the socket. What still comes from it counts for nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Announce:
    """The state has changed to this."""

    state: LinkState


@dataclass(frozen=True, slots=True)
class Decide:
    """Take a decision and feed ``OfferAnswered``: exactly once, and at once if it can be."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Start:
    """Give the job to a process."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class End:
    """The server has ended the job. Whether its process must go is for the daemon to say."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job was accepted and will not come: free its slot."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unsent:
    """A job's status was reported that the server has no ear for on this link."""

    job_id: str
    status: JobStatus


@dataclass(frozen=True, slots=True)
class Drop:
    """The server sent something that has no meaning here. Count it, log it, go on.

    ``replaced``: it ended a participant of ours whose place another one has taken, which is as it should be.
    """

    reason: str
    replaced: bool = False


Command: TypeAlias = (
    SendRegister
    | SendAvailability
    | SendWorkerStatus
    | SendJobStatus
    | SendPing
    | DropLink
    | Announce
    | Decide
    | Start
    | End
    | GiveUp
    | Unsent
    | Drop
)
