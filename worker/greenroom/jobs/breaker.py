"""When an agent's next process may be started after one failed to boot.

Pure. Rules: the first failure is retried after ``FIRST_RETRY`` seconds, each further one after twice as long, never
more than ``LAST_RETRY``. After ``TRIPS_AT`` failures in a row the breaker is open: the agent counts as not bootable
until one process boots. A reason is news only if it differs from the last one, so that a crash loop is logged once.
"""

from __future__ import annotations

__all__ = ["FIRST_RETRY", "LAST_RETRY", "TRIPS_AT", "Breaker"]

FIRST_RETRY = 1.0
LAST_RETRY = 60.0
TRIPS_AT = 3


class Breaker:
    """One agent's boot failures in a row."""

    def __init__(self) -> None:
        self.failures = 0
        self.error = ""
        self.not_before = float("-inf")

    @property
    def open(self) -> bool:
        """So many boots have failed in a row that the next is expected to fail."""
        return self.failures >= TRIPS_AT

    def failed(self, error: str, now: float) -> bool:
        """A boot failed. True if the reason is news, to be logged."""
        news = error != self.error
        self.error = error
        self.failures += 1
        # The exponent is bounded before it is raised: a float overflows after about a thousand failures.
        delay = min(FIRST_RETRY * 2.0 ** min(self.failures - 1, 16), LAST_RETRY)
        self.not_before = now + delay
        return news

    def succeeded(self) -> bool:
        """A process booted. True if that is news: the ones before had failed."""
        news = self.failures > 0
        self.failures, self.error, self.not_before = 0, "", float("-inf")
        return news
