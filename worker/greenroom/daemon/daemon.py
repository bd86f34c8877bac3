"""The parent's composition root: registrations on one side, processes on the other, the switchboard between them.

What it decides itself is the worker's own life: when it is ready, when it reads its settings again, when another daemon
takes its place, and how it comes to its end. Neither the user's code nor a plugin is ever loaded here.

==========  ==========================================================================================================
SIGTERM     take no more calls, leave when those that go on are over (``jobs.drain``); again: end them now
SIGINT      the same
SIGHUP      read the settings again
SIGUSR2     start a new daemon that takes this one's place
==========  ==========================================================================================================
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from greenroom.daemon import handover
from greenroom.daemon.handover import HandoverFailed
from greenroom.daemon.registrations import Registrations
from greenroom.daemon.reload import read_again
from greenroom.daemon.search import Search
from greenroom.daemon.successor import Successor
from greenroom.daemon.switchboard import Switchboard
from greenroom.directories import private, run_dir
from greenroom.errors import GreenroomError, SettingsError
from greenroom.jobs import drain as draining
from greenroom.jobs import heap
from greenroom.jobs.bench import Warmth
from greenroom.jobs.drain import Drain, JobsChanged, Phase, StopAsked, Tick
from greenroom.jobs.line import Line
from greenroom.jobs.listener import Listener, RunDirInUse
from greenroom.jobs.memory import available_mb
from greenroom.jobs.pool import Pool
from greenroom.machine import Driver
from greenroom.models.keeper import ModelHost
from greenroom.ops import logs
from greenroom.ops import measures as m
from greenroom.ops.admin import Admin
from greenroom.ops.facts import AgentStatus, DrainStatus, Status
from greenroom.ops.lag import LoopLag
from greenroom.ops.metrics import Metrics
from greenroom.ops.notify import Notifier
from greenroom.settings import Settings
from greenroom.version import __version__

__all__ = ["Daemon", "run"]

LINGER = 1.0
"""Seconds for which a daemon that was replaced still refuses offers that were on their way to it."""
RETELL = 2.0
"""Seconds until it is looked again whether a worker that is short of memory, or late, is fit."""

log = structlog.get_logger(__name__)


def run(settings: Settings, *, takeover: bool = False) -> int:
    """Run a worker until it is told to stop; the exit code. ``takeover``: in the place of the one that runs."""

    async def work() -> int:
        return await Daemon(settings, takeover=takeover).run()

    return uvloop.run(work())


class Daemon:
    """One worker. Make it on the loop that it runs on. It is a ``SwitchOwner``, and the ``Facts`` of the admin."""

    def __init__(self, settings: Settings, *, takeover: bool = False) -> None:
        loop = asyncio.get_running_loop()
        worker = settings.worker
        self._settings = settings
        self._takeover = takeover
        self._began = loop.time()
        self._run_dir = Path(worker.run_dir) if worker.run_dir else run_dir(os.environ)
        self._metrics = Metrics()
        self._lag = LoopLag(loop, observe=self._metrics.lagged)
        self._notifier = Notifier(os.environ)
        self._successor = Successor(on_failed=self._successor_failed)
        self._listener = Listener(self._run_dir)
        self._switchboard = Switchboard(
            settings, owner=self, metrics=self._metrics, lag=lambda: self._lag.worst, memory_mb=available_mb
        )
        self._registrations = Registrations(self._switchboard, metrics=self._metrics)
        self._models = ModelHost(settings, run_dir=self._run_dir, metrics=self._metrics)
        self._pool = Pool(self._with_models(settings), listener=self._listener, owner=self._switchboard)
        self._search = Search(settings, switchboard=self._switchboard, metrics=self._metrics)
        self._switchboard.wire(self._pool, self._search.watch)
        self._admin = Admin(worker.admin, self, metrics=self._metrics, run_dir=self._run_dir)
        self._drain = Drain(worker.deadlines)
        self._driver = Driver[draining.Event, draining.Command](self._drain, self._perform, clock=loop, tick=Tick())
        self._stop_asked = asyncio.Event()
        self._over = asyncio.Event()
        self._replaced = asyncio.Event()
        self._warmed = asyncio.Event()
        self._busy: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._handing_over = False
        self._retell: asyncio.TimerHandle | None = None
        self._serving = False

    async def run(self) -> int:
        """Warm up, register, serve, drain. The exit code: 0 when it was asked to stop, or was replaced."""
        self._heed_signals()
        log.info("starting", version=__version__, pid=os.getpid(), run_dir=str(self._run_dir))
        self._listener.on_handover = self._handover_asked
        self._notifier.start()
        self._lag.start()
        try:
            private(self._run_dir)
            await self._start_pool()
            await self._serve()
        except Exception:
            # Whatever ails the worker, its calls are well: the next one has them.
            await self._close(keep_calls=True)
            raise
        except BaseException:
            await self._close(keep_calls=False)
            raise
        await self._close(keep_calls=self._replaced.is_set() or self._listener.apart)
        return 0

    async def _start_pool(self) -> None:
        self._models.start()
        try:
            await self._pool.start()
        except RunDirInUse:
            if not self._takeover:
                raise
            self._listener.apart = True
            await self._pool.start()
        else:
            self._models.settle()

    def _with_models(self, settings: Settings) -> Settings:
        """As the jobs are given them."""
        return msgspec.structs.replace(settings, models=self._models.paths)

    async def _serve(self) -> None:
        # A server that offers a job at once must find a process that can take it.
        await self._unless_stopped(self._warmed.wait(), timeout=self._settings.worker.deadlines.boot)
        if self._over.is_set():
            return
        if not self._stop_asked.is_set():
            warm = {warmth.agent: warmth.warm for warmth in self._pool.warmth()}
            log.info("ready", warm=warm, max_jobs=self._switchboard.admission.total)
            heap.trim()
            self._serving = True
            self._registrations.apply(self._settings, deployment=self._search.deployment)
        if self._listener.apart:
            await self._unless_stopped(self._take_over(), timeout=2 * self._settings.worker.deadlines.takeover)
            if self._listener.apart:
                return
        await self._admin.start()
        self._search.start()
        self._notifier.ready("serving")
        await self._first(self._over.wait(), self._replaced.wait(), self._registrations.failure())
        if not self._stop_asked.is_set():
            self._registrations.check()  # the server refused this worker, for good

    async def _take_over(self) -> None:
        """Be registered first, so that there is always somebody to take an offer."""
        seconds = self._settings.worker.deadlines.takeover
        try:
            async with asyncio.timeout(seconds):
                await self._registrations.registered()
        except TimeoutError:
            raise HandoverFailed(f"not registered within {seconds:g} s; the running daemon keeps its place") from None
        await handover.take_over(self._run_dir, self._listener, pid=os.getpid(), seconds=seconds)
        self._models.settle()

    async def _close(self, *, keep_calls: bool) -> None:
        """Take everything apart. Calls that are kept dial whoever listens next."""
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        self._successor.close()
        if self._retell is not None:
            self._retell.cancel()
        await self._admin.aclose()
        await self._search.aclose()
        if keep_calls:
            await self._let_go()
        else:
            await self._pool.aclose()
            await self._models.aclose()
        self._driver.close()
        await self._registrations.aclose()
        self._lag.close()
        self._notifier.close()
        log.info("stopped")

    async def _let_go(self) -> None:
        # In this order: a call that is hung up on dials at once.
        await self._listener.release()
        lingering = asyncio.ensure_future(asyncio.sleep(LINGER))
        await self._pool.let_go()
        await self._models.let_go()
        await lingering

    # --- from the switchboard: the daemon is a ``SwitchOwner`` --------------------------------------------------------

    def jobs_changed(self, jobs: int) -> None:
        self._driver.feed(JobsChanged(jobs))
        self._models.calls_changed(jobs)

    def capacity_changed(self) -> None:
        if not self._serving:
            return
        self._registrations.tell_capacity()
        self._registrations.tidy()
        if self._retell is None and any(self._unfit(agent.name) for agent in self._settings.agents):
            self._retell = asyncio.get_running_loop().call_later(RETELL, self._tell_again)

    def warm_changed(self, warmth: Warmth) -> None:
        known = self._switchboard.warmth
        if all(
            (one := known.get(agent.name)) is not None and (one.warm > 0 or one.wanted == 0 or not one.bootable)
            for agent in self._settings.agents
        ):
            self._warmed.set()

    def compare(self, room: str) -> Coroutine[Any, Any, frozenset[str] | None]:
        return self._search.listed(room)

    def _unfit(self, agent: str) -> bool:
        refusal = self._switchboard.refusal(agent)
        return refusal is not None and refusal.value in ("low_memory", "lagging")

    def _tell_again(self) -> None:
        self._retell = None
        self.capacity_changed()

    # --- stopping -----------------------------------------------------------------------------------------------------

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked)
        loop.add_signal_handler(signal.SIGUSR2, self._takeover_asked)

    def _signalled(self, number: signal.Signals) -> None:
        log.info("asked to stop", signal=number.name, jobs=self._switchboard.jobs)
        self._driver.feed(StopAsked())

    def _perform(self, command: draining.Command) -> None:
        limits = self._settings.worker.deadlines
        match command:
            case draining.Refuse():
                self._stop_asked.set()
                self._switchboard.admission.drain()
                self._registrations.drain()
                self._pool.rest()
                self._notifier.stopping()
                self._notifier.extend(limits.drain + limits.wrap_up + limits.end + 2 * limits.terminate + LINGER)
                if self._switchboard.jobs:
                    log.info("draining", jobs=self._switchboard.jobs, seconds=limits.drain)
            case draining.TellWrapUp(seconds, last):
                if last:
                    log.warning("calls are to come to an end", jobs=self._switchboard.jobs, seconds=seconds)
                self._pool.wrap_up(seconds, last=last)
            case draining.EndAll():
                log.warning("ending the calls that are left", jobs=self._switchboard.jobs)
                self._switchboard.end_all("worker stops")
            case draining.Leave():
                self._over.set()

    async def _unless_stopped(self, work: Coroutine[Any, Any, object], *, timeout: float) -> None:
        """Wait for something, but no longer than until a signal comes or the time is up. What it raises is raised."""
        waiting = asyncio.ensure_future(work)
        await self._first(waiting, self._stop_asked.wait(), timeout=timeout)
        if not waiting.cancelled():
            waiting.result()

    async def _first(self, *work: Awaitable[object], timeout: float | None = None) -> None:
        """Wait for whichever is first, and cancel the others."""
        waiting = [asyncio.ensure_future(one) for one in work]
        try:
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    # --- new settings -------------------------------------------------------------------------------------------------

    def _reload_asked(self) -> None:
        self._begin(self._reload())

    async def _reload(self) -> None:
        """All of the new settings, or nothing of them."""
        async with self._reloading:
            log.info("reading settings again", file=self._settings.file)
            self._notifier.reloading()
            try:
                settings = await read_again(self._settings)
                self._switchboard.apply(settings)
            except SettingsError as error:
                log.error("settings not changed", error=str(error), file=error.file, line=error.line, key=error.key)
                self._metrics.count(m.RELOADS, outcome="failed")
            else:
                self._apply(settings)
                self._metrics.count(m.RELOADS, outcome="done")
                log.info("settings changed", agents=[agent.name for agent in settings.agents])
            self._notifier.ready("serving")

    def _apply(self, settings: Settings) -> None:
        logs.hide(settings.server.api_secret)
        if settings.logs != self._settings.logs:
            logs.configure(settings.logs.level, settings.logs.format)
        self._settings = settings
        self._drain.deadlines = settings.worker.deadlines
        self._models.keep(settings)
        self._pool.reload(self._with_models(settings))
        if self._drain.phase is not Phase.SERVING:
            self._pool.rest()
        elif self._serving:
            self._registrations.apply(settings, deployment=self._search.deployment)
        self.capacity_changed()

    # --- another daemon -----------------------------------------------------------------------------------------------

    def _takeover_asked(self) -> None:
        if self._successor.start():
            self._notifier.reloading()

    def _successor_failed(self) -> None:
        self._notifier.ready("serving")

    def _handover_asked(self, line: Line, pid: int) -> None:
        if self._handing_over or not self._serving:
            line.close()
            return
        self._handing_over = True
        line.on_lost = lambda _: None
        self._begin(self._hand_over(line, pid))

    async def _hand_over(self, line: Line, pid: int) -> None:
        """Let go of what a new daemon is to have; take it back when that does not come."""
        draining_already = self._switchboard.admission.draining
        self._switchboard.admission.drain()
        self._pool.rest()
        self.capacity_changed()
        try:
            limits = self._settings.worker.deadlines
            async with asyncio.timeout(limits.boot + limits.assignment):
                await self._switchboard.settle()
            await self._listener.release()
            if await handover.confirm(line, jobs=self._switchboard.jobs):
                log.info("handed over", pid=pid, calls=self._switchboard.jobs)
                self._notifier.handed_over(pid)
                self._replaced.set()
                return
            log.error("takeover failed", pid=pid, reason="it went away, or did not answer")
            await self._listener.start()
        except (TimeoutError, GreenroomError) as error:
            log.error("takeover failed", pid=pid, reason=str(error) or "jobs wait for processes")
            line.close()
        self._handing_over = False
        if not draining_already:
            self._switchboard.admission.drain(False)
            self._pool.rouse()
            self.capacity_changed()
            log.info("calls are taken again")

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    # --- for those who ask: the daemon is the admin's ``Facts`` -------------------------------------------------------

    def status(self) -> Status:
        loop = asyncio.get_running_loop()
        admission = self._switchboard.admission
        phase = self._drain.phase
        self._search.count_failures()
        return Status(
            version=__version__,
            pid=os.getpid(),
            seconds=loop.time() - self._began,
            run_dir=str(self._run_dir),
            url=self._settings.server.url,
            max_jobs=admission.total,
            free=admission.available,
            agents=tuple(self._agent_status(warmth) for warmth in self._pool.warmth()),
            links=self._registrations.statuses(),
            jobs=self._switchboard.statuses(),
            refused=self._metrics.refusals(),
            drain=None if phase is Phase.SERVING else _drain_status(self._drain, loop.time()),
            fork_server_pid=self._pool.fork_server_pid,
            lag=self._lag.worst,
            memory_available_mb=available_mb(),
            model_host=self._models.status(),
            settings=self._settings.file,
        )

    def drain(self, *, now: bool) -> None:
        """As a signal does, but however often it is asked; ``now``: as two signals do."""
        if now or self._drain.phase is Phase.SERVING:
            self._driver.feed(StopAsked(now))

    async def hand_over(self) -> None:
        """Start a new daemon in this one's place, as SIGUSR2 does; returns when it has it."""
        self._takeover_asked()
        pid = self._successor.pid
        while not self._replaced.is_set():
            if self._successor.pid != pid or pid is None:
                raise HandoverFailed("the new daemon did not start; the log says why")
            await asyncio.sleep(0.1)

    def _agent_status(self, warmth: Warmth) -> AgentStatus:
        refusal = self._switchboard.refusal(warmth.agent)
        return AgentStatus(
            name=warmth.agent,
            warm=warmth.warm,
            wanted=warmth.wanted,
            starting=warmth.starting,
            waiting=warmth.waiting,
            boot_error=warmth.boot_error,
            refusal="" if refusal is None else refusal.value,
        )


def _drain_status(drain: Drain, now: float) -> DrainStatus:
    match drain.phase:
        case Phase.WRAPPING_UP:
            return DrainStatus(phase="wrapping_up", left=drain.left(now))
        case Phase.WAITING:
            return DrainStatus(phase="waiting", left=drain.left(now))
        case _:
            return DrainStatus(phase="ending", left=drain.left(now))
