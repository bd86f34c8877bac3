"""The worker's metrics: what the daemon counts, what jobs have sent, and what is read off the worker when it is asked.

Counters and histograms are plain numbers in memory; gauges are not kept at all, but taken from ``Status`` when somebody
asks, so that they cannot be out of date. prometheus-client writes it out, and is loaded only then; nothing of it that
leaves files behind or has locks is used.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from greenroom.jobs.admission import Refusal
from greenroom.jobs.events import Outcome
from greenroom.jobs.ipc import Measured
from greenroom.ops import measures as m
from greenroom.ops.facts import Status
from greenroom.ops.gauges import gauges
from greenroom.ops.measures import Measure

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["Metrics"]

MOST_SERIES: Final = 500
"""Sets of labels that jobs may bring into one metric: some labels, such as a provider's, are the user's code's."""
LONGEST_LABEL: Final = 100

RECOVERABLE: Final = (Outcome.CRASHED, Outcome.UNRESPONSIVE, Outcome.OUT_OF_MEMORY, Outcome.KILLED)
EXPECTED: Final[dict[Measure, tuple[str, ...]]] = {
    m.JOBS_FINISHED: tuple(outcome.value for outcome in Outcome),
    m.OFFERS_REFUSED: tuple(refusal.value for refusal in Refusal),
    m.RECOVERIES: tuple(outcome.value for outcome in RECOVERABLE),
    m.BOOTS: ("ready", "failed"),
    m.RELOADS: ("done", "failed"),
}
"""Values of the last label that are shown from the start, as 0: the first of them is otherwise no increase."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Histogram:
    """``counts``: of each bucket, not cumulated, and of what is above the last."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class _Timeline:
    """One job's way in. Loop times."""

    agent: str
    received: float
    assigned: float | None = None
    joined: bool = False


Key = tuple[str, ...]
"""Values of a measure's labels, in their order."""


class Metrics:
    """One worker's. All methods are called on the daemon's loop; what comes from a job is checked, and never raises."""

    def __init__(self) -> None:
        self._counters: dict[Measure, dict[Key, float]] = {}
        self._histograms: dict[Measure, dict[Key, _Histogram]] = {}
        self._timelines: dict[str, _Timeline] = {}
        self._complained: set[str] = set()

    def count(self, measure: Measure, amount: float = 1.0, **labels: str) -> None:
        """Raises ``ValueError`` for another kind of measure, ``KeyError`` for other labels than its own."""
        _check(measure, "counter", labels)
        self._add(measure, tuple(labels[name] for name in measure.labels), amount)

    def observe(self, measure: Measure, value: float, **labels: str) -> None:
        """As ``count``, of a histogram."""
        _check(measure, "histogram", labels)
        self._put(measure, tuple(labels[name] for name in measure.labels), value)

    def refusals(self) -> dict[str, int]:
        """Offers that were refused, by reason: for ``Status.refused``."""
        sums: dict[str, int] = {}
        for (_, reason), amount in self._counters.get(m.OFFERS_REFUSED, {}).items():
            sums[reason] = sums.get(reason, 0) + int(amount)
        return sums

    def lagged(self, seconds: float) -> None:
        """The loop was so late: for ``LoopLag``."""
        self._put(m.LOOP_LAG_SECONDS, (), seconds)

    # --- the way of a job ---------------------------------------------------------------------------------------------

    def offered(self, job_id: str, agent: str, *, now: float) -> None:
        """An offer has come."""
        self.count(m.OFFERS, agent=agent)
        self._timelines[job_id] = _Timeline(agent, now)

    def accepted(self, job_id: str, *, now: float) -> None:
        """It was answered with yes."""
        self._reached(job_id, "accepted", now)

    def refused(self, job_id: str, reason: str) -> None:
        """It was answered with no."""
        timeline = self._timelines.pop(job_id, None)
        if timeline is not None:
            self.count(m.OFFERS_REFUSED, agent=timeline.agent, reason=reason)

    def given_up(self, job_id: str) -> None:
        """It was accepted, and the job will not come."""
        timeline = self._timelines.pop(job_id, None)
        if timeline is not None:
            self.count(m.OFFERS_LOST, agent=timeline.agent)

    def assigned(self, job_id: str, *, now: float) -> None:
        """The job has come."""
        timeline = self._timelines.get(job_id)
        if timeline is not None and timeline.assigned is None:
            timeline.assigned = now
            self.count(m.JOBS_STARTED, agent=timeline.agent)
            self._reached(job_id, "assigned", now)

    def joined(self, job_id: str, *, now: float) -> None:
        """The agent is in its room. Only the first time counts: later ones are recoveries."""
        timeline = self._timelines.get(job_id)
        if timeline is not None and not timeline.joined:
            timeline.joined = True
            self._reached(job_id, "joined", now)

    def adopted(self, agent: str) -> None:
        """A call of an earlier daemon's has come. Its way in is not known, nor how long it will have lasted."""
        self.count(m.JOBS_ADOPTED, agent=agent)

    def finished(self, job_id: str, agent: str, outcome: str, *, now: float) -> None:
        """The call is over, and its process has sent its last."""
        self.count(m.JOBS_FINISHED, agent=agent, outcome=outcome)
        timeline = self._timelines.pop(job_id, None)
        if timeline is not None and timeline.assigned is not None:
            self.observe(m.CALL_SECONDS, now - timeline.assigned, agent=agent)

    def _reached(self, job_id: str, stage: str, now: float) -> None:
        timeline = self._timelines.get(job_id)
        if timeline is not None:
            self._put(m.DISPATCH_SECONDS, (timeline.agent, stage), now - timeline.received)

    # --- from jobs ----------------------------------------------------------------------------------------------------

    def merge(self, job_id: str, agent: str, measured: Measured) -> None:
        """Take what a job has measured. What it may not say, or what makes no sense, is counted and logged once."""
        for name, labels, amount in measured.counted:
            measure, key = self._placed(name, "counter", agent, labels, amount)
            if measure is not None and self._room(self._counters.get(measure, {}), measure, key):
                self._add(measure, key, amount)
        for name, labels, value in measured.observed:
            measure, key = self._placed(name, "histogram", agent, labels, value)
            if measure is m.DISPATCH_SECONDS:
                self._first_audio(job_id, key, value)
            elif measure is not None and self._room(self._histograms.get(measure, {}), measure, key):
                self._put(measure, key, value)

    def _first_audio(self, job_id: str, key: Key, value: float) -> None:
        """A job counts from the moment that it was given its work: what went before is known here alone."""
        timeline = self._timelines.get(job_id)
        if timeline is not None and timeline.assigned is not None and key[-1] == "first_audio":
            self._put(m.DISPATCH_SECONDS, key, value + timeline.assigned - timeline.received)

    def _placed(
        self, name: str, kind: str, agent: str, labels: tuple[tuple[str, str], ...], value: float
    ) -> tuple[Measure | None, Key]:
        measure = m.MEASURES.get(name)
        given = dict(labels)
        if measure is None or not measure.by_job or measure.kind != kind:
            problem = f"{name[:LONGEST_LABEL]!r} is no {kind} of a job's"
        elif set(given) != set(measure.own_labels):
            problem = f"{name} with other labels than its own"
        elif not (math.isfinite(value) and value >= 0):
            problem = f"{name} of a value that is no amount"
        else:
            given["agent"] = agent
            return measure, tuple(given[label][:LONGEST_LABEL] for label in measure.labels)
        self._lose(agent, problem)
        return None, ()

    def _room(self, series: dict[Key, float] | dict[Key, _Histogram], measure: Measure, key: Key) -> bool:
        if key in series or len(series) < MOST_SERIES:
            return True
        self._lose(key[0], f"{measure.name} with more than {MOST_SERIES} sets of labels")
        return False

    def _lose(self, agent: str, problem: str) -> None:
        self._add(m.MEASURES_LOST, (agent,), 1.0)
        if problem not in self._complained and len(self._complained) < MOST_SERIES:
            self._complained.add(problem)
            log.warning("measure dropped", agent=agent, reason=problem)

    # --- out ----------------------------------------------------------------------------------------------------------

    def render(self, status: Status, accept: str = "") -> tuple[bytes, str]:
        """All metrics as text, and its content type. ``accept``: the header of who asks, for OpenMetrics."""
        from prometheus_client import exposition

        encode, content_type = exposition.choose_encoder(accept)
        return encode(_Registry(self.families(status))), content_type

    def families(self, status: Status) -> Iterator[Metric]:
        """All metrics, as prometheus-client has them, in the order of their definition."""
        from prometheus_client import core

        shown = gauges(status)
        agents = [agent.name for agent in status.agents]
        for measure in m.MEASURES.values():
            if measure.kind == "gauge":
                gauge = core.GaugeMetricFamily(measure.name, measure.help, labels=measure.labels)
                for key, value in shown.get(measure, {}).items():
                    gauge.add_metric(key, value)
                yield gauge
            elif measure.kind == "counter":
                counter = core.CounterMetricFamily(measure.name, measure.help, labels=measure.labels)
                series = dict.fromkeys(_expected(measure, agents), 0.0) | self._counters.get(measure, {})
                for key, value in series.items():
                    counter.add_metric(key, value)
                yield counter
            else:
                histogram = core.HistogramMetricFamily(measure.name, measure.help, labels=measure.labels)
                for key, found in self._histograms.get(measure, {}).items():
                    histogram.add_metric(key, _cumulated(measure, found), found.total)
                yield histogram

    def _add(self, measure: Measure, key: Key, amount: float) -> None:
        series = self._counters.setdefault(measure, {})
        series[key] = series.get(key, 0.0) + amount

    def _put(self, measure: Measure, key: Key, value: float) -> None:
        series = self._histograms.setdefault(measure, {})
        found = series.get(key)
        if found is None:
            found = series[key] = _Histogram([0] * (len(measure.buckets) + 1))
        found.counts[bisect_left(measure.buckets, value)] += 1
        found.total += value


class _Registry:
    """What prometheus-client's encoders ask: they need no more of a registry than this."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _check(measure: Measure, kind: str, labels: dict[str, str]) -> None:
    if measure.kind != kind or set(labels) != set(measure.labels):
        raise ValueError(f"{measure.name} is a {measure.kind} with the labels {measure.labels}; got {tuple(labels)}")


def _expected(measure: Measure, agents: list[str]) -> Iterator[Key]:
    """The labels of what is shown although it never happened."""
    if not measure.labels:
        yield ()
    elif measure.labels == ("agent",):
        yield from ((agent,) for agent in agents)
    elif measure.labels[:-1] in ((), ("agent",)):
        firsts: list[Key] = [(agent,) for agent in agents] if len(measure.labels) == 2 else [()]
        yield from ((*first, value) for first in firsts for value in EXPECTED.get(measure, ()))


def _cumulated(measure: Measure, found: _Histogram) -> list[tuple[str, float]]:
    sum_so_far = 0
    buckets = []
    for bound, count in zip((*measure.buckets, math.inf), found.counts, strict=True):
        sum_so_far += count
        buckets.append((repr(bound) if bound < math.inf else "+Inf", float(sum_so_far)))
    return buckets
