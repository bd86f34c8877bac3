"""The link against a server in this process: what goes over the wire, and what is done when it breaks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.api.access_token import TokenVerifier
from livekit.protocol import agent
from structlog.testing import capture_logs

from greenroom.errors import Rejected, SettingsError
from greenroom.server.events import Acceptance, Answer, Assignment, Offer, Refusal
from greenroom.server.link import MAX_MESSAGE, Link, LinkState, Registration, agent_url, backoff, mint_worker_token
from greenroom.settings import ServerSettings
from greenroom.testing.fake_server import FakeServer, FakeWorker, job

RECEPTION = Registration("reception", "", "room")
PATIENCE = 10.0


def no_delay() -> Iterator[float]:
    return itertools.repeat(0.0)


class Daemon:
    """What the link calls: accepts every offer unless told otherwise, and keeps what it hears."""

    def __init__(self) -> None:
        self.decide: Callable[[Offer], Answer | Awaitable[Answer]] = lambda offer: Acceptance(
            f"agent-{offer.id}", "Reception"
        )
        self.started: asyncio.Queue[Assignment] = asyncio.Queue()
        self.start: Callable[[Assignment], None] = self.started.put_nowait
        self.ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.given_up: asyncio.Queue[str] = asyncio.Queue()
        self.states: asyncio.Queue[LinkState] = asyncio.Queue()
        self.refused: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def link(self, settings: ServerSettings, registration: Registration = RECEPTION, **options: Any) -> Link:
        return Link(
            settings,
            registration,
            decide=lambda offer: self.decide(offer),
            start=lambda assignment: self.start(assignment),
            end=lambda job_id, reason: self.ended.put_nowait((job_id, reason)),
            give_up=self.given_up.put_nowait,
            on_state=self.states.put_nowait,
            on_refused=lambda job_id, reason: self.refused.put_nowait((job_id, reason)),
            **{"delays": no_delay, **options},
        )

    async def until(self, state: LinkState) -> None:
        while await self.states.get() is not state:
            pass


@asynccontextmanager
async def running(link: Link, *, free: int = 4, total: int = 4) -> AsyncIterator[asyncio.Task[None]]:
    """The link at work, closed at the end; nothing in the block may take longer than ``PATIENCE``."""
    link.set_capacity(free, total)
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield task
    finally:
        async with asyncio.timeout(PATIENCE):
            await link.aclose()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


async def assigned(worker: FakeWorker, daemon: Daemon, job_id: str = "AJ_1") -> Assignment:
    """Offer a job, see it accepted, assign it; return what was started."""
    answer = await worker.offer(job(job_id))
    assert answer.available
    await worker.assign(job(job_id))
    return await daemon.started.get()


# ── one link ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["", "/media/line"])
async def test_a_worker_registers_and_tells_its_load(daemon: Daemon, path: str) -> None:
    async with FakeServer(path=path) as server:
        link = daemon.link(server.settings(), Registration("reception", "blue", "publisher"))
        async with running(link, free=2):
            worker = await server.worker()
            status = await worker.statuses.get()
            await daemon.until(LinkState.REGISTERED)
            assert link.worker_id == worker.id
            assert link.state is LinkState.REGISTERED
        assert (worker.registration.agent_name, worker.registration.namespace) == ("reception", "blue")
        assert worker.registration.type == agent.JobType.JT_PUBLISHER
        assert status.load == pytest.approx(0.7 * 0.98 / 2)
        assert link.worker_id == ""


async def test_a_job_goes_from_offer_to_its_end(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link):
        worker = await server.worker()
        answer = await worker.offer(job("AJ_1", metadata="of the job", dispatch_id="AD_1"))
        assert (answer.available, answer.participant_identity) == (True, "agent-AJ_1")
        await worker.assign(job("AJ_1", metadata="of the job", dispatch_id="AD_1"))
        assignment = await daemon.started.get()
        assert assignment.offer.metadata == "of the job"
        assert (assignment.offer.room, assignment.offer.room_sid) == ("lobby", "RM_lobby")
        assert (assignment.identity, assignment.worker_id) == ("agent-AJ_1", worker.id)
        assert (assignment.url, assignment.token) == (server.url, "job-token")
        assert link.report("AJ_1", "running")
        assert link.report("AJ_1", "failed", "the process died")
        assert not link.report("AJ_1", "success")
        updates = [await worker.job_updates.get() for _ in range(2)]
        assert [(update.status, update.error) for update in updates] == [
            (agent.JobStatus.JS_RUNNING, ""),
            (agent.JobStatus.JS_FAILED, "the process died"),
        ]


async def test_an_url_of_the_server_wins(server: FakeServer, daemon: Daemon) -> None:
    async with running(daemon.link(server.settings())):
        worker = await server.worker()
        await worker.offer(job("AJ_1"))
        await worker.assign(job("AJ_1"), url="wss://elsewhere")
        assert (await daemon.started.get()).url == "wss://elsewhere"


async def test_an_answer_is_written_before_the_loop_turns(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    left: list[int] = []

    def decide(offer: Offer) -> Answer:
        asyncio.get_running_loop().call_soon(lambda: left.append(len(link._outbox)))
        return Acceptance("agent")

    daemon.decide = decide
    async with running(link):
        worker = await server.worker()
        await worker.statuses.get()
        await worker.offer(job("AJ_1"))
    assert left == [0]


async def test_a_refusal_reaches_the_server(server: FakeServer, daemon: Daemon) -> None:
    daemon.decide = lambda offer: Refusal("no warm process")
    async with running(daemon.link(server.settings())):
        worker = await server.worker()
        answer = await worker.offer(job("AJ_1"))
        assert (answer.job_id, answer.available, answer.terminate) == ("AJ_1", False, False)
        assert await daemon.refused.get() == ("AJ_1", "no warm process")


@pytest.mark.parametrize("answer", [Acceptance("agent-AJ_1"), Refusal("closed today")], ids=["yes", "no"])
async def test_an_answer_may_be_awaited(server: FakeServer, daemon: Daemon, answer: Answer) -> None:
    decided: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    daemon.decide = lambda offer: decided if offer.id == "AJ_1" else Refusal("no warm process")
    link = daemon.link(server.settings())
    async with running(link):
        worker = await server.worker()
        await worker.send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=job("AJ_1"))))
        assert (await worker.offer(job("AJ_2"))).job_id == "AJ_2"  # decided at once, while the other waits
        decided.set_result(answer)
        said = await worker.answers.get()
        assert (said.job_id, said.available) == ("AJ_1", isinstance(answer, Acceptance))
        if said.available:
            await worker.assign(job("AJ_1"))
            assert (await daemon.started.get()).identity == "agent-AJ_1"


async def test_an_awaited_acceptance_that_the_link_did_not_outlive_frees_its_slot(
    server: FakeServer, daemon: Daemon
) -> None:
    decided, asked = asyncio.Event(), asyncio.Event()

    async def consider() -> Answer:
        asked.set()
        await decided.wait()
        return Acceptance("agent")

    daemon.decide = lambda offer: consider()
    async with running(daemon.link(server.settings())):
        worker = await server.worker()
        await worker.send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=job("AJ_1"))))
        await asked.wait()
        worker.cut()
        await server.worker()
        decided.set()
        assert await daemon.given_up.get() == "AJ_1"


async def test_what_still_decides_when_the_link_closes_is_cancelled(server: FakeServer, daemon: Daemon) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def consider() -> Answer:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Refusal("never")

    daemon.decide = lambda offer: consider()
    async with running(daemon.link(server.settings())):
        worker = await server.worker()
        await worker.send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=job("AJ_1"))))
        await asked.wait()
    assert cancelled.is_set()
    assert daemon.given_up.empty()


async def test_an_awaited_decision_that_fails_ends_the_link_loudly(server: FakeServer, daemon: Daemon) -> None:
    async def consider() -> Answer:
        raise ZeroDivisionError

    daemon.decide = lambda offer: consider()
    async with running(daemon.link(server.settings())) as task:
        worker = await server.worker()
        await worker.send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=job("AJ_1"))))
        with pytest.raises(ZeroDivisionError):
            await task
        await worker.gone.wait()


async def test_a_change_of_capacity_made_while_deciding_is_told(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())

    def decide(offer: Offer) -> Answer:
        link.set_capacity(0, 1)
        return Acceptance("agent")

    daemon.decide = decide
    async with running(link, free=1, total=1):
        worker = await server.worker()
        assert (await worker.statuses.get()).load == 0.0
        assert (await worker.offer(job("AJ_1"))).available
        status = await worker.statuses.get()
        assert (status.status, status.load) == (agent.WorkerStatus.WS_FULL, 1.0)
        assert not (await worker.offer(job("AJ_2"))).available


async def test_a_status_can_be_reported_from_within_start(server: FakeServer, daemon: Daemon) -> None:
    sent: list[bool] = []
    link = daemon.link(server.settings())
    daemon.start = lambda assignment: sent.append(link.report(assignment.offer.id, "running"))
    async with running(link):
        worker = await server.worker()
        await worker.offer(job("AJ_1"))
        await worker.assign(job("AJ_1"))
        assert (await worker.job_updates.get()).status == agent.JobStatus.JS_RUNNING
    assert sent == [True]


async def test_a_termination_ends_the_job(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link):
        worker = await server.worker()
        await assigned(worker, daemon)
        await worker.terminate("AJ_1")
        assert await daemon.ended.get() == ("AJ_1", "terminated by the server")
        assert not link.report("AJ_1", "success")


async def test_a_termination_followed_by_the_end_of_the_link_ends_nothing(server: FakeServer, daemon: Daemon) -> None:
    async with running(daemon.link(server.settings())):
        worker = await server.worker()
        await assigned(worker, daemon)
        await worker.terminate("AJ_1")
        # Answered after the termination was taken, and sooner than it settles.
        await worker.offer(job("AJ_2"))
        worker.cut()
        second = await server.worker()
        await assigned(second, daemon, "AJ_3")
        await second.terminate("AJ_3")
        assert await daemon.ended.get() == ("AJ_3", "terminated by the server")


async def test_a_recovered_job_outlives_the_termination_of_its_ghost(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link):
        worker = await server.worker()
        for job_id in ("AJ_1", "AJ_2"):
            await assigned(worker, daemon, job_id)
        link.recovered("AJ_1")
        assert link.owns("AJ_1")
        await worker.terminate("AJ_1")
        await worker.terminate("AJ_2")
        assert await daemon.ended.get() == ("AJ_2", "terminated by the server")
        assert not link.owns("AJ_1")
    assert (link.dropped, link.terminations_dropped) == (0, 1)
    assert daemon.ended.empty()


async def test_an_assignment_that_does_not_come_frees_the_slot(server: FakeServer, daemon: Daemon) -> None:
    async with running(daemon.link(server.settings(), assignment_timeout=0.02)):
        worker = await server.worker()
        assert (await worker.offer(job("AJ_1"))).available
        assert await daemon.given_up.get() == "AJ_1"
        await worker.assign(job("AJ_1"))
        assert (await worker.job_updates.get()).status == agent.JobStatus.JS_FAILED
    assert daemon.started.empty()


async def test_what_is_not_understood_is_counted_and_survived(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link):
        worker = await server.worker()
        for nonsense in (
            b"\xff\xff",
            "text",
            b"",
            agent.ServerMessage(termination=agent.JobTermination(job_id="AJ_9")),
        ):
            await worker.send(nonsense)
        assert (await worker.offer(job("AJ_1"))).available
    assert link.dropped == 4
    assert server.registrations == 1


async def test_a_ping_is_answered_and_timed(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings(ping_interval=0.01))
    async with running(link):
        worker = await server.worker()
        while worker.received["ping"] < 3:
            await worker.offer(job("AJ_1"))
        assert link.round_trip is not None
        assert 0 < link.round_trip < PATIENCE


# ── the link is lost ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_link_that_is_cut_is_made_again_and_its_jobs_belong_to_none(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link):
        first = await server.worker()
        await assigned(first, daemon, "AJ_1")
        assert (await first.offer(job("AJ_2"))).available
        first.cut()
        assert await daemon.given_up.get() == "AJ_2"
        second = await server.worker()
        await second.statuses.get()
        assert second.id != first.id
        assert not link.report("AJ_1", "success")
        assert link.state is LinkState.REGISTERED
        assert (await second.offer(job("AJ_3"))).available
    assert second.job_updates.empty()
    assert daemon.ended.empty()


async def test_a_server_that_does_not_confirm_is_left(server: FakeServer, daemon: Daemon) -> None:
    server.hold_registration()
    async with running(daemon.link(server.settings(ping_timeout=0.1))):
        await server.asked(3)
        server.hold_registration(False)
        await server.worker()


async def test_a_half_open_link_is_noticed_and_made_again(server: FakeServer, daemon: Daemon) -> None:
    async with running(daemon.link(server.settings(ping_interval=0.02, ping_timeout=0.1))):
        first = await server.worker()
        await first.offer(job("AJ_1"))
        first.go_silent()
        assert await daemon.given_up.get() == "AJ_1"
        await first.gone.wait()
        await server.worker()


async def test_a_message_that_is_too_large_costs_the_link(server: FakeServer, daemon: Daemon) -> None:
    async with running(daemon.link(server.settings())):
        worker = await server.worker()
        await worker.send(b"\x00" * (MAX_MESSAGE + 1))
        await worker.gone.wait()
        await server.worker()


async def test_delays_start_again_only_once_registered(server: FakeServer, daemon: Daemon) -> None:
    started: list[int] = []

    def delays() -> Iterator[float]:
        started.append(server.requests)
        return itertools.repeat(0.0)

    server.cut_on_accept()
    async with running(daemon.link(server.settings(), delays=delays)):
        await server.asked(5)
        assert started == [0]
        server.cut_on_accept(False)
        worker = await server.worker()
        before = server.requests
        worker.cut()
        await server.worker()
        assert started == [0, before]


async def test_a_server_that_comes_back_gets_its_worker_back(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link):
        await server.worker()
        await daemon.until(LinkState.REGISTERED)
        await server.stop()
        await daemon.until(LinkState.OPENING)
        await server.start()
        await server.worker()


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_fatal_at_first(server: FakeServer, daemon: Daemon, status: int) -> None:
    server.refuse(status)
    settings = server.settings()
    with pytest.raises(Rejected) as caught:
        await daemon.link(settings).run()
    message = str(caught.value)
    assert server.url in message
    assert "'devkey'" in message
    assert str(status) in message
    assert settings.api_secret not in message
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert server.requests == 1


async def test_a_wrong_secret_is_fatal_at_first(server: FakeServer, daemon: Daemon) -> None:
    with pytest.raises(Rejected, match="api_secret"):
        await daemon.link(server.settings(api_secret="another" * 6)).run()


async def test_a_wrong_address_is_fatal_at_first(server: FakeServer, daemon: Daemon) -> None:
    with pytest.raises(Rejected, match="no LiveKit server answers"):
        await daemon.link(server.settings(url=server.url + "/elsewhere")).run()


async def test_a_refusal_after_a_registration_is_a_passing_fault(server: FakeServer, daemon: Daemon) -> None:
    async with running(daemon.link(server.settings())):
        worker = await server.worker()
        server.refuse(401)
        worker.cut()
        await server.asked(4)
        server.refuse(None)
        await server.worker()


async def test_a_server_that_is_not_ready_is_asked_again(server: FakeServer, daemon: Daemon) -> None:
    server.refuse(503)
    async with running(daemon.link(server.settings())):
        await server.asked(3)
        server.refuse(None)
        await server.worker()


async def test_a_server_that_is_not_there_yet_is_waited_for(daemon: Daemon) -> None:
    server = FakeServer()
    await server.start()
    await server.stop()
    tried = asyncio.Event()

    def delays() -> Iterator[float]:
        yield 0.0
        tried.set()
        yield from itertools.repeat(0.01)

    async with running(daemon.link(server.settings(), delays=delays)):
        await tried.wait()
        async with server:
            await server.worker()


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_draining_refuses_offers_and_ends_with_the_link(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link) as task:
        worker = await server.worker()
        await worker.statuses.get()
        await assigned(worker, daemon)
        link.drain()
        assert (await worker.statuses.get()).status == agent.WorkerStatus.WS_FULL
        assert not (await worker.offer(job("AJ_2"))).available
        assert link.report("AJ_1", "success")
        assert (await worker.job_updates.get()).status == agent.JobStatus.JS_SUCCESS
        worker.cut()
        await task
        assert link.state is LinkState.CLOSED
    assert server.requests == 1


async def test_what_was_reported_is_written_before_the_link_closes(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    async with running(link) as task:
        worker = await server.worker()
        await assigned(worker, daemon)
        assert link.report("AJ_1", "success")
        await link.aclose()
        assert (await worker.job_updates.get()).status == agent.JobStatus.JS_SUCCESS
        await worker.gone.wait()
        await task
        assert link.state is LinkState.CLOSED


async def test_a_link_can_be_closed_while_it_waits(server: FakeServer, daemon: Daemon) -> None:
    server.refuse(503)
    waiting = asyncio.Event()

    def delays() -> Iterator[float]:
        waiting.set()
        yield 86_400.0

    async with running(daemon.link(server.settings(), delays=delays)):
        await waiting.wait()


async def test_a_link_can_be_closed_while_it_connects(daemon: Daemon) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await release.wait()
        writer.close()
        await writer.wait_closed()

    mute = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with mute:
        port = mute.sockets[0].getsockname()[1]
        settings = ServerSettings(url=f"ws://127.0.0.1:{port}", api_key="k", api_secret="s" * 32, ping_timeout=86_400.0)
        link = daemon.link(settings)
        async with running(link):
            await asked.wait()
        assert link.state is LinkState.CLOSED
        release.set()


async def test_a_link_that_was_closed_before_it_ran_does_not_connect(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings())
    await link.aclose()
    await link.run()
    assert server.requests == 0


async def test_a_cancelled_link_leaves_nothing_behind(server: FakeServer, daemon: Daemon) -> None:
    link = daemon.link(server.settings(ping_interval=0.01))
    task = asyncio.create_task(link.run())
    async with asyncio.timeout(PATIENCE):
        worker = await server.worker()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await worker.gone.wait()
    assert not [task for task in asyncio.all_tasks() if "Link." in str(task.get_coro())]


async def test_a_failure_of_our_own_ends_the_link_loudly(server: FakeServer, daemon: Daemon) -> None:
    def decide(offer: Offer) -> Answer:
        raise ZeroDivisionError

    daemon.decide = decide
    async with running(daemon.link(server.settings())) as task:
        worker = await server.worker()
        await worker.send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=job("AJ_1"))))
        with pytest.raises(ZeroDivisionError):
            await task
        await worker.gone.wait()


# ── logs, addresses, tokens, delays ──────────────────────────────────────────────────────────────────────────────────


async def test_the_log_tells_the_story_and_no_secret(server: FakeServer, daemon: Daemon) -> None:
    settings = server.settings()
    with capture_logs() as logs:
        async with running(daemon.link(settings)):
            worker = await server.worker()
            await assigned(worker, daemon)
            daemon.decide = lambda offer: Refusal("no warm process")
            await worker.offer(job("AJ_2"))
            worker.cut()
            await server.worker()
            await daemon.until(LinkState.OPENING)
            await daemon.until(LinkState.REGISTERED)
    told = [entry["event"] for entry in logs if entry["log_level"] != "debug"]
    assert told == [
        "registered",
        "offer accepted",
        "job assigned",
        "offer refused",
        "link lost",
        "registered",
        "link closed",
    ]
    registered = logs[0]
    assert (registered["worker_id"], registered["agent_name"], registered["job_type"]) == ("AW_1", "reception", "room")
    assert registered["url"] == f"{server.url}/agent"
    assert all(secret not in repr(logs) for secret in (settings.api_secret, "job-token", "turn-password"))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://localhost:7880", "ws://localhost:7880/agent"),
        ("http://localhost:7880/", "ws://localhost:7880/agent"),
        ("https://media.example.org/line", "wss://media.example.org/line/agent"),
        ("wss://media.example.org/line/?x=1#y", "wss://media.example.org/line/agent"),
    ],
)
def test_workers_have_an_address_of_their_own(url: str, address: str) -> None:
    assert str(agent_url(url)) == address


@pytest.mark.parametrize(
    "url", ["", "localhost:7880", "ftp://localhost", "ws://", "ws://[", "ws://host:port", "ws://ann:hush@host"]
)
def test_what_is_no_address_is_an_error_of_the_settings(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^server\.url: expected") as caught:
        agent_url(url)
    assert "hush" not in str(caught.value)


def test_a_workers_token_allows_to_register_and_little_else() -> None:
    settings = ServerSettings(url="ws://localhost", api_key="devkey", api_secret="s" * 32)
    claims = TokenVerifier("devkey", "s" * 32).verify(mint_worker_token(settings))
    assert claims.video is not None
    assert claims.video.agent
    assert not claims.video.room_join
    assert not claims.identity


def test_delays_double_to_their_maximum_with_jitter_below() -> None:
    assert list(itertools.islice(backoff(5.0, random=lambda: 0.0), 6)) == [0.25, 0.5, 1.0, 2.0, 2.5, 2.5]
    assert list(itertools.islice(backoff(5.0, random=lambda: 1.0), 5)) == pytest.approx([0.45, 0.9, 1.8, 3.6, 4.5])
    assert next(backoff(0.2, random=lambda: 0.0)) == pytest.approx(0.1)
    assert len(set(itertools.islice(backoff(5.0), 20))) == 20
