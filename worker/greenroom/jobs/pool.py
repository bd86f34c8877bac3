"""The green room itself: for each agent some processes that are ready to go on, and the jobs that run.

Processes are started one at a time, so that warming up leaves the machine to the calls; only jobs that found no warm
process make it start more at once, up to one for each core. A job that found none gets the next that becomes ready.
Boots that fail are retried with growing delays (``breaker``); their reason is logged when it changes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import structlog

from greenroom.jobs.bench import Bench, Warmth
from greenroom.jobs.events import Finished, Outcome
from greenroom.jobs.forks import ForkServer
from greenroom.jobs.ipc import Boot, EndJob, Fork, Hello, JobInfo
from greenroom.jobs.line import Line
from greenroom.jobs.listener import Listener
from greenroom.jobs.memory import memory_mb
from greenroom.jobs.process import JobProcess
from greenroom.settings import AgentSettings, Settings

__all__ = ["PRELOAD", "RUNNER", "Pool", "preload_items"]

RUNNER = "greenroom.job:Runner"
PRELOAD = ("asyncio", "structlog", "msgspec", "numpy", "livekit.rtc", "greenroom.job")
PATIENCE = 5.0
"""Seconds that a process without a job waits for a daemon."""
MEMORY_INTERVAL = 5.0
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


class Pool:
    """All processes of one worker.

    ``on_leaving(job_id, error)``: the job is over, ``error`` empty for success; tell the server, then call
    ``may_leave``. It comes once for each job, and before ``on_finished(job_id, outcome)``, which says that its process
    is gone and its slot free. ``on_warm_changed`` follows each agent's readiness. ``on_adopted(job)``: a process of an
    earlier daemon came with its job, which is from then on like one that was started; without it such processes are
    left alone and end with their calls. The callbacks are called from the event loop and must not raise.
    """

    memory_interval = MEMORY_INTERVAL

    def __init__(
        self,
        settings: Settings,
        *,
        run_dir: Path,
        on_leaving: Callable[[str, str], None],
        on_finished: Callable[[str, Outcome], None],
        on_warm_changed: Callable[[Warmth], None],
        on_adopted: Callable[[JobInfo], None] | None = None,
        runner: str = RUNNER,
        preload: tuple[str, ...] | None = None,
    ) -> None:
        self._worker = settings.worker
        self._settings = settings.encode()
        self._on_leaving = on_leaving
        self._on_finished = on_finished
        self._on_warm_changed = on_warm_changed
        self._on_adopted = on_adopted
        self._runner = runner
        self._benches = {agent.name: self._bench(agent) for agent in settings.agents}
        self._processes: dict[str, JobProcess] = {}
        self._jobs: dict[str, JobProcess] = {}
        self._slots = self._names()
        self._forks = ForkServer(preload_items(settings) if preload is None else preload)
        self._listener = Listener(run_dir, on_hello=self._hello)
        self._closing = False
        self._retry: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._jobless = asyncio.Event()
        self._empty = asyncio.Event()
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
        waiting = {job_id: None for bench in self._benches.values() for job_id in bench.waiting}
        return waiting | {job_id: process.pid for job_id, process in self._jobs.items()}

    @property
    def fork_server_pid(self) -> int | None:
        return self._forks.pid

    def warmth(self) -> tuple[Warmth, ...]:
        return tuple(bench.warmth() for bench in self._benches.values())

    # Jobs.

    def start_job(self, agent_name: str, job: JobInfo) -> None:
        """Give the job to a warm process, or to the next one. A job that is known already is left as it is.

        What becomes of it comes through the callbacks, also when no process can be had. Raises ``KeyError`` for an
        unknown agent.
        """
        bench = self._benches[agent_name]
        if job.id in self.jobs:
            return
        self._jobless.clear()
        loop = asyncio.get_running_loop()
        if self._closing:
            loop.call_soon(self._fail, job.id, "the worker is stopping")
            return
        timer = loop.call_later(self._worker.deadlines.boot, self._give_up, bench, job.id)
        bench.waiting[job.id] = (job, timer)
        self._serve(bench)
        if job.id in bench.waiting:
            _log.warning("no warm process", agent=agent_name, job=job.id, room=job.room, starting=bench.starting)
            loop.call_soon(self._fail_hopeless, bench)
        self._top_up()
        self._show(bench)

    def end_job(self, job_id: str, reason: str) -> None:
        """Have the call ended within its deadlines. Unknown jobs are ignored: they may just have ended."""
        if job_id in self._jobs:
            self._jobs[job_id].end(reason, grace=self._worker.deadlines.end)
            return
        for bench in self._benches.values():
            if job_id in bench.waiting:
                self._unqueue(bench, job_id, f"ended before it started: {reason}", Outcome.RETIRED)

    def may_leave(self, job_id: str) -> None:
        """The server was told the job's outcome, or cannot be reached."""
        if job_id in self._jobs:
            self._jobs[job_id].may_leave()

    async def drain(self) -> None:
        """Replace no process any more and wait until the jobs have ended by themselves, for ``drain`` at most."""
        for bench in self._benches.values():
            bench.wanted = 0
        self._check_idle()
        try:
            async with asyncio.timeout(self._worker.deadlines.drain):
                await self._jobless.wait()
        except TimeoutError:
            _log.warning("drain timed out", jobs=sorted(self.jobs))

    async def aclose(self) -> None:
        """End all jobs and processes within their deadlines."""
        self._closing = True
        if self._retry is not None:
            self._retry.cancel()
        for bench in self._benches.values():
            for job_id in list(bench.waiting):
                self._unqueue(bench, job_id, "the worker is stopping", Outcome.RETIRED)
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
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._forks.aclose()
        await self._listener.aclose()

    # What processes say: the ``ProcessOwner`` of each.

    def warmed(self, process: JobProcess) -> None:
        bench = self._benches[process.agent]
        if bench.breaker.succeeded():
            _log.info("agent boots again", agent=process.agent)
        self._serve(bench)
        self._top_up()
        self._show(bench)

    def cooled(self, process: JobProcess) -> None:
        self._show(self._benches[process.agent])

    def leaving(self, process: JobProcess, error: str) -> None:
        if process.job is not None:
            self._on_leaving(process.job.id, error)

    def finished(self, process: JobProcess, end: Finished) -> None:
        del self._processes[process.slot]
        bench = self._benches.get(process.agent)
        if bench is not None:
            bench.processes.discard(process)
        if process.job is not None:
            del self._jobs[process.job.id]
            self._on_finished(process.job.id, end.outcome)
        elif bench is not None and end.outcome is not Outcome.RETIRED:
            self._boot_failed(bench, process, end)
        self._check_idle()
        self._top_up()
        if bench is not None:
            self._show(bench)

    # Warming up.

    def _bench(self, agent: AgentSettings) -> Bench:
        wanted = self._worker.warm if agent.warm is None else agent.warm
        return Bench(agent, wanted, Boot(self._settings, agent.name))

    def _names(self) -> Iterator[str]:
        """Names that no other daemon's processes have."""
        ours = secrets.token_hex(4)
        return (f"{ours}-{n}" for n in count(1))

    def _top_up(self) -> None:
        """Start what is lacking and may be started now; come back for what has to wait."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        benches = list(self._benches.values())
        at_once = max(1, min(sum(len(bench.waiting) for bench in benches), os.cpu_count() or 1))
        for _ in range(at_once - sum(bench.starting for bench in benches)):
            lacking = [bench for bench in benches if bench.lack > 0 and bench.breaker.not_before <= loop.time()]
            if not lacking:
                break
            self._fork(max(lacking, key=lambda bench: (len(bench.waiting), bench.lack)))
        later = [bench.breaker.not_before for bench in benches if bench.lack > 0]
        if later and min(later) > loop.time():
            self._retry = loop.call_at(min(later), self._top_up)

    def _fork(self, bench: Bench) -> None:
        process = JobProcess(next(self._slots), boot=bench.boot, worker=self._worker, owner=self)
        self._processes[process.slot] = process
        self._empty.clear()
        bench.processes.add(process)
        line = os.fspath(self._listener.path)
        self._forks.fork(Fork(process.slot, line, self._runner, PATIENCE), process)

    def _boot_failed(self, bench: Bench, process: JobProcess, end: Finished) -> None:
        news = bench.breaker.failed(end.error, asyncio.get_running_loop().time())
        if news and not self._closing:
            trace = {"exception": process.trace} if process.trace else {}
            _log.error("agent does not boot", agent=process.agent, error=end.error, exit=end.exit, **trace)
        self._fail_hopeless(bench)

    # Jobs and processes, brought together.

    def _serve(self, bench: Bench) -> None:
        """Jobs in the order they came, each to the process that is warm."""
        for process in bench.warm:
            if not bench.waiting:
                return
            job_id = next(iter(bench.waiting))
            job, timer = bench.waiting.pop(job_id)
            timer.cancel()
            bench.processes.discard(process)
            self._jobs[job_id] = process
            process.assign(job)
            self._watch_memory()

    def _fail_hopeless(self, bench: Bench) -> None:
        """Tell the jobs that wait for an agent that does not boot."""
        if bench.breaker.open and not bench.warm and not bench.starting:
            for job_id in list(bench.waiting):
                self._unqueue(bench, job_id, f"the agent does not boot: {bench.breaker.error}", Outcome.BOOT_FAILED)

    def _give_up(self, bench: Bench, job_id: str) -> None:
        error = f"no process became ready within {self._worker.deadlines.boot:g} s"
        self._unqueue(bench, job_id, error, Outcome.BOOT_FAILED)

    def _unqueue(self, bench: Bench, job_id: str, error: str, outcome: Outcome) -> None:
        _, timer = bench.waiting.pop(job_id)
        timer.cancel()
        self._fail(job_id, error, outcome)
        self._show(bench)

    def _fail(self, job_id: str, error: str, outcome: Outcome = Outcome.RETIRED) -> None:
        """End a job that never had a process."""
        _log.error("job not started", job=job_id, error=error)
        self._on_leaving(job_id, error)
        self._on_finished(job_id, outcome)
        self._check_idle()

    def _show(self, bench: Bench) -> None:
        warmth = bench.warmth()
        if warmth != bench.shown:
            bench.shown = warmth
            self._on_warm_changed(warmth)

    def _check_idle(self) -> None:
        if not self.jobs:
            self._jobless.set()
        if not self._processes:
            self._empty.set()

    # Who dials.

    def _hello(self, line: Line, hello: Hello, pid: int) -> None:
        process = self._processes.get(hello.slot)
        try:
            if process is not None and process.pid in (None, pid):
                process.attach(line, hello, pid=pid)
            elif process is not None or (hello.job is not None and hello.job.id in self.jobs):
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
        if self._on_adopted is None or self._closing:
            if hello.slot not in self._refused:
                self._refused.append(hello.slot)
                _log.info("call of an earlier daemon left alone", job=job.id, room=job.room, pid=pid)
            line.close()
            return
        process = JobProcess(hello.slot, boot=Boot(self._settings, job.agent_name), worker=self._worker, owner=self)
        process.adopt(line, job, pid=pid)
        self._processes[hello.slot] = self._jobs[job.id] = process
        self._jobless.clear()
        self._empty.clear()
        _log.info("call adopted", job=job.id, room=job.room, pid=pid, version=hello.version)
        self._on_adopted(job)
        self._watch_memory()

    # Memory.

    def _watch_memory(self) -> None:
        if (self._worker.memory_warn_mb or self._worker.memory_limit_mb) and self._watching is None:
            self._watching = asyncio.create_task(self._measure(), name="memory of jobs")

    async def _measure(self) -> None:
        """While there are jobs, and no longer: an idle worker does not wake up."""
        try:
            while self._jobs:
                await asyncio.sleep(self.memory_interval)
                processes = list(self._jobs.values())
                pids = [process.pid for process in processes]
                figures = await asyncio.to_thread(_measure_all, pids)
                for process, figure in zip(processes, figures, strict=True):
                    if figure is not None:
                        process.measured(figure)
        finally:
            self._watching = None


def _measure_all(pids: list[int | None]) -> list[float | None]:
    return [None if pid is None else memory_mb(pid) for pid in pids]
