"""The green room itself: for each agent some processes that are ready to go on, and the jobs that run.

Processes are started one at a time, and while others are warm not until a call that has just come has been greeted, so
that warming up leaves the machine to the calls; only jobs that found no warm process make it start more at once, up to
one for each core. A job that found none gets the next that becomes ready; one that lost its process (``recovery``) goes
first. Boots that fail are retried with growing delays (``breaker``); their reason is logged when it changes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Protocol

import structlog

from greenroom.jobs.bench import Bench, Warmth
from greenroom.jobs.calls import Call, CallOwner, Calls
from greenroom.jobs.events import Finished, Outcome
from greenroom.jobs.forks import ForkServer
from greenroom.jobs.ipc import Boot, Considered, EndJob, Fork, Hello, JobInfo, Measured, RoomChanged
from greenroom.jobs.line import Line
from greenroom.jobs.listener import Listener
from greenroom.jobs.process import JobProcess
from greenroom.jobs.questions import Questions
from greenroom.jobs.scales import Scales
from greenroom.settings import AgentSettings, Settings

__all__ = ["PRELOAD", "RUNNER", "Pool", "PoolOwner", "preload_items"]

RUNNER = "greenroom.job.runner:Runner"
PRELOAD = ("asyncio", "structlog", "msgspec", "numpy", "livekit.rtc", "greenroom.job.rehearsal")
PATIENCE = 5.0
"""Seconds that a process without a job waits for a daemon."""
ENTERING, GREETING = 2.0, 0.3
"""Seconds for a call to be joined, and from then until its first words are on their way."""
KILL_MARGIN = 5.0
"""Seconds for the kernel to end what was killed, before the pool closes without it."""

_log = structlog.get_logger(__name__)


def preload_items(settings: Settings) -> tuple[str, ...]:
    """What the fork server imports: what every job does, what the agents' plugins list, what the settings add."""
    used = {
        provider.plugin
        for agent in settings.agents
        for provider in (agent.vad, agent.stt, agent.llm, agent.tts)
        if provider is not None
    }
    return (*PRELOAD, *(f"plugin:{name}" for name in sorted(used)), *settings.worker.preload)


class PoolOwner(CallOwner, Protocol):
    """Who is told of jobs and of readiness."""

    def warm_changed(self, warmth: Warmth) -> None:
        """An agent's readiness is now this."""
        ...

    def booted(self, agent: str, seconds: float, error: str) -> None:
        """One of its processes became warm in so long, or did not; ``error`` is empty for one that did."""
        ...

    def recycled(self, agent: str) -> None:
        """One of its warm processes is replaced: it is too old, or the settings are new."""
        ...


class Pool:
    """All processes of one worker. ``runner`` works in them, ``preload`` is imported for that, if not the usual."""

    def __init__(
        self,
        settings: Settings,
        *,
        listener: Listener,
        owner: PoolOwner,
        runner: str = "",
        preload: tuple[str, ...] | None = None,
    ) -> None:
        self._worker = settings.worker
        self._settings = settings.encode()
        self._owner = owner
        self._runner = runner or RUNNER
        self._benches = {agent.name: self._bench(agent) for agent in settings.agents}
        self._processes: dict[str, JobProcess] = {}
        self._calls = Calls(owner, place=self._place)
        self._questions = Questions()
        self._scales = Scales(lambda: [call.process for call in self._calls if call.process is not None])
        self._slots = self._names()
        self._preload = preload
        self._forks = ForkServer(self._preload_items(settings))
        self._listener = listener
        listener.on_hello = self._hello
        self._closing = False
        self._greeted_at = 0.0
        """By when the last call that came will have heard something."""
        self._retry: asyncio.TimerHandle | None = None
        self._recycling: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._settled = asyncio.Event()
        self._refused: deque[str] = deque(maxlen=1000)

    async def start(self) -> None:
        """Returns once processes can be made; they warm up from then on.

        Raises ``SettingsError`` for an unusable ``run_dir`` and ``BootFailed`` if the fork server does not start.
        """
        self._check_idle()
        await self._listener.start()
        try:
            await self._forks.start()
        except BaseException:
            await self._forks.aclose()
            await self._listener.aclose()
            raise
        self._top_up()

    @property
    def jobs(self) -> dict[str, int | None]:
        """The pid that serves each job; ``None`` for a job that waits for a process."""
        return {call.job.id: None if call.process is None else call.process.pid for call in self._calls}

    @property
    def calls(self) -> Calls:
        """For those who want to know more of them."""
        return self._calls

    @property
    def fork_server_pid(self) -> int | None:
        return self._forks.pid

    def warmth(self) -> tuple[Warmth, ...]:
        """Of the agents in the settings."""
        return tuple(bench.warmth() for bench in self._benches.values() if not bench.removed)

    # Jobs.

    def consider(self, agent_name: str, job: JobInfo) -> asyncio.Future[Considered]:
        """Put an offer to the agent's own code, in a warm process; the answer comes within ``on_request``.

        Raises ``KeyError`` for an unknown agent.
        """
        return self._questions.ask(self._benches[agent_name], job, seconds=self._worker.deadlines.on_request)

    def start_job(self, agent_name: str, job: JobInfo) -> None:
        """Give the job to a warm process, or to the next one. A job that is known already is left as it is.

        What becomes of it comes through the owner, also when no process can be had. Raises ``KeyError`` for an unknown
        agent.
        """
        bench = self._benches[agent_name]
        if job.id in self._calls:
            return
        call = self._calls.open(job, attempts=bench.agent.recovery.attempts)
        if self._closing:
            # Not at once: who starts a job does not expect its end before this returns.
            asyncio.get_running_loop().call_soon(self._calls.unserved, call, "the worker is stopping", Outcome.RETIRED)
            return
        self._queue(bench, call)

    def end_job(self, job_id: str, reason: str) -> None:
        """Have the call ended within its deadlines. Unknown jobs are ignored: they may just have ended."""
        call = self._calls.get(job_id)
        if call is None:
            return
        self._calls.ended(call)
        if call.process is not None:
            call.process.end(reason, grace=self._worker.deadlines.end)
        else:
            for bench in self._benches.values():
                if job_id in bench.waiting:
                    self._unqueue(bench, job_id, f"ended before it started: {reason}", Outcome.RETIRED)

    def may_leave(self, job_id: str) -> None:
        """The server was told the job's outcome, or cannot be reached."""
        call = self._calls.get(job_id)
        if call is not None and call.process is not None:
            call.process.may_leave()

    def wrap_up(self, seconds: float, *, last: bool) -> None:
        """Tell all agents that their calls will be ended in so many seconds."""
        self._calls.wrap_up(seconds, last=last)

    # The whole.

    def reload(self, settings: Settings) -> None:
        """Have new processes in place of those without a job, made by these settings. Calls that go on keep theirs.

        The old ones stay until the new ones are warm, and take the jobs that come before.
        """
        self._worker = settings.worker
        self._settings = settings.encode()
        known = {agent.name for agent in settings.agents}
        for agent in settings.agents:
            if agent.name in self._benches:
                self._renew(self._benches[agent.name], agent)
            else:
                self._benches[agent.name] = self._bench(agent)
        for name, bench in self._benches.items():
            if name not in known:
                bench.removed, bench.wanted = True, 0
                self._make_stale(bench)
        self._forks.preload(self._preload_items(settings))
        for bench in self._benches.values():
            self._trim(bench)
            self._show(bench)
        self._top_up()

    def rest(self) -> None:
        """Replace no process any more: for a drain. Calls that are promised or come back still get one."""
        for bench in self._benches.values():
            bench.wanted = 0
        self._disarm()

    def rouse(self) -> None:
        """Take ``rest`` back."""
        for bench in self._benches.values():
            bench.wanted = 0 if bench.removed else self._wanted(bench.agent)
        self._top_up()

    async def settle(self) -> None:
        """Returns when no job waits for a process."""
        while any(bench.waiting for bench in self._benches.values()):
            self._settled.clear()
            await self._settled.wait()

    async def aclose(self) -> None:
        """End all jobs and processes within their deadlines."""
        self._closing = True
        self._disarm()
        self._dismiss()
        for call in self._calls:
            self._calls.ended(call)
        await self._close()

    async def let_go(self) -> None:
        """End what has no job and leave the calls to themselves: they dial whoever listens next. The listener has to be
        closed by then."""
        self._closing = True
        self._disarm()
        self._dismiss()
        for call in self._calls:
            process = call.process
            if process is not None:
                process.let_go()
                del self._processes[process.slot]
        await self._close()

    def _dismiss(self) -> None:
        """Whoever waits for a process waits in vain."""
        self._questions.aclose()
        for bench in self._benches.values():
            for job_id in list(bench.waiting):
                self._unqueue(bench, job_id, "the worker is stopping", Outcome.RETIRED)

    async def _close(self) -> None:
        deadlines = self._worker.deadlines
        self._forks.cancel_queued()
        for process in list(self._processes.values()):
            process.end("the worker is stopping", grace=deadlines.end)
        self._check_idle()
        try:
            async with asyncio.timeout(deadlines.end + 2 * deadlines.terminate + KILL_MARGIN):
                await self._empty.wait()
        except TimeoutError:
            _log.error("processes do not end", pids=[process.pid for process in self._processes.values()])
        await self._scales.aclose()
        await self._forks.aclose()
        await self._listener.aclose()

    # What processes say: the ``ProcessOwner`` of each.

    def warmed(self, process: JobProcess) -> None:
        bench = self._benches[process.agent]
        if not process.seasoned:
            process.seasoned = True
            self._owner.booted(process.agent, process.age, "")
        if bench.breaker.succeeded():
            _log.info("agent boots again", agent=process.agent)
        if not process.stale:
            bench.considers = process.considers
        self._serve(bench)
        self._questions.put(bench)
        self._trim(bench)
        self._top_up()
        self._show(bench)

    def cooled(self, process: JobProcess) -> None:
        self._show(self._benches[process.agent])

    def considered(self, process: JobProcess, decision: Considered) -> None:
        self._questions.answered(process, decision)

    def joined(self, process: JobProcess, journal: str) -> None:
        self._greeted_at = asyncio.get_running_loop().time() + GREETING
        self._calls.joined(process, journal)
        self._top_up()

    def wrote(self, process: JobProcess, journal: str) -> None:
        self._calls.wrote(process, journal)

    def room_changed(self, process: JobProcess, change: RoomChanged) -> None:
        self._calls.room_changed(process, change)

    def measured(self, process: JobProcess, measured: Measured) -> None:
        self._calls.measured(process, measured)

    def leaving(self, process: JobProcess, error: str) -> None:
        self._calls.left(process, error)

    def finished(self, process: JobProcess, end: Finished) -> None:
        self._processes.pop(process.slot, None)
        bench = self._benches.get(process.agent)
        if bench is not None:
            bench.processes.discard(process)
        if process.job is not None:
            self._calls.gone(process, end)
        elif bench is not None and end.outcome is not Outcome.RETIRED:
            self._boot_failed(bench, process, end)
        self._questions.gone(process)
        self._check_idle()
        self._top_up()
        if bench is not None:
            self._show(bench)

    # Warming up.

    def _bench(self, agent: AgentSettings) -> Bench:
        return Bench(agent, self._wanted(agent), Boot(self._settings, agent.name))

    def _wanted(self, agent: AgentSettings) -> int:
        return self._worker.warm if agent.warm is None else agent.warm

    def _renew(self, bench: Bench, agent: AgentSettings) -> None:
        fresh = self._bench(agent)
        bench.agent, bench.wanted, bench.boot, bench.breaker = agent, fresh.wanted, fresh.boot, fresh.breaker
        bench.removed = False
        self._make_stale(bench)

    def _make_stale(self, bench: Bench) -> None:
        for process in list(bench.processes):
            process.stale = True
            if process.booting:
                process.end("the settings have changed", grace=0.0)

    def _trim(self, bench: Bench) -> None:
        """End stale processes whose place is taken."""
        for process in bench.surplus:
            self._owner.recycled(bench.agent.name)
            process.end("replaced", grace=self._worker.deadlines.terminate)

    def _recycle(self) -> None:
        """Have processes replaced that are too old, and come back when the next one is."""
        if self._recycling is not None:
            self._recycling.cancel()
            self._recycling = None
        limit = self._worker.recycle_after
        if not limit or self._closing:
            return
        ages = []
        for bench in self._benches.values():
            for process in bench.processes:
                if process.available and not process.stale and bench.wanted:
                    if process.age >= limit:
                        process.stale = True
                    else:
                        ages.append(process.age)
        if ages:
            later = limit - max(ages)
            self._recycling = asyncio.get_running_loop().call_later(later, self._top_up)

    def _preload_items(self, settings: Settings) -> tuple[str, ...]:
        return preload_items(settings) if self._preload is None else (*self._preload, *settings.worker.preload)

    def _names(self) -> Iterator[str]:
        """Names that no other daemon's processes have."""
        ours = secrets.token_hex(4)
        return (f"{ours}-{n}" for n in count(1))

    def _disarm(self) -> None:
        for timer in (self._retry, self._recycling):
            if timer is not None:
                timer.cancel()
        self._retry = self._recycling = None

    def _top_up(self) -> None:
        """Start what is lacking and may be started now; come back for what has to wait."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._closing:
            return
        self._recycle()
        loop = asyncio.get_running_loop()
        benches = list(self._benches.values())
        at_once = max(1, min(sum(len(bench.waiting) for bench in benches), os.cpu_count() or 1))
        for _ in range(at_once - sum(bench.starting for bench in benches)):
            lacking = [bench for bench in benches if bench.lack > 0 and self._not_before(bench) <= loop.time()]
            if not lacking:
                break
            self._fork(max(lacking, key=lambda bench: (len(bench.waiting), bench.lack)))
        later = [self._not_before(bench) for bench in benches if bench.lack > 0]
        if later and min(later) > loop.time():
            self._retry = loop.call_at(min(later), self._top_up)

    def _not_before(self, bench: Bench) -> float:
        """When its next process may be started."""
        return max(bench.breaker.not_before, self._greeted_at if bench.warm else 0.0)

    def _fork(self, bench: Bench) -> None:
        process = JobProcess(next(self._slots), boot=bench.boot, worker=self._worker, owner=self)
        self._processes[process.slot] = process
        self._empty.clear()
        bench.processes.add(process)
        line, via = self._listener.addresses
        self._forks.fork(Fork(process.slot, line, self._runner, PATIENCE, via), process)

    def _boot_failed(self, bench: Bench, process: JobProcess, end: Finished) -> None:
        news = bench.breaker.failed(end.error, asyncio.get_running_loop().time())
        if news and not self._closing:
            trace = {"exception": process.trace} if process.trace else {}
            _log.error("agent does not boot", agent=process.agent, error=end.error, exit=end.exit, **trace)
        self._owner.booted(process.agent, process.age, end.error)
        self._fail_hopeless(bench)

    # Jobs and processes, brought together.

    def _place(self, call: Call) -> None:
        """A call comes back: it goes before those that were not answered yet."""
        bench = self._benches.get(call.job.agent_name)
        if bench is None:
            self._calls.unserved(call, "its agent is not in the settings any more", Outcome.FAILED)
        elif self._closing:
            self._calls.unserved(call, "the worker is stopping", Outcome.RETIRED)
        else:
            self._queue(bench, call, first=True)

    def _queue(self, bench: Bench, call: Call, *, first: bool = False) -> None:
        job = call.job
        loop = asyncio.get_running_loop()
        entry = {job.id: (call, loop.call_later(self._worker.deadlines.boot, self._give_up, bench, job.id))}
        bench.waiting = entry | bench.waiting if first else bench.waiting | entry
        self._serve(bench)
        if job.id in bench.waiting:
            _log.warning("no warm process", agent=bench.agent.name, job=job.id, room=job.room, starting=bench.starting)
            loop.call_soon(self._fail_hopeless, bench)
        self._top_up()
        self._show(bench)

    def _serve(self, bench: Bench) -> None:
        """Jobs in the order they came, each to the process that is warm."""
        for process in bench.warm:
            if not bench.waiting:
                return
            call, timer = bench.waiting.pop(next(iter(bench.waiting)))
            timer.cancel()
            bench.processes.discard(process)
            self._greeted_at = asyncio.get_running_loop().time() + ENTERING
            self._calls.serve(call, process)
            self._scales.start()
            self._settled.set()

    def _fail_hopeless(self, bench: Bench) -> None:
        """Tell the jobs that wait for an agent that does not boot."""
        if bench.breaker.open and not bench.warm and not bench.starting:
            for job_id in list(bench.waiting):
                self._unqueue(bench, job_id, f"the agent does not boot: {bench.breaker.error}", Outcome.BOOT_FAILED)

    def _give_up(self, bench: Bench, job_id: str) -> None:
        error = f"no process became ready within {self._worker.deadlines.boot:g} s"
        self._unqueue(bench, job_id, error, Outcome.BOOT_FAILED)

    def _unqueue(self, bench: Bench, job_id: str, error: str, outcome: Outcome) -> None:
        call, timer = bench.waiting.pop(job_id)
        timer.cancel()
        self._calls.unserved(call, error, outcome)
        self._settled.set()
        self._show(bench)

    def _show(self, bench: Bench) -> None:
        warmth = bench.warmth()
        if warmth != bench.shown and not bench.removed:
            bench.shown = warmth
            self._owner.warm_changed(warmth)

    def _check_idle(self) -> None:
        if not self._processes:
            self._empty.set()

    # Who dials.

    def _hello(self, line: Line, hello: Hello, pid: int) -> None:
        process = self._processes.get(hello.slot)
        try:
            if process is not None and process.pid in (None, pid):
                process.attach(line, hello, pid=pid)
            elif process is not None or (hello.job is not None and hello.job.id in self._calls):
                _log.warning("stranger dialled for a known process", slot=hello.slot, pid=pid)
                line.close()
            elif hello.job is None:
                # Forked for a daemon that has gone, or for a slot that was given up.
                line.send(EndJob("no longer needed", 0.0))
                line.close()
            else:
                self._adopt(line, hello, hello.job, pid)
        except OSError as error:
            _log.info("process gone after it dialled", slot=hello.slot, pid=pid, error=error.strerror)
            line.abort()

    def _adopt(self, line: Line, hello: Hello, job: JobInfo, pid: int) -> None:
        if self._closing:
            if hello.slot not in self._refused:
                self._refused.append(hello.slot)
                _log.info("call of an earlier daemon left alone", job=job.id, room=job.room, pid=pid)
            line.close()
            return
        process = JobProcess(hello.slot, boot=Boot(self._settings, job.agent_name), worker=self._worker, owner=self)
        process.adopt(line, job, pid=pid)
        self._processes[hello.slot] = process
        self._empty.clear()
        _log.info("call adopted", job=job.id, room=job.room, pid=pid, version=hello.version)
        bench = self._benches.get(job.agent_name)
        self._calls.adopt(job, process, attempts=0 if bench is None else bench.agent.recovery.attempts)
        self._scales.start()
