"""Dispatches on the real media server: the lost ones are made again, the deleted ones end their jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from greenroom.embedded.mediaserver import MediaServer
from greenroom.server.api import ServerApi
from greenroom.server.dispatch import create_dispatch, mint_user_token
from greenroom.server.dispatches import DispatchWatch, Pace, Reconciler, Watched, listed
from greenroom.server.events import Acceptance, Assignment, Offer
from greenroom.server.link import Link, LinkState, Registration
from greenroom.server.rooms import Adopt, Compare, Serve, Serving, compared, judge
from greenroom.server.watching import Standing
from greenroom.settings import ReconcileSettings, ServerSettings
from tests.server.signalling import in_room, settings_of, silent_worker

pytestmark = pytest.mark.e2e

PATIENCE = 60.0
RECONCILE = ReconcileSettings(enabled=True)


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with MediaServer() as server:
        yield server


class Worker:
    """A worker as the daemon makes one: its registrations, its reconciler, and what it was assigned."""

    def __init__(self, settings: ServerSettings) -> None:
        self.api = ServerApi(settings)
        self.started: asyncio.Queue[Assignment] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.registered: asyncio.Queue[Link] = asyncio.Queue()
        self.reconciler = Reconciler(self.api, RECONCILE, agents=lambda: {"reception"}, able=lambda name: True)
        self.links = [self._link(settings, deployment) for deployment in ("", self.reconciler.deployment)]

    def _link(self, settings: ServerSettings, deployment: str) -> Link:
        link: Link

        def changed(state: LinkState) -> None:
            if state is LinkState.REGISTERED:
                self.registered.put_nowait(link)

        link = Link(
            settings,
            Registration("reception", "", "room", deployment),
            decide=lambda offer: Acceptance(f"agent-{offer.id}"),
            start=self.started.put_nowait,
            end=lambda job_id, reason: self.ended.put_nowait(job_id),
            give_up=lambda job_id: None,
            on_state=changed,
        )
        return link

    async def until_registered(self) -> None:
        """Wait until each link has registered once more."""
        links = set(self.links)
        while links:
            links.discard(await self.registered.get())

    @asynccontextmanager
    async def running(self, *, reconcile: bool) -> AsyncIterator[None]:
        for link in self.links:
            link.set_capacity(10, 10)
        tasks = [asyncio.create_task(link.run()) for link in self.links]
        try:
            async with asyncio.timeout(PATIENCE):
                await self.until_registered()
                if reconcile:
                    tasks.append(asyncio.create_task(self.reconciler.run()))
                yield
        finally:
            await self.reconciler.aclose()
            for link in self.links:
                await link.aclose()
            await asyncio.gather(*tasks)
            await self.api.aclose()


async def test_of_two_workers_one_serves_what_a_silent_third_has_lost(server: MediaServer) -> None:
    settings = settings_of(server)
    rooms = [f"room-{number}" for number in range(5)]
    made: dict[str, float] = {}
    lost: set[str] = set()
    async with AsyncExitStack() as stack:
        offered = await stack.enter_async_context(silent_worker(settings))
        for name in rooms:
            token = mint_user_token(settings, room=name, identity="ann")
            await stack.enter_async_context(in_room(settings, token))
            made[name] = time.monotonic()
            lost.add(await create_dispatch(settings, room=name, agent_name="reception", metadata=name))
        assert {await offered.get() for _ in rooms} == lost
        workers = [Worker(settings), Worker(settings)]
        for worker in workers:
            await stack.enter_async_context(worker.running(reconcile=True))
        served: set[str] = set()
        while len(served) < len(rooms):
            gets = [asyncio.ensure_future(worker.started.get()) for worker in workers]
            done, waiting = await asyncio.wait(gets, return_when=asyncio.FIRST_COMPLETED)
            for get in waiting:
                get.cancel()
            for offer in (get.result().offer for get in done):
                assert offer.room not in served
                assert time.monotonic() - made[offer.room] < 15.0
                assert offer.metadata == offer.room
                served.add(offer.room)
        assert sum(worker.reconciler.remade for worker in workers) == len(rooms)
        # Longer than a dispatch needs to count as lost: what was made again is served, and nothing is made twice.
        await asyncio.sleep(RECONCILE.after + RECONCILE.interval + 1.0)
        assert sum(worker.reconciler.remade for worker in workers) == len(rooms)
        assert all(worker.started.empty() for worker in workers)
        for name in rooms:
            dispatches = [each for each in await workers[0].api.dispatches(name) if each.agent_name == "reception"]
            assert [each.jobs for each in dispatches] == [1]
        # It is drawn by nobody else: the silent worker was never asked for what was made again.
        assert offered.empty()


async def test_a_dispatch_deleted_after_the_link_was_made_anew_ends_its_job(server: MediaServer) -> None:
    settings = settings_of(server)
    worker = Worker(settings)
    ended: asyncio.Queue[str] = asyncio.Queue()
    async with worker.running(reconcile=False), ServerApi(settings) as api:
        watch = DispatchWatch(api, end=lambda job_id, reason: ended.put_nowait(reason), pace=Pace(interval=0.5))
        dispatch = await create_dispatch(settings, room="lobby", agent_name="reception")
        assignment = await worker.started.get()
        job = Watched(job_id="AJ_1", room="lobby", dispatch_id=dispatch, identity=assignment.identity)
        async with in_room(settings, assignment.token):
            watch.add(job, reachable=True)
            # Its link is another one now; the server sends no termination there.
            watch.unreachable("AJ_1")
            await asyncio.sleep(3.0)
            assert ended.empty()
            assert await api.delete_dispatch(dispatch, room_name="lobby")
            deleted = time.monotonic()
            assert await ended.get() == "its dispatch was deleted"
            assert time.monotonic() - deleted < 3.0
        await watch.aclose()


async def test_after_a_restart_a_job_is_kept_and_adopts_what_is_dispatched_again(server: MediaServer) -> None:
    """The server was killed; the caller, whose token asks for the agent, is back before the agent is."""
    settings = settings_of(server)
    worker = Worker(settings)
    ended: asyncio.Queue[str] = asyncio.Queue()
    caller = mint_user_token(settings, room="lobby", identity="ann", agent_name="reception")
    async with worker.running(reconcile=False), ServerApi(settings) as api:
        watch = DispatchWatch(api, end=lambda job_id, reason: ended.put_nowait(reason), pace=Pace(interval=0.5))
        async with in_room(settings, caller):
            first = await worker.started.get()
            async with in_room(settings, first.token):
                watch.add(_watched(first), reachable=False)
                await asyncio.sleep(2.0)
                assert watch.standing("AJ_1") is Standing.WATCHED
                await server.kill()
        watch.away("AJ_1")
        await server.start()
        await worker.until_registered()
        async with in_room(settings, caller):
            second = await worker.started.get()
            assert second.offer.dispatch_id != first.offer.dispatch_id
            assert second.offer.room_sid != first.offer.room_sid
            assert judge(second.offer, [_serving(first)]) == Adopt("AJ_1", first.identity)
            async with in_room(settings, first.token):
                watch.back("AJ_1")
                await asyncio.sleep(5.0)
                assert watch.standing("AJ_1") is Standing.FORGOTTEN
                assert ended.empty()
        await watch.aclose()


async def test_a_second_agent_that_somebody_asks_for_is_served(server: MediaServer) -> None:
    settings = settings_of(server)
    worker = Worker(settings)
    async with worker.running(reconcile=False), ServerApi(settings) as api:
        await create_dispatch(settings, room="lobby", agent_name="reception")
        first = await worker.started.get()
        await create_dispatch(settings, room="lobby", agent_name="reception")
        second = await worker.started.get()
        job = _serving(first)
        verdict = judge(second.offer, [job])
        assert isinstance(verdict, Compare)
        assert compared(verdict, await listed(api, "lobby")) == Serve()
        await api.delete_dispatch(first.offer.dispatch_id, room_name="lobby")
        assert compared(verdict, await listed(api, "lobby")) == Adopt("AJ_1", first.identity)


def _watched(assignment: Assignment) -> Watched:
    offer: Offer = assignment.offer
    return Watched(job_id="AJ_1", room=offer.room, dispatch_id=offer.dispatch_id, identity=assignment.identity)


def _serving(assignment: Assignment) -> Serving:
    offer = assignment.offer
    return Serving(
        job_id="AJ_1",
        agent_name=offer.agent_name,
        job_type=offer.job_type,
        room=offer.room,
        room_sid=offer.room_sid,
        participant="",
        identity=assignment.identity,
        dispatch_id=offer.dispatch_id,
        connection="away",
    )
