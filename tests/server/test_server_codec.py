"""The agent protocol's bytes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol import agent, models

from greenroom.server.codec import MAX_ID, MAX_NAME, decode, encode
from greenroom.server.events import (
    Acceptance,
    Assigned,
    JobStatus,
    JobType,
    Malformed,
    Offer,
    OfferReceived,
    PongReceived,
    Refusal,
    Registered,
    Registration,
    RemoteEvent,
    SendAvailability,
    SendJobStatus,
    SendPing,
    SendRegister,
    SendWorkerStatus,
    Terminated,
)
from greenroom.testing.fake_server import job
from greenroom.version import __version__

TOKEN = "job-token"


def frame(**fields: Any) -> bytes:
    return agent.ServerMessage(**fields).SerializeToString()


def offer_frame(described: agent.Job) -> bytes:
    return frame(availability=agent.AvailabilityRequest(job=described))


def assignment_frame(described: agent.Job, *, token: str = TOKEN, url: str | None = None) -> bytes:
    return frame(assignment=agent.JobAssignment(job=described, token=token, url=url))


FULL_JOB = agent.Job(
    id="AJ_1",
    type=agent.JobType.JT_PUBLISHER,
    room=models.Room(name="lobby", sid="RM_1", metadata="of the room", turn_password="turn-password"),
    participant=models.ParticipantInfo(identity="ann", metadata="of ann", attributes={"language": "de"}),
    metadata="of the job",
    dispatch_id="AD_1",
    agent_name="reception",
    attributes={"floor": "2"},
)
FULL_OFFER = Offer(
    id="AJ_1",
    job_type="publisher",
    room="lobby",
    room_sid="RM_1",
    agent_name="reception",
    dispatch_id="AD_1",
    participant_identity="ann",
    room_metadata="of the room",
    participant_metadata="of ann",
    participant_attributes={"language": "de"},
    metadata="of the job",
    attributes={"floor": "2"},
)

# ── from the server ──────────────────────────────────────────────────────────────────────────────────────────────────

REGISTERED = agent.RegisterWorkerResponse(
    worker_id="AW_1", server_info=models.ServerInfo(version="1.13.5", node_id="ND_1", protocol=17)
)
FRAMES: list[tuple[bytes, RemoteEvent]] = [
    (frame(register=REGISTERED), Registered("AW_1", "1.13.5", "ND_1")),
    (offer_frame(FULL_JOB), OfferReceived(FULL_OFFER)),
    (assignment_frame(FULL_JOB, url="wss://other"), Assigned(FULL_OFFER, "wss://other", "job-token")),
    (assignment_frame(FULL_JOB), Assigned(FULL_OFFER, "", "job-token")),
    (frame(termination=agent.JobTermination(job_id="AJ_1")), Terminated("AJ_1")),
    (frame(pong=agent.WorkerPong(last_timestamp=7, timestamp=123)), PongReceived(7)),
]


@pytest.mark.parametrize(("data", "event"), FRAMES)
def test_each_message_of_the_server_becomes_an_event(data: bytes, event: RemoteEvent) -> None:
    assert decode(data) == event


@pytest.mark.parametrize("job_type", get_args(JobType))
def test_each_job_type_is_known_both_ways(job_type: JobType) -> None:
    sent = agent.WorkerMessage.FromString(encode(SendRegister(Registration("a", "", job_type)))).register.type
    event = decode(offer_frame(job("AJ_1", type=sent)))
    assert isinstance(event, OfferReceived)
    assert event.offer.job_type == job_type


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a message of unknown type"),
        (b"\xff\xff", "a frame that is no message"),
        (b"\x7a\x00", "a message of unknown type"),
        (frame(go_away=agent.AgentHttp.GoAway(reason="bye")), "a message of type go_away, which is not served here"),
        (frame(availability=agent.AvailabilityRequest()), "a job without a usable id"),
        (offer_frame(job("A" * (MAX_ID + 1))), "a job without a usable id"),
        (offer_frame(agent.Job(id="AJ_1")), "job AJ_1 without a room"),
        (offer_frame(job("AJ_1", room="x" * (MAX_NAME + 1))), "job AJ_1 with a name that is too long"),
        (offer_frame(job("AJ_1", agent_name="x" * (MAX_NAME + 1))), "job AJ_1 with a name that is too long"),
        (offer_frame(job("AJ_1", type=9)), "job AJ_1 of unknown type 9"),
        (assignment_frame(agent.Job()), "a job without a usable id"),
        (assignment_frame(job("AJ_1"), token=""), "an assignment of AJ_1 without a token"),
        (frame(termination=agent.JobTermination()), "a termination without a usable job id"),
    ],
)
def test_what_is_not_understood_is_malformed(data: bytes, reason: str) -> None:
    assert decode(data) == Malformed(reason)


def test_no_secret_and_nothing_personal_shows() -> None:
    shown = "".join(repr(decode(data)) for data, _ in FRAMES)
    assert "AJ_1" in shown
    for hidden in ("turn-password", "job-token", "of the room", "of ann", "of the job", "language", "floor"):
        assert hidden not in shown


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(decode(data), get_args(RemoteEvent))


@given(st.sampled_from([data for data, _ in FRAMES]), st.data())
def test_no_damage_to_a_message_raises(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut]), bytes(data[:cut] + damaged)):
        assert isinstance(decode(candidate), get_args(RemoteEvent))


# ── to the server ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_registration_says_who_we_are_and_what_our_agents_may_do() -> None:
    message = agent.WorkerMessage.FromString(
        encode(SendRegister(Registration("reception", "blue", "participant", "canary")))
    )
    permissions = models.ParticipantPermission(
        can_subscribe=True, can_publish=True, can_publish_data=True, can_update_metadata=True, agent=True
    )
    assert message.register == agent.RegisterWorkerRequest(
        type=agent.JobType.JT_PARTICIPANT,
        version=__version__,
        agent_name="reception",
        namespace="blue",
        deployment="canary",
        allowed_permissions=permissions,
    )


def test_no_namespace_is_sent_as_none() -> None:
    message = agent.WorkerMessage.FromString(encode(SendRegister(Registration())))
    assert not message.register.HasField("namespace")


def test_an_acceptance_says_who_the_agent_will_be() -> None:
    answer = Acceptance("agent-AJ_1", "Reception", "{}", {"floor": "2"})
    message = agent.WorkerMessage.FromString(encode(SendAvailability("AJ_1", answer)))
    assert message.availability == agent.AvailabilityResponse(
        job_id="AJ_1",
        available=True,
        participant_identity="agent-AJ_1",
        participant_name="Reception",
        participant_metadata="{}",
        participant_attributes={"floor": "2"},
    )


def test_a_refusal_lets_the_server_ask_another_worker() -> None:
    message = agent.WorkerMessage.FromString(encode(SendAvailability("AJ_1", Refusal("full"))))
    assert message.WhichOneof("message") == "availability"
    assert message.availability == agent.AvailabilityResponse(job_id="AJ_1", available=False, terminate=False)


@pytest.mark.parametrize(
    ("load", "full", "status"), [(0.0, False, "WS_AVAILABLE"), (0.5, False, "WS_AVAILABLE"), (1.0, True, "WS_FULL")]
)
def test_a_worker_status_always_names_its_status(load: float, full: bool, status: str) -> None:
    message = agent.WorkerMessage.FromString(encode(SendWorkerStatus(load, full)))
    assert message.update_worker.HasField("status")
    assert agent.WorkerStatus.Name(message.update_worker.status) == status
    assert message.update_worker.load == load


@pytest.mark.parametrize(
    ("status", "name"), [("running", "JS_RUNNING"), ("success", "JS_SUCCESS"), ("failed", "JS_FAILED")]
)
def test_a_job_status_goes_out_with_its_error(status: JobStatus, name: str) -> None:
    update = agent.WorkerMessage.FromString(encode(SendJobStatus("AJ_1", status, "why"))).update_job
    assert (update.job_id, agent.JobStatus.Name(update.status), update.error) == ("AJ_1", name, "why")


def test_a_ping_carries_its_number() -> None:
    assert agent.WorkerMessage.FromString(encode(SendPing(7))).ping.timestamp == 7


# ── the parent stays small ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", ["greenroom.server.codec", "greenroom.server.link", "greenroom.server.dispatch"])
def test_the_line_to_the_server_loads_nothing_of_a_job(module: str) -> None:
    heavy = "[m for m in sys.modules if m.split('.')[0] in ('numpy', 'soxr') or m.startswith('livekit.rtc')]"
    program = f"import sys, {module}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_machine_loads_the_standard_library_alone() -> None:
    program = (
        "import sys, greenroom.server.protocol; print(sorted(m for m in sys.modules if m.split('.')[0] in sys.argv))"
    )
    foreign = ["livekit", "google", "aiohttp", "structlog", "msgspec", "asyncio"]
    done = subprocess.run(
        [sys.executable, "-c", program, *foreign], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
