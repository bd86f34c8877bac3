"""Hostile messages: whatever comes from the server, or from a job's process, nothing is raised and nothing hangs.

``python -m tests.server.hostile --inputs 100000`` sends so many and prints what became of them. They come in stories: a
registration's life with a server that says anything at any time, or a line to a job's process that sends anything.
Each story is a number: ``--story N`` tells that one alone. ``make test`` tells some (``tests/server/test_hostile.py``).
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from types import UnionType
from typing import Any, Final, get_args

import msgspec
from livekit.protocol import agent, models

from greenroom.jobs import ipc
from greenroom.server.codec import decode, encode
from greenroom.server.events import (
    Acceptance,
    CapacityChanged,
    CloseAsked,
    Command,
    Decide,
    DrainAsked,
    Drop,
    DropLink,
    End,
    Event,
    GiveUp,
    JobRecovered,
    JobStatusReported,
    LinkLost,
    LinkOpened,
    LinkState,
    OfferAnswered,
    OfferReceived,
    Refusal,
    Registration,
    RemoteEvent,
    SendAvailability,
    SendJobStatus,
    SendPing,
    SendRegister,
    SendWorkerStatus,
    Start,
    Terminated,
    Tick,
)
from greenroom.server.protocol import WorkerProtocol

__all__ = ["SLOW", "spoiled", "story"]

MESSAGES: Final = 20
"""In one story."""
SLOW: Final = 20.0
"""Seconds of the processor's time for one story. Most take some hundredths of one: so long takes only what would hardly
end."""
IDS: Final = ("AJ_1", "AJ_2", "AJ_3")
TEXTS: Final = ("", "AJ_1", "lobby", "x" * 300, "y" * 10_000, "\0", "\x1b[2J", "\u202e", "🎧" * 70, "reception")
OUTGOING: Final = (SendRegister, SendWorkerStatus, SendJobStatus, SendPing)

# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _job(job_id: str) -> agent.Job:
    return agent.Job(
        id=job_id,
        type=agent.JobType.JT_PUBLISHER,
        room=models.Room(name="lobby", sid="RM_1", metadata="of the room", turn_password="turn-password"),
        participant=models.ParticipantInfo(identity="ann", metadata="of ann", attributes={"language": "de"}),
        metadata="of the job",
        dispatch_id="AD_1",
        agent_name="reception",
        attributes={"floor": "2"},
    )


def _server_messages() -> tuple[agent.ServerMessage, ...]:
    """One of each that the server sends, for each of the jobs, and the one that this version does not send."""
    info = models.ServerInfo(version="1.13.5", node_id="ND_1", protocol=17)
    return (
        agent.ServerMessage(register=agent.RegisterWorkerResponse(worker_id="AW_1", server_info=info)),
        *(agent.ServerMessage(availability=agent.AvailabilityRequest(job=_job(each))) for each in IDS),
        *(agent.ServerMessage(assignment=agent.JobAssignment(job=_job(each), token="job-token")) for each in IDS),
        *(agent.ServerMessage(termination=agent.JobTermination(job_id=each)) for each in IDS),
        *(agent.ServerMessage(pong=agent.WorkerPong(last_timestamp=number, timestamp=7)) for number in range(1, 4)),
        agent.ServerMessage(go_away=agent.AgentHttp.GoAway(reason="bye")),
    )


SERVER_MESSAGES: Final = _server_messages()
JOB_INFO: Final = ipc.JobInfo(
    id="AJ_1",
    room="lobby",
    room_sid="RM_1",
    agent_name="reception",
    url="ws://127.0.0.1",
    token="job-token",
    identity="agent-AJ_1",
    attributes={"floor": "2"},
    resume=ipc.Resume(attempt=2, journal="AJ_1.journal", died="killed", at=7.5),
)
CHILD_MESSAGES: Final[tuple[ipc.ChildMessage, ...]] = (
    ipc.Hello("slot-1", 4711, "0.1.0", JOB_INFO),
    ipc.Ready(1.5),
    ipc.BootFailure("no module", "Traceback"),
    ipc.Considered("AJ_1", True, identity="agent", attributes={"floor": "2"}),
    ipc.Pong(7),
    ipc.Joined(0.2, "AJ_1.journal"),
    ipc.RoomChanged("connected", "RM_1"),
    ipc.Measured(counted=(("turns", (("agent", "reception"),), 1.0),), observed=(("delay", (), 0.5),)),
    ipc.Leaving("hung up"),
    ipc.Ended(),
)
DAEMON_MESSAGES: Final[tuple[ipc.DaemonMessage, ...]] = (
    ipc.Boot(b"settings", "reception"),
    ipc.Consider(JOB_INFO),
    ipc.StartJob(JOB_INFO),
    ipc.WrapUp(30.0, last=True),
    ipc.EndJob("worker stops", 10.0),
    ipc.MayLeave(),
    ipc.Ping(7),
)


def spoiled(data: bytes, dice: random.Random) -> bytes:
    """The bytes after some accidents."""
    bad = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        if not bad:
            return dice.randbytes(dice.randrange(60))
        at, length = dice.randrange(len(bad)), dice.choice((1, 1, 2, 4, 16, 100))
        match dice.randrange(8):
            case 0:
                bad[at] ^= 1 << dice.randrange(8)
            case 1:
                bad[at : at + length] = dice.randbytes(min(length, len(bad) - at))
            case 2:
                del bad[at : at + length]
            case 3:
                bad[at:at] = dice.randbytes(length)
            case 4:
                bad[at:at] = bad[dice.randrange(len(bad)) :][:length]
            case 5:
                bad[at : at + length] = bytes((dice.choice((0, 0x7F, 0x80, 0xFF)),)) * length
            case 6:  # nested without an end: groups of protobuf, arrays and maps of MessagePack
                bad[at:at] = dice.choice((b"\x0b", b"\x0a\x7f", b"\x91", b"\x81\xa1x")) * dice.choice((10, 200, 5000))
            case 7:  # a length or a count that is not true
                bad[at : at + 1] = dice.choice(
                    (b"\xff\xff\xff\xff\x0f", b"\xdd\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff")
                )
    return bytes(bad)


def _changed_message(dice: random.Random) -> bytes:
    """A good message of the server with other contents."""
    message = agent.ServerMessage()
    message.CopyFrom(dice.choice(SERVER_MESSAGES))
    kind = message.WhichOneof("message") or ""
    part: Any = getattr(message, kind)
    job = part.job if kind in ("availability", "assignment") else None
    if job is not None:
        for name in dice.sample(("id", "agent_name", "dispatch_id", "metadata"), dice.randrange(3)):
            setattr(job, name, dice.choice(TEXTS))
        if dice.random() < 0.3:
            job.type = dice.choice((0, 1, 2, 3, -1, 2**31 - 1))
        if dice.random() < 0.3:
            job.room.name = dice.choice(TEXTS)
        if dice.random() < 0.1:
            job.attributes.update({text: text for text in TEXTS})
    elif kind == "termination":
        part.job_id = dice.choice(TEXTS)
    elif kind == "pong":
        part.last_timestamp = dice.choice((0, 1, 2, -1, 2**63 - 1, -(2**63)))
    return message.SerializeToString()


def server_frames(dice: random.Random) -> Iterator[bytes]:
    """What a hostile server sends: good messages at the wrong time, good ones with odd contents, and noise."""
    while True:
        match dice.randrange(4):
            case 0 | 1:
                yield dice.choice(SERVER_MESSAGES).SerializeToString()
            case 2:
                yield _changed_message(dice)
            case 3:
                yield spoiled(dice.choice(SERVER_MESSAGES).SerializeToString(), dice)


# ── who it is sent to ────────────────────────────────────────────────────────────────────────────────────────────────


class Worker:
    """A link and a daemon without a socket: performs what the machine commands, and holds it to its word."""

    def __init__(self, dice: random.Random) -> None:
        self.protocol = WorkerProtocol(Registration("reception"))
        self.now = 0.0
        self.became: Counter[str] = Counter()
        self._dice = dice
        self._undecided: list[tuple[str, bool]] = []
        self._offered: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._terminated: set[str] = set()
        self._held: set[str] = set()
        self._started: set[str] = set()

    def feed(self, event: Event) -> None:
        for command in self.protocol.handle(event, self.now):
            self._perform(command)
        deadline = self.protocol.deadline()
        assert deadline is None or deadline > self.now

    def pass_time(self, seconds: float) -> None:
        ends = self.now + seconds
        while (deadline := self.protocol.deadline()) is not None and deadline <= ends:
            self.now = deadline
            self.feed(Tick())
        self.now = ends

    def receive(self, frame: bytes) -> None:
        event = decode(frame)
        assert isinstance(event, get_args(RemoteEvent))
        assert len(repr(event)) < 40_000
        self.became[type(event).__name__] += 1
        match event:
            case OfferReceived(offer=offer):
                self._offered[offer.id] += 1
            case Terminated(job_id=job_id):
                self._terminated.add(job_id)
        self.feed(event)

    def decide(self) -> None:
        undecided, self._undecided = self._undecided, []
        for job_id, yes in undecided:
            self.feed(OfferAnswered(job_id, Acceptance(f"agent-{job_id}") if yes else Refusal("busy")))

    def happen(self) -> None:
        """Something on our side."""
        job_id = self._dice.choice(IDS)
        match self._dice.randrange(12):
            case 0:
                self.pass_time(self._dice.choice((0.01, 0.31, 2.1, 5.1, 20.0)))
            case 1:
                self.feed(LinkLost("reset"))
                self._terminated.clear()
            case 2 | 3 | 4 if self.protocol.state is LinkState.OPENING:
                self.feed(LinkOpened())
            case 5:
                self._end(job_id, JobStatusReported(job_id, self._dice.choice(("success", "failed"))))
            case 6:
                self.feed(JobStatusReported(job_id, "running"))
            case 7:
                self.feed(JobRecovered(job_id))
            case 8:
                self.feed(CapacityChanged(max(0, 3 - len(self._held)), 3))
            case 9 if self._dice.random() < 0.3:
                self.feed(DrainAsked())
            case 10 | 11:
                self.decide()

    def close(self) -> None:
        """The story is over: nothing is held for a job that did not come."""
        self.feed(CloseAsked())
        self.decide()
        assert self.protocol.state is LinkState.CLOSED
        assert self.protocol.deadline() is None
        assert self._held == self._started

    def _end(self, job_id: str, report: JobStatusReported) -> None:
        if job_id in self._started:
            self._started.discard(job_id)
            self._held.discard(job_id)
            self.feed(report)

    def _perform(self, command: Command) -> None:
        match command:
            case Decide(offer=offer):
                yes = offer.id not in self._held and len(self._held) < 3 and self._dice.random() < 0.8
                if yes:
                    self._held.add(offer.id)
                self._undecided.append((offer.id, yes))
                if self._dice.random() < 0.5:
                    self.decide()
            case GiveUp(job_id=job_id):
                assert job_id in self._held
                assert job_id not in self._started
                self._held.discard(job_id)
            case Start(assignment=assignment):
                assert assignment.offer.id in self._held
                assert assignment.offer.id not in self._started
                assert "job-token" not in repr(assignment)
                self._started.add(assignment.offer.id)
            case End(job_id=job_id):
                assert job_id in self._started
                assert job_id in self._terminated, "ended by another link's termination"
            case Drop(reason=reason):
                assert len(reason) < 1000
            case DropLink():
                assert self.protocol.state in (LinkState.OPENING, LinkState.CLOSED)
                self._terminated.clear()
            case SendAvailability(job_id=job_id):
                self._answered[job_id] += 1
                assert self._answered[job_id] <= self._offered[job_id]
                assert not agent.WorkerMessage.FromString(encode(command)).availability.terminate
            case _ if isinstance(command, OUTGOING):
                assert agent.WorkerMessage.FromString(encode(command)).WhichOneof("message")


def server_story(dice: random.Random) -> Counter[str]:
    worker = Worker(dice)
    worker.feed(CapacityChanged(3, 3))
    worker.feed(LinkOpened())
    if dice.random() < 0.9:
        worker.receive(SERVER_MESSAGES[0].SerializeToString())
    frames = server_frames(dice)
    for _ in range(MESSAGES - 1):
        if dice.random() < 0.5:
            worker.happen()
        worker.receive(next(frames))
    worker.close()
    return worker.became


# ── jobs' processes ──────────────────────────────────────────────────────────────────────────────────────────────────

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 2**63, 1e308, float("nan")),
    *("", "x" * 5000, b"\xff", [], [[]], {}, {"type": "Pong"}),
)


def _changed_frame(message: ipc.ChildMessage | ipc.DaemonMessage, dice: random.Random) -> bytes:
    """A frame whose borders are right and whose message is not quite ours."""
    contents: dict[Any, Any] = msgspec.msgpack.decode(ipc.encode(message)[4:])
    for _ in range(dice.randrange(1, 4)):
        key = dice.choice((*contents, "type", "more"))
        contents[key] = dice.choice((*_VALUES, *(type(each).__name__ for each in CHILD_MESSAGES)))
    body = msgspec.msgpack.encode(contents)
    if dice.random() < 0.3:
        body = spoiled(body, dice)
    return len(body).to_bytes(4, "big") + body


def line_story(dice: random.Random) -> Counter[str]:
    """A connection of which one side sends anything. It ends at the first bad frame, as both sides do."""
    child = dice.random() < 0.7
    kind: UnionType = ipc.ChildMessage if child else ipc.DaemonMessage
    known: tuple[ipc.ChildMessage | ipc.DaemonMessage, ...] = CHILD_MESSAGES if child else DAEMON_MESSAGES
    became: Counter[str] = Counter()
    frames = ipc.Frames(kind)
    for _ in range(MESSAGES):
        good = dice.choice(known)
        match dice.randrange(4):
            case 0 | 1:
                data = _changed_frame(good, dice)
            case 2:
                data = spoiled(ipc.encode(good), dice)
            case _:
                data = ipc.encode(good)
        try:
            messages = [message for piece in _pieces(data, dice) for message in frames.feed(piece)]
        except ipc.BadFrame as error:
            became["BadFrame" if len(str(error)) < 300 else "endless BadFrame"] += 1
            frames = ipc.Frames(kind)  # the next connection
            continue
        for message in messages:
            assert isinstance(message, get_args(kind))
            assert ipc.Frames(kind).feed(ipc.encode(message))
            became[f"frame {type(message).__name__}"] += 1
        became["incomplete frame"] += not messages
    assert not became["endless BadFrame"]
    return became


def _pieces(data: bytes, dice: random.Random) -> Iterator[bytes]:
    while data:
        size = dice.choice((1, 3, 100, len(data)))
        yield data[:size]
        data = data[size:]


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def story(number: int) -> Counter[str]:
    """Tell one story of ``MESSAGES`` inputs; what became of them. Raises what should not have been raised."""
    dice = random.Random(number)
    tell: Callable[[random.Random], Counter[str]] = server_story if number % 3 else line_story
    began = time.process_time()
    became = tell(dice)
    spent = time.process_time() - began
    assert spent < SLOW, f"{spent:.1f} seconds"
    return became


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the story to begin with")
    parser.add_argument("--story", type=int, help="tell this one alone")
    options = parser.parse_args()
    faulthandler.enable()
    if options.story is not None:
        sys.stdout.write(f"{story(options.story)}\n")
        return 0
    became: Counter[str] = Counter()
    began, number = time.monotonic(), options.first
    for number in count(options.first):
        if (number - options.first) * MESSAGES >= options.inputs:
            break
        faulthandler.dump_traceback_later(30.0, exit=True)  # a hang ends the run, and shows where it is
        try:
            became += story(number)
        except BaseException:
            sys.stdout.write(f"story {number} failed\n")
            raise
    faulthandler.cancel_dump_traceback_later()
    stories = number - options.first
    sys.stdout.write(f"{stories * MESSAGES} inputs in {stories} stories, {time.monotonic() - began:.1f} s\n")
    for what, times in became.most_common():
        sys.stdout.write(f"{times:8} {what}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
