"""Offers that the agent's own code decides about, in a warm process and against the clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from greenroom.jobs.admission import Refusal
from greenroom.jobs.bench import Bench
from greenroom.jobs.ipc import Considered, JobInfo
from greenroom.jobs.process import JobProcess

__all__ = ["Questions"]


@dataclass(slots=True)
class _Question:
    bench: Bench
    job: JobInfo
    answer: asyncio.Future[Considered]
    timer: asyncio.TimerHandle
    process: JobProcess | None = None


class Questions:
    """Each is put to one process that is warm, or to the next that will be, and answered within ``seconds``."""

    def __init__(self) -> None:
        self._open: dict[str, _Question] = {}

    def ask(self, bench: Bench, job: JobInfo, *, seconds: float) -> asyncio.Future[Considered]:
        """The answer, which always comes: a refusal when nobody decided in time (``Refusal.UNDECIDED``), or when there
        was nobody to ask (``Refusal.NO_WARM_PROCESS``)."""
        loop = asyncio.get_running_loop()
        known = self._open.get(job.id)
        if known is not None:
            return known.answer
        timer = loop.call_later(seconds, self._overdue, job.id)
        self._open[job.id] = _Question(bench, job, loop.create_future(), timer)
        answer = self._open[job.id].answer
        self.put(bench)
        return answer

    def put(self, bench: Bench) -> None:
        """Put what waits to who is warm."""
        waiting = [one for one in self._open.values() if one.bench is bench and one.process is None]
        for question, process in zip(waiting, bench.warm, strict=False):
            question.process = process
            process.consider(question.job)

    def answered(self, process: JobProcess, decision: Considered) -> None:
        """A process decided. What comes too late is dropped."""
        question = self._open.get(decision.job_id)
        if question is not None and question.process is process:
            self._close(question, decision)

    def gone(self, process: JobProcess) -> None:
        """A process will not answer any more."""
        for question in list(self._open.values()):
            if question.process is process:
                self._refuse(question, Refusal.UNDECIDED)

    def aclose(self) -> None:
        for question in list(self._open.values()):
            self._refuse(question, Refusal.DRAINING)

    def _overdue(self, job_id: str) -> None:
        question = self._open[job_id]
        self._refuse(question, Refusal.NO_WARM_PROCESS if question.process is None else Refusal.UNDECIDED)

    def _refuse(self, question: _Question, reason: Refusal) -> None:
        self._close(question, Considered(question.job.id, accepted=False, reason=reason.value))

    def _close(self, question: _Question, decision: Considered) -> None:
        del self._open[question.job.id]
        question.timer.cancel()
        if not question.answer.done():
            question.answer.set_result(decision)
