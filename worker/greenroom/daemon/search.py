"""What the worker asks the media server's API for: jobs that ended unheard, dispatches that were lost, duplicates."""

from __future__ import annotations

import asyncio

from greenroom.daemon.switchboard import Switchboard
from greenroom.ops import measures as m
from greenroom.ops.metrics import Metrics
from greenroom.server.api import ServerApi
from greenroom.server.dispatches import DispatchWatch, Reconciler, listed
from greenroom.server.watching import Pace
from greenroom.settings import Settings

__all__ = ["Search"]


class Search:
    """One worker's. The server and its credentials are those of the start, also after a reload."""

    def __init__(self, settings: Settings, *, switchboard: Switchboard, metrics: Metrics) -> None:
        self._metrics = metrics
        self._api = ServerApi(settings.server)
        self.watch = DispatchWatch(
            self._api, end=switchboard.terminated, pace=Pace(grace=settings.worker.deadlines.rejoin)
        )
        self._reconciler: Reconciler | None = None
        self._running: asyncio.Task[None] | None = None
        self._failures = 0
        if settings.worker.reconcile.enabled:
            self._reconciler = Reconciler(
                self._api,
                settings.worker.reconcile,
                agents=lambda: switchboard.room_agents,
                able=lambda agent: switchboard.refusal(agent) is None,
                on_remade=self._remade,
            )

    @property
    def deployment(self) -> str:
        """A name under which each agent is to be registered too; empty: none."""
        return "" if self._reconciler is None else self._reconciler.deployment

    def start(self) -> None:
        """Begin to look for what the server lost, if the settings want that."""
        if self._reconciler is not None and self._running is None:
            self._running = asyncio.create_task(self._reconciler.run(), name="reconciler")

    async def listed(self, room: str) -> frozenset[str] | None:
        """The dispatches that the server has for a room; ``None`` if it does not say."""
        return await listed(self._api, room)

    def count_failures(self) -> None:
        """Bring the counter up to date."""
        if self._reconciler is not None and self._reconciler.failures > self._failures:
            self._metrics.count(m.RECONCILE_FAILURES, self._reconciler.failures - self._failures)
            self._failures = self._reconciler.failures

    async def aclose(self) -> None:
        if self._reconciler is not None and self._running is not None:
            await self._reconciler.aclose()
            await self._running
        await self.watch.aclose()
        await self._api.aclose()

    def _remade(self, agent: str, room: str) -> None:
        self._metrics.count(m.DISPATCHES_REMADE, agent=agent)
