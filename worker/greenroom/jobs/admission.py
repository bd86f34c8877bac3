"""Hard slots, held from the offer of a job to the end of its process.

Pure and synchronous, so that two offers can never both get the last slot. Rules:

- ``reserve`` takes a slot when a job is offered, ``start`` marks it taken for good when the job is assigned, ``free``
  gives it back: when the offer came to nothing, or when the job's process has ended.
- Each is idempotent: a job holds one slot however often it is reserved or started, and freeing twice frees once.
- Draining refuses new jobs; what was promised before is kept.
- Nothing expires by itself: who reserved a slot for an offer frees it when the assignment does not come.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Admission", "Refusal", "Refused", "Reserved"]


class Refusal(Enum):
    """Why a job was refused: for logs and the label of a metric."""

    FULL = "full"
    DRAINING = "draining"
    NO_WARM_PROCESS = "no_warm_process"


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
    """Who may have one of ``total`` slots."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError(f"total is {total}; expected at least 1")
        self.total = total
        self.draining = False
        self._started: dict[str, bool] = {}

    @property
    def available(self) -> int:
        """Slots that nobody holds."""
        return self.total - len(self._started)

    @property
    def running(self) -> int:
        """Jobs that were started and not freed."""
        return sum(self._started.values())

    @property
    def idle(self) -> bool:
        """Nobody holds a slot: a drain is over."""
        return not self._started

    def drain(self) -> None:
        """Take no more jobs, for good."""
        self.draining = True

    def reserve(self, job_id: str, *, warm: bool = True) -> Reserved | Refused:
        """Hold a slot for a job that is on offer.

        ``warm``: a process for its agent is there or can be expected; false while the agent is known not to boot.
        """
        if job_id in self._started:
            return Reserved(job_id, self.available)
        if self.draining:
            return Refused(job_id, Refusal.DRAINING)
        if self.available <= 0:
            return Refused(job_id, Refusal.FULL)
        if not warm:
            return Refused(job_id, Refusal.NO_WARM_PROCESS)
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
