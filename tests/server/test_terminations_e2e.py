"""What the real media server terminates, and what of it ends a job."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from greenroom.embedded.mediaserver import MediaServer
from greenroom.server.api import ServerApi
from greenroom.server.dispatch import create_dispatch
from greenroom.server.events import Acceptance, Assignment
from greenroom.server.link import Link, LinkState, Registration
from tests.server.signalling import in_room, settings_of, signal_server

pytestmark = pytest.mark.e2e

PATIENCE = 30.0


class Daemon:
    """One link, and what it told."""

    def __init__(self, server: MediaServer) -> None:
        self.settings = settings_of(server)
        self.started: asyncio.Queue[Assignment] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.states: asyncio.Queue[LinkState] = asyncio.Queue()
        self.link = Link(
            self.settings,
            Registration("reception", "", "room"),
            decide=lambda offer: Acceptance(f"agent-{offer.id}"),
            start=self.started.put_nowait,
            end=lambda job_id, reason: self.ended.put_nowait(job_id),
            give_up=lambda job_id: None,
            on_state=self.states.put_nowait,
        )

    async def until(self, state: LinkState) -> None:
        while await self.states.get() is not state:
            pass

    async def call(self, room: str) -> Assignment:
        await create_dispatch(self.settings, room=room, agent_name="reception")
        return await self.started.get()


@asynccontextmanager
async def working(server: MediaServer) -> AsyncIterator[Daemon]:
    daemon = Daemon(server)
    daemon.link.set_capacity(4, 4)
    task = asyncio.create_task(daemon.link.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await daemon.until(LinkState.REGISTERED)
            yield daemon
    finally:
        await daemon.link.aclose()
        await task


async def test_a_server_that_is_forced_to_stop_ends_no_job() -> None:
    async with MediaServer() as server, working(server) as daemon:
        assignment = await daemon.call("lobby")
        with capture_logs() as logs:
            async with in_room(daemon.settings, assignment.token):
                # The server knows whose participant that is once it has looked for workers, which takes 5 seconds.
                await asyncio.sleep(6.0)
                signal_server(server, signal.SIGTERM)
                await asyncio.sleep(0.5)
                assert daemon.link.state is LinkState.REGISTERED
                signal_server(server, signal.SIGTERM)
                await daemon.until(LinkState.OPENING)
        await asyncio.sleep(1.0)
        assert daemon.ended.empty()
        (forgotten,) = (entry["reason"] for entry in logs if entry["event"] == "message dropped")
        assert forgotten.startswith(f"{assignment.offer.id} was terminated, and then the link was lost")


async def test_the_end_of_a_replaced_participant_is_not_the_end_of_its_job() -> None:
    async with MediaServer() as server, working(server) as daemon, ServerApi(daemon.settings) as api:
        recovered, other = await daemon.call("lobby"), await daemon.call("kitchen")
        async with in_room(daemon.settings, recovered.token), in_room(daemon.settings, other.token):
            await asyncio.sleep(6.0)
            daemon.link.recovered(recovered.offer.id)
            async with in_room(daemon.settings, recovered.token):
                while daemon.link.terminations_dropped == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                assert not daemon.link.owns(recovered.offer.id)
                # The other job is ended as ever.
                await api.delete_dispatch(other.offer.dispatch_id, room_name="kitchen")
                assert await daemon.ended.get() == other.offer.id
                await asyncio.sleep(0.5)
        assert daemon.ended.empty()
