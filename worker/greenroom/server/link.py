"""One registration's websocket to the media server: the thin shell around ``WorkerProtocol``.

A ``Link`` connects, registers, and connects again for as long as it is wanted. Whatever the machine commands is
performed at once; nothing is awaited between the receipt of an offer and the writing of its answer, unless whoever
decides asks for time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Final

import aiohttp
import structlog
from livekit.api.access_token import AccessToken, VideoGrants
from yarl import URL

from greenroom.errors import Rejected, SettingsError
from greenroom.machine import Driver
from greenroom.server.codec import decode, encode
from greenroom.server.events import (
    Acceptance,
    Announce,
    Answer,
    Assignment,
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
    JobStatus,
    JobStatusReported,
    LinkLost,
    LinkOpened,
    LinkState,
    Malformed,
    Offer,
    OfferAnswered,
    Refusal,
    Registration,
    SendAvailability,
    Start,
    Tick,
    Unsent,
)
from greenroom.server.protocol import Timing, WorkerProtocol
from greenroom.settings import ServerSettings

__all__ = ["MAX_MESSAGE", "Link", "LinkState", "Registration", "agent_url", "backoff", "mint_worker_token"]

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes in one message of the server. Job metadata is the only large part, and half a megabyte of it is in use."""

_TOKEN_LIFE: Final = timedelta(minutes=10)
_CLOSE_TIMEOUT: Final = 1.0
_REFUSED: Final = (401, 403, 404)


def backoff(maximum: float, *, initial: float = 0.5, random: Callable[[], float] = random.random) -> Iterator[float]:
    """Yield the seconds to wait before each attempt: steps that double up to ``maximum``, each made a little shorter.

    The jitter keeps a thousand workers from returning in the same instant. It takes between a tenth and a half, so
    that with a ``maximum`` of five seconds a server that is back is found in less than five.
    """
    step = min(initial, maximum)
    while True:
        yield step * (0.5 + 0.4 * random())
        step = min(2 * step, maximum)


def agent_url(url: str) -> URL:
    """The address that workers connect to: ``url`` as a websocket, its path kept as a prefix.

    Raises ``SettingsError`` for what is no such address.
    """
    try:
        address = URL(url)
    except ValueError:
        address = URL()
    scheme = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}.get(address.scheme)
    if scheme is None or not address.host:
        raise SettingsError("expected a ws://, wss://, http:// or https:// address", key="server.url")
    if address.user is not None or address.password is not None:
        # They would claim the header that the worker's token travels in.
        raise SettingsError("expected an address without a user name or password", key="server.url")
    return address.with_scheme(scheme).with_query(None).with_fragment(None) / "agent"


def mint_worker_token(settings: ServerSettings) -> str:
    """A short-lived token that allows to register as a worker, and nothing else."""
    grants = VideoGrants(agent=True, can_publish=False, can_subscribe=False, can_publish_data=False)
    return AccessToken(settings.api_key, settings.api_secret).with_ttl(_TOKEN_LIFE).with_grants(grants).to_jwt()


class Link:
    """One registration, kept alive. Made on the running loop, and run once.

    ``decide`` answers an offer, or returns what is awaited for the answer; ``start`` takes an assigned job; ``end``
    hears (job id, reason) that the server ended one; ``give_up`` hears the id of a job that ``decide`` accepted and
    that will not come; ``on_state`` hears each change of state; ``on_refused`` hears (job id, reason) of each offer
    that was refused, here or by ``decide``. All are called on the loop and must return at once.

    What ``decide`` returns to be awaited is cancelled when it takes longer than the server listens, and when ``run``
    is left; then it has to give back by itself what it holds for the job.
    """

    def __init__(
        self,
        settings: ServerSettings,
        registration: Registration,
        *,
        decide: Callable[[Offer], Answer | Awaitable[Answer]],
        start: Callable[[Assignment], None],
        end: Callable[[str, str], None],
        give_up: Callable[[str], None],
        on_state: Callable[[LinkState], None],
        on_refused: Callable[[str, str], None] | None = None,
        assignment_timeout: float = 5.0,
        delays: Callable[[], Iterator[float]] | None = None,
    ) -> None:
        self.registration = registration
        self.dropped = 0
        """How many messages of the server had no meaning."""
        self.terminations_dropped = 0
        """How many terminations were of a participant whose place another one of ours has taken."""
        self._settings = settings
        self._url = agent_url(settings.url)
        self._decide = decide
        self._start = start
        self._end = end
        self._give_up = give_up
        self._on_state = on_state
        self._on_refused = on_refused
        self._deciding: dict[str, asyncio.Task[Answer]] = {}
        self._delays = delays or (lambda: backoff(settings.backoff_max))
        timing = Timing(
            register=settings.ping_timeout,
            assignment=assignment_timeout,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
        )
        self._protocol = WorkerProtocol(registration, timing=timing, target_load=settings.target_load)
        self._driver: Driver[Event, Command] = Driver(
            self._protocol, self._perform, clock=asyncio.get_running_loop(), tick=Tick()
        )
        self._log = structlog.get_logger(__name__).bind(
            agent_name=registration.agent_name, job_type=registration.job_type
        )
        self._outbox: deque[bytes] = deque()
        self._unwritten = asyncio.Event()
        self._dropped_link: asyncio.Future[str] | None = None
        self._connecting: asyncio.Timeout | None = None
        self._closed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()
        self._registered_now = False
        self._registered_ever = False

    @property
    def state(self) -> LinkState:
        """Where this registration stands."""
        return self._protocol.state

    @property
    def worker_id(self) -> str:
        """The server's name for us on the present link; empty while not registered."""
        registered = self._protocol.registered
        return registered.worker_id if registered is not None else ""

    @property
    def server_version(self) -> str:
        """What the server says it is, on the present link; empty while not registered."""
        registered = self._protocol.registered
        return registered.server_version if registered is not None else ""

    @property
    def round_trip(self) -> float | None:
        """Seconds that the last ping took to the server and back, if one was answered on the present link."""
        return self._protocol.round_trip

    @property
    def address(self) -> str:
        """Where the worker connects to, for people to read."""
        return str(self._url)

    async def run(self) -> None:
        """Keep the registration alive until ``aclose``, or until the link of a drained one ends.

        Raises ``Rejected`` when the server refuses the credentials or knows no such path before it ever accepted this
        worker; later it is taken for a passing fault, like all else.
        """
        self._stopped.clear()
        try:
            # The requests are bounded by themselves; a session's own timeouts would cut a quiet socket.
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
                await self._keep_alive(session)
        finally:
            await self._stop_deciding()
            self._driver.close()
            self._stopped.set()

    def set_capacity(self, free: int, total: int) -> None:
        """Say how many slots can take a job now. The server hears of a change at once."""
        self._driver.feed(CapacityChanged(free, total))

    def report(self, job_id: str, status: JobStatus, error: str = "") -> bool:
        """Tell the server how a job stands; ``success`` and ``failed`` end it there, so send them before leaving.

        Returns whether it was sent: a job can be reported only on the link that it was assigned on, as long as that
        lives and the server has not ended the job.
        """
        owned = self.owns(job_id)
        self._driver.feed(JobStatusReported(job_id, status, error))
        return owned

    def owns(self, job_id: str) -> bool:
        """Whether a report on this job would reach the server."""
        return self._protocol.owns(job_id)

    def recovered(self, job_id: str) -> None:
        """Say that a job's place in the room is, or will be, taken by another participant of the same identity.

        The server's next termination of the job is about the old participant and is dropped; ``end`` does not hear of
        it, nor of the job again. Nothing happens for a job that does not run on the present link.
        """
        self._driver.feed(JobRecovered(job_id))

    def drain(self) -> None:
        """Take no more jobs, for good; those that run can still be reported."""
        self._driver.feed(DrainAsked())

    async def aclose(self) -> None:
        """Leave the server, after what was reported has been written. ``run`` returns."""
        self._driver.feed(CloseAsked())
        await self._stopped.wait()

    # ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep_alive(self, session: aiohttp.ClientSession) -> None:
        delays = self._delays()
        while not self._closed.is_set():
            self._registered_now = False
            reason = await self._connect(session)
            if self._closed.is_set():
                self._log.info("link closed", reason=reason)
                return
            if self._registered_now:
                delays = self._delays()
            delay = next(delays)
            said = "link lost" if self._registered_now else "not registered"
            self._log.warning(said, url=self.address, reason=reason, retry=round(delay, 3))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._closed.wait()

    async def _connect(self, session: aiohttp.ClientSession) -> str:
        """Make one link and serve it to its end; return why it ended or was not made."""
        status: int | None = None
        headers = {"Authorization": f"Bearer {mint_worker_token(self._settings)}"}
        try:
            async with asyncio.timeout(self._settings.ping_timeout) as self._connecting:
                socket = await session.ws_connect(self._url, headers=headers, max_msg_size=MAX_MESSAGE, compress=0)
        except aiohttp.WSServerHandshakeError as error:
            status = error.status
        except TimeoutError:
            return f"no answer to the connection request for {self._settings.ping_timeout:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return _describe(error)
        finally:
            self._connecting = None
        if status is not None:
            # The error holds the request with its token: nothing of it but the status leaves its ``except``.
            return self._refused(status)
        try:
            return "closed" if self._closed.is_set() else await self._serve(socket)
        finally:
            await self._hang_up(socket)

    def _refused(self, status: int) -> str:
        if status in _REFUSED and not self._registered_ever:
            if status == 404:
                raise Rejected(f"{self.address}: no LiveKit server answers at this address (HTTP 404)")
            raise Rejected(
                f"{self.address}: the server does not accept api_key {self._settings.api_key!r} with its api_secret "
                f"(HTTP {status}); check both, and this machine's clock"
            )
        return f"the server answered HTTP {status}"

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        self._outbox.clear()
        self._dropped_link = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(self._read(socket)), asyncio.create_task(self._write(socket))]
        try:
            self._driver.feed(LinkOpened())
            endings = [self._dropped_link, *tasks]
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            reasons = [ending.result() for ending in endings if ending.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._dropped_link.cancel()
        self._driver.feed(LinkLost(reasons[0]))
        return reasons[0]

    async def _hang_up(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Write what is left, such as a job's last status, and say goodbye, if the other side takes it in time."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                try:
                    await self._flush(socket)
                finally:
                    await socket.close()

    # ── the socket ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        while True:
            message = await socket.receive()
            match message.type:
                case aiohttp.WSMsgType.BINARY:
                    event: Event = decode(message.data)
                case aiohttp.WSMsgType.TEXT:
                    event = Malformed("a text frame")
                case aiohttp.WSMsgType.ERROR:
                    return _describe(message.data)
                case _:
                    return f"closed by the server (code {socket.close_code})"
            if self._dropped_link is None or self._dropped_link.done():
                return "dropped"
            self._driver.feed(event)
            # Written from here and not by the writer: an answer must not wait for the loop's other work.
            try:
                await self._flush(socket)
            except (aiohttp.ClientError, OSError) as error:
                return _describe(error)

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        try:
            while True:
                await self._unwritten.wait()
                self._unwritten.clear()
                await self._flush(socket)
        except (aiohttp.ClientError, OSError) as error:
            return _describe(error)

    async def _flush(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        # ``send_bytes`` hands its frame to the transport before it first waits, so two callers keep the order.
        while self._outbox:
            await socket.send_bytes(self._outbox.popleft())

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_deciding(self, job_id: str, answer: Awaitable[Answer]) -> None:
        task = asyncio.ensure_future(_awaited(answer))
        self._deciding[job_id] = task
        task.add_done_callback(lambda task: self._decided(job_id, task))

    def _decided(self, job_id: str, task: asyncio.Task[Answer]) -> None:
        del self._deciding[job_id]
        if task.cancelled():
            self._driver.feed(OfferAnswered(job_id, Refusal("cancelled")))
        elif (error := task.exception()) is not None:
            self._driver.feed(OfferAnswered(job_id, Refusal("failed")))
            self._fail(error)
        else:
            self._driver.feed(OfferAnswered(job_id, task.result()))

    def _fail(self, error: BaseException) -> None:
        """A failure of our own ends ``run`` with it, as it would had nobody waited."""
        if self._dropped_link is None or self._dropped_link.done():
            self._log.error("decision failed", exc_info=error)
        else:
            self._dropped_link.set_exception(error)

    async def _stop_deciding(self) -> None:
        tasks = list(self._deciding.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _perform(self, command: Command) -> None:
        match command:
            case Decide(offer=offer):
                self._log.debug("offer received", job=offer.id, room=offer.room)
                answer = self._decide(offer)
                if isinstance(answer, Acceptance | Refusal):
                    self._driver.feed(OfferAnswered(offer.id, answer))
                else:
                    self._begin_deciding(offer.id, answer)
            case Start(assignment=assignment):
                offer = assignment.offer
                self._log.info("job assigned", job=offer.id, room=offer.room, room_sid=offer.room_sid)
                self._start(replace(assignment, url=assignment.url or self._settings.url))
            case End(job_id=job_id, reason=reason):
                self._log.info("job ended", job=job_id, reason=reason)
                self._end(job_id, reason)
            case GiveUp(job_id=job_id, reason=reason):
                self._log.warning("job given up", job=job_id, reason=reason)
                self._give_up(job_id)
            case Announce(state=state):
                self._announce(state)
            case DropLink(reason=reason):
                if self._dropped_link is not None and not self._dropped_link.done():
                    self._dropped_link.set_result(reason)
            case Unsent(job_id=job_id, status=status):
                self._log.info("job status not sent", job=job_id, status=status)
            case Drop(reason=reason, replaced=True):
                self.terminations_dropped += 1
                self._log.info("termination dropped", reason=reason)
            case Drop(reason=reason):
                self.dropped += 1
                self._log.warning("message dropped", reason=reason)
            case _:
                if isinstance(command, SendAvailability):
                    self._answered(command)
                self._outbox.append(encode(command))
                self._unwritten.set()

    def _answered(self, command: SendAvailability) -> None:
        if (undecided := self._deciding.get(command.job_id)) is not None:
            undecided.cancel()  # the machine did not wait for it
        match command.answer:
            case Acceptance(identity=identity):
                self._log.info("offer accepted", job=command.job_id, identity=identity)
            case Refusal(reason=reason):
                self._log.info("offer refused", job=command.job_id, reason=reason)
                if self._on_refused is not None:
                    self._on_refused(command.job_id, reason)

    def _announce(self, state: LinkState) -> None:
        if state is LinkState.REGISTERED and (registered := self._protocol.registered) is not None:
            self._registered_now = self._registered_ever = True
            self._log.info(
                "registered",
                worker_id=registered.worker_id,
                server_version=registered.server_version,
                url=self.address,
            )
        if state is LinkState.CLOSED:
            self._closed.set()
            if self._connecting is not None:
                self._connecting.reschedule(0.0)
        self._on_state(state)


async def _awaited(answer: Awaitable[Answer]) -> Answer:
    return await answer


def _describe(error: BaseException) -> str:
    """One short line. Connection errors name hosts and reasons of the system, no headers."""
    return f"{type(error).__name__}: {error}"[:200]
