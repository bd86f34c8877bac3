"""Hard slots, held from the offer of a job to the end of its process.

Pure and synchronous, so that two offers can never both get the last slot. Rules:

- ``reserve`` takes a slot when a job is offered, ``start`` marks it taken for good when the job is assigned, ``free``
  gives it back: when the offer came to nothing, or when the job's process has ended.
- Each is idempotent: a job holds one slot however often it is reserved or started, and freeing twice frees once.
- A slot alone is not enough: the machine needs memory to spare, the loop has to be on time, and a process for the agent
  has to be there or to be expected (``Condition``). All refusals have a reason, and the first one counts.
- Draining refuses new jobs; what was promised before is kept.
- Nothing expires by itself: who reserved a slot for an offer frees it when the assignment does not come.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Admission", "Condition", "Refusal", "Refused", "Reserved"]


class Refusal(Enum):
    """Why a job was refused: for logs and the label of a metric."""

    DRAINING = "draining"
    FULL = "full"
    NO_WARM_PROCESS = "no_warm_process"
    """The agent does not boot, or none of its processes was free in time to be asked."""
    LOW_MEMORY = "low_memory"
    LAGGING = "lagging"
    NO_RULE = "no_rule"
    """None of the agent's ``accept`` rules fits."""
    DECLINED = "declined"
    """The agent's ``on_request`` said no."""
    UNDECIDED = "undecided"
    """The agent's ``on_request`` did not answer in time, or failed."""
    SERVED = "served"
    """The room has this agent already."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How fit the worker is. ``warm``: a process for the job's agent is there or can be expected; ``memory_mb``: what
    the machine has to spare, ``None`` where that is not known; ``lag``: seconds that the loop is late."""

    warm: bool = True
    memory_mb: float | None = None
    lag: float = 0.0


_FIT = Condition()


@dataclass(frozen=True, slots=True)
class Reserved:
    """The job has a slot. ``free`` slots are left for others."""

    job_id: str
    free: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The job has no slot."""

    job_id: str
    reason: Refusal


class Admission:
    """Who may have one of ``total`` slots. ``headroom_mb`` of memory have to be left, 0: any; the loop may be late by
    ``max_lag`` seconds, 0: however late."""

    def __init__(self, total: int, *, headroom_mb: float = 0, max_lag: float = 0.0) -> None:
        self.draining = False
        self._started: dict[str, bool] = {}
        self.limit(total, headroom_mb=headroom_mb, max_lag=max_lag)

    def limit(self, total: int, *, headroom_mb: float = 0, max_lag: float = 0.0) -> None:
        """Set the limits, also later: who holds a slot keeps it, even if there are fewer now."""
        if total < 1:
            raise ValueError(f"total is {total}; expected at least 1")
        self.total = total
        self.headroom_mb = headroom_mb
        self.max_lag = max_lag

    @property
    def available(self) -> int:
        """Slots that nobody holds."""
        return max(0, self.total - len(self._started))

    @property
    def running(self) -> int:
        """Jobs that were started and not freed."""
        return sum(self._started.values())

    @property
    def promised(self) -> int:
        """Jobs that hold a slot and were not started yet."""
        return len(self._started) - self.running

    @property
    def idle(self) -> bool:
        """Nobody holds a slot: a drain is over."""
        return not self._started

    def drain(self, draining: bool = True) -> None:
        """Take no more jobs; or take some again, when a handover came to nothing."""
        self.draining = draining

    def refusal(self, condition: Condition = _FIT) -> Refusal | None:
        """Why a new job would be refused now; ``None``: it would be taken."""
        if self.draining:
            return Refusal.DRAINING
        if self.available <= 0:
            return Refusal.FULL
        if not condition.warm:
            return Refusal.NO_WARM_PROCESS
        if self.headroom_mb and condition.memory_mb is not None and condition.memory_mb < self.headroom_mb:
            return Refusal.LOW_MEMORY
        if self.max_lag and condition.lag > self.max_lag:
            return Refusal.LAGGING
        return None

    def reserve(self, job_id: str, condition: Condition = _FIT) -> Reserved | Refused:
        """Hold a slot for a job that is on offer."""
        if job_id in self._started:
            return Reserved(job_id, self.available)
        reason = self.refusal(condition)
        if reason is not None:
            return Refused(job_id, reason)
        self._started[job_id] = False
        return Reserved(job_id, self.available)

    def start(self, job_id: str) -> bool:
        """The job was assigned. False if it holds no slot: it came after its slot had been freed."""
        if job_id not in self._started:
            return False
        self._started[job_id] = True
        return True

    def adopt(self, job_id: str) -> None:
        """Count a job that already runs, even beyond ``total``: a live call is never turned away."""
        self._started[job_id] = True

    def free(self, job_id: str) -> bool:
        """Give the job's slot back. False if it held none."""
        return self._started.pop(job_id, None) is not None
