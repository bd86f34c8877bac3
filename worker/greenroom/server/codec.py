"""Bytes to events, commands to bytes: the agent protocol's protobuf messages.

Nothing the server sends can raise here; what is not understood becomes ``Malformed``, whose reason quotes none of it.
Only what a job needs is taken out of a ``Job``: the message as a whole holds the room's TURN password and is never
kept or logged. The server closes the socket on a message whose type it does not know, so only the oldest ones are
sent; unknown *fields* it ignores.

``livekit.protocol`` loads all its messages whichever is asked for (12 MB, a tenth of a second); the client library
``livekit.rtc`` and numpy are not among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from google.protobuf.message import DecodeError
from livekit.protocol import agent, models

from greenroom.server.events import (
    Acceptance,
    Assigned,
    JobStatus,
    JobType,
    Malformed,
    Offer,
    OfferReceived,
    PongReceived,
    Registered,
    RemoteEvent,
    SendAvailability,
    SendJobStatus,
    SendPing,
    SendRegister,
    SendWorkerStatus,
    Terminated,
)
from greenroom.version import __version__

__all__ = ["MAX_ID", "MAX_NAME", "Outgoing", "decode", "encode"]

Outgoing: TypeAlias = SendRegister | SendAvailability | SendWorkerStatus | SendJobStatus | SendPing

MAX_ID: Final = 256
"""Characters in a job's id; the server's have about 15. Ids are kept and logged, so a server cannot make them large."""

MAX_NAME: Final = 4096
"""Characters in the name of a room, an agent or a participant: what the server allows is less, or unlimited."""

_JOB_TYPES: Final[dict[JobType, agent.JobType]] = {
    "room": agent.JobType.JT_ROOM,
    "publisher": agent.JobType.JT_PUBLISHER,
    "participant": agent.JobType.JT_PARTICIPANT,
}
_JOB_TYPE_NAMES: Final[dict[int, JobType]] = {int(number): name for name, number in _JOB_TYPES.items()}
_JOB_STATUSES: Final[dict[JobStatus, agent.JobStatus]] = {
    "running": agent.JobStatus.JS_RUNNING,
    "success": agent.JobStatus.JS_SUCCESS,
    "failed": agent.JobStatus.JS_FAILED,
}


def decode(data: bytes) -> RemoteEvent:
    """Read one binary frame of the server. Never raises."""
    message = agent.ServerMessage()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return Malformed("a frame that is no message")
    kind = message.WhichOneof("message")
    decoder = _DECODERS.get(kind or "")
    if decoder is None:
        return Malformed(f"a message of type {kind}, which is not served here" if kind else "a message of unknown type")
    return decoder(message)


def encode(command: Outgoing) -> bytes:
    """Write one binary frame for the server."""
    match command:
        case SendRegister():
            message = agent.WorkerMessage(register=_register(command))
        case SendAvailability():
            message = agent.WorkerMessage(availability=_availability(command))
        case SendWorkerStatus(load=load, full=full):
            status = agent.WorkerStatus.WS_FULL if full else agent.WorkerStatus.WS_AVAILABLE
            message = agent.WorkerMessage(update_worker=agent.UpdateWorkerStatus(status=status, load=load))
        case SendJobStatus(job_id=job_id, status=job_status, error=error):
            update = agent.UpdateJobStatus(job_id=job_id, status=_JOB_STATUSES[job_status], error=error)
            message = agent.WorkerMessage(update_job=update)
        case SendPing(number=number):
            message = agent.WorkerMessage(ping=agent.WorkerPing(timestamp=number))
    return message.SerializeToString()


def _register(command: SendRegister) -> agent.RegisterWorkerRequest:
    registration = command.registration
    return agent.RegisterWorkerRequest(
        type=_JOB_TYPES[registration.job_type],
        version=__version__,
        agent_name=registration.agent_name,
        namespace=registration.namespace or None,
        deployment=registration.deployment,
        allowed_permissions=models.ParticipantPermission(
            can_subscribe=True, can_publish=True, can_publish_data=True, can_update_metadata=True, agent=True
        ),
    )


def _availability(command: SendAvailability) -> agent.AvailabilityResponse:
    answer = command.answer
    if not isinstance(answer, Acceptance):
        # With ``terminate`` the server would record the job as done instead of asking the next worker.
        return agent.AvailabilityResponse(job_id=command.job_id, available=False, terminate=False)
    return agent.AvailabilityResponse(
        job_id=command.job_id,
        available=True,
        participant_identity=answer.identity,
        participant_name=answer.name,
        participant_metadata=answer.metadata,
        participant_attributes=answer.attributes,
    )


def _registered(message: agent.ServerMessage) -> RemoteEvent:
    response = message.register
    info = response.server_info
    return Registered(response.worker_id[:MAX_ID], info.version[:MAX_ID], info.node_id[:MAX_ID])


def _offered(message: agent.ServerMessage) -> RemoteEvent:
    offer = _offer(message.availability.job)
    return offer if isinstance(offer, Malformed) else OfferReceived(offer)


def _assigned(message: agent.ServerMessage) -> RemoteEvent:
    assignment = message.assignment
    offer = _offer(assignment.job)
    if isinstance(offer, Malformed):
        return offer
    if not assignment.token:
        return Malformed(f"an assignment of {offer.id} without a token")
    return Assigned(offer, assignment.url, assignment.token)


def _terminated(message: agent.ServerMessage) -> RemoteEvent:
    job_id = message.termination.job_id
    return Terminated(job_id) if 0 < len(job_id) <= MAX_ID else Malformed("a termination without a usable job id")


def _pong(message: agent.ServerMessage) -> RemoteEvent:
    return PongReceived(message.pong.last_timestamp)


_DECODERS: Final[dict[str, Callable[[agent.ServerMessage], RemoteEvent]]] = {
    "register": _registered,
    "availability": _offered,
    "assignment": _assigned,
    "termination": _terminated,
    "pong": _pong,
}


def _offer(job: agent.Job) -> Offer | Malformed:
    job_type = _JOB_TYPE_NAMES.get(job.type)
    if not 0 < len(job.id) <= MAX_ID:
        return Malformed("a job without a usable id")
    if job_type is None:
        return Malformed(f"job {job.id} of unknown type {int(job.type)}")
    if not job.room.name:
        return Malformed(f"job {job.id} without a room")
    names = (job.room.name, job.room.sid, job.agent_name, job.dispatch_id, job.participant.identity)
    if max(map(len, names)) > MAX_NAME:
        return Malformed(f"job {job.id} with a name that is too long")
    return Offer(
        id=job.id,
        job_type=job_type,
        room=job.room.name,
        room_sid=job.room.sid,
        agent_name=job.agent_name,
        dispatch_id=job.dispatch_id,
        participant_identity=job.participant.identity,
        room_metadata=job.room.metadata,
        participant_metadata=job.participant.metadata,
        participant_attributes=dict(job.participant.attributes),
        metadata=job.metadata,
        attributes=dict(job.attributes),
    )
