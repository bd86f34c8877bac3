"""What is measured: every metric's name, labels and buckets, as data; and what a job's process measures with.

A job counts and observes into ``Measures``, and sends what ``take`` returns to the daemon, which adds the label
``agent`` and merges it (``ops.metrics``): no process leaves a file behind. Names of metrics end in their unit; counters
end in ``_total``. A metric's labels have few values each: no job, room or caller is ever one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from greenroom.jobs.ipc import Measured

__all__ = [
    "BOOTS",
    "BOOT_SECONDS",
    "CALL_SECONDS",
    "DEAD_AIR",
    "DISPATCHES_REMADE",
    "DISPATCH_SECONDS",
    "DRAINING",
    "EARLY_REPLIES",
    "EARLY_REPLY_WASTE",
    "FIRST_WORD_LOSS_SECONDS",
    "INFO",
    "INTERRUPTIONS",
    "JOBS",
    "JOBS_ADOPTED",
    "JOBS_FINISHED",
    "JOBS_GIVEN_UP",
    "JOBS_STARTED",
    "JOBS_WAITING",
    "JOB_MEMORY_BYTES",
    "JOB_SIDE",
    "JOURNALS_STOPPED",
    "JOURNAL_BYTES",
    "LINKS",
    "LINKS_LOST",
    "LINK_ROUND_TRIP_SECONDS",
    "LOOP_LAG_SECONDS",
    "LOOP_LAG_WORST_SECONDS",
    "MEASURES",
    "MEASURES_LOST",
    "MEMORY_AVAILABLE_BYTES",
    "MESSAGES_DROPPED",
    "MODEL_HOST_MEMORY_BYTES",
    "MODEL_HOST_MODELS",
    "MODEL_HOST_REQUESTS",
    "MODEL_HOST_RESTARTS",
    "MODEL_HOST_SECONDS",
    "OFFERS",
    "OFFERS_LOST",
    "OFFERS_REFUSED",
    "PROCESSES",
    "PROCESSES_RECYCLED",
    "PROCESSES_WANTED",
    "PROVIDER_ERRORS",
    "PROVIDER_FAULTS",
    "PROVIDER_HEDGES",
    "PROVIDER_HEDGE_WASTE",
    "PROVIDER_SECONDS",
    "PROVIDER_UNITS",
    "READY",
    "RECONCILE_FAILURES",
    "RECORDINGS",
    "RECOVERIES",
    "RECOVERY_SECONDS",
    "RELOADS",
    "ROOM_AWAY_SECONDS",
    "SLOTS",
    "SLOTS_FREE",
    "SPEECHES",
    "TERMINATIONS_DROPPED",
    "TOOL_CALLS",
    "TURNS",
    "TURN_SECONDS",
    "Measure",
    "Measures",
]

MOST_OBSERVED: Final = 5_000
"""Values that wait to be taken. A job that finds no daemon for an hour must not grow."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. ``help``: what it says, in a sentence. ``labels``: their names, and what they may say.

    ``by_job``: a job's process measures it. Its ``agent`` is then the daemon's word: ``labels`` has it, the job's calls
    do not. ``buckets``: of a histogram, upper bounds in the metric's unit.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    by_job: bool = False

    @property
    def own_labels(self) -> tuple[str, ...]:
        """The labels that who measures has to give."""
        return tuple(label for label in self.labels if not (self.by_job and label == "agent"))


MEASURES: dict[str, Measure] = {}
"""All of them, by name."""


def _counter(name: str, text: str, *labels: str, by_job: bool = False) -> Measure:
    return _known(Measure(name, "counter", text, labels, by_job=by_job))


def _gauge(name: str, text: str, *labels: str) -> Measure:
    return _known(Measure(name, "gauge", text, labels))


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...], by_job: bool = False) -> Measure:
    return _known(Measure(name, "histogram", text, labels, buckets, by_job=by_job))


def _known(measure: Measure) -> Measure:
    if measure.name in MEASURES:
        raise ValueError(f"{measure.name} is there twice")
    MEASURES[measure.name] = measure
    return measure


INSTANT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Of what should take no time."""
ANSWER = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Of what somebody listens to."""
WAIT = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Of what somebody waits for on the telephone, or an operator for a process."""
CALL = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)

# --- the worker ------------------------------------------------------------------------------------------------------

INFO = _gauge("greenroom_info", "Always 1; the version is in the label.", "version")
READY = _gauge("greenroom_ready", "1 while the worker would take a call, as /readyz says it.")
DRAINING = _gauge("greenroom_draining", "1 while the worker takes no more calls and lets those it has end.")
SLOTS = _gauge("greenroom_slots", "Calls that the worker may hold at once: worker.max_jobs.")
SLOTS_FREE = _gauge(
    "greenroom_slots_free", "Calls that the worker would take now; 0 while it takes none for any reason."
)
LOOP_LAG_SECONDS = _histogram(
    "greenroom_loop_lag_seconds", "How late the daemon's event loop came to a timer.", buckets=INSTANT
)
LOOP_LAG_WORST_SECONDS = _gauge(
    "greenroom_loop_lag_worst_seconds", "The worst lateness of the daemon's event loop in the last seconds."
)
MEMORY_AVAILABLE_BYTES = _gauge("greenroom_memory_available_bytes", "Memory that this machine has left.")
RELOADS = _counter(
    "greenroom_reloads_total",
    "Times that the settings were read again: done, or failed and left as they were.",
    "outcome",
)

# --- the line to the media server ------------------------------------------------------------------------------------

LINKS = _gauge(
    "greenroom_links",
    "Registrations with the media server by state: opening, registering, registered, draining, closed.",
    "agent",
    "job_type",
    "state",
)
LINK_ROUND_TRIP_SECONDS = _gauge(
    "greenroom_link_round_trip_seconds", "The last ping to the media server and back.", "agent", "job_type"
)
LINKS_LOST = _counter(
    "greenroom_links_lost_total",
    "Times that a registration's connection to the media server was lost.",
    "agent",
    "job_type",
)
MESSAGES_DROPPED = _counter(
    "greenroom_messages_dropped_total", "Messages of the media server that had no meaning.", "agent", "job_type"
)

# --- offers and jobs -------------------------------------------------------------------------------------------------

OFFERS = _counter("greenroom_offers_total", "Jobs that the media server offered.", "agent")
OFFERS_REFUSED = _counter(
    "greenroom_offers_refused_total",
    "Offers that were refused, by the reason in /status and in the log.",
    "agent",
    "reason",
)
OFFERS_LOST = _counter("greenroom_offers_lost_total", "Offers that were accepted and never assigned.", "agent")
DISPATCH_SECONDS = _histogram(
    "greenroom_dispatch_seconds",
    "From the receipt of an offer until it was answered (accepted), the job was there (assigned), the agent was in the "
    "room (joined) and was heard (first_audio).",
    "agent",
    "stage",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, *WAIT),
    by_job=True,
)
JOBS = _gauge("greenroom_jobs", "Calls now, by state: starting, running, away, recovering, ending.", "agent", "state")
JOBS_WAITING = _gauge("greenroom_jobs_waiting", "Calls that wait for a process to become ready.", "agent")
JOBS_STARTED = _counter("greenroom_jobs_started_total", "Jobs that were assigned to this worker.", "agent")
JOBS_ADOPTED = _counter("greenroom_jobs_adopted_total", "Calls taken over from an earlier daemon.", "agent")
JOBS_FINISHED = _counter("greenroom_jobs_finished_total", "Calls that are over, by outcome.", "agent", "outcome")
CALL_SECONDS = _histogram(
    "greenroom_call_seconds", "How long calls lasted, from the assignment of the job.", "agent", buckets=CALL
)
RECOVERIES = _counter(
    "greenroom_recoveries_total",
    "Times that a call went on in another process, by how its process had died.",
    "agent",
    "died",
)
JOBS_GIVEN_UP = _counter(
    "greenroom_jobs_given_up_total", "Calls whose processes died more often than recovery.attempts.", "agent"
)
RECOVERY_SECONDS = _histogram(
    "greenroom_recovery_seconds",
    "From the death of a call's process until the agent was back in the room (joined) and was heard (first_audio).",
    "agent",
    "stage",
    buckets=WAIT,
    by_job=True,
)
TERMINATIONS_DROPPED = _counter(
    "greenroom_terminations_dropped_total",
    "Terminations by the server that ended no call: of a participant of ours whose place another one has taken.",
    "agent",
)
DISPATCHES_REMADE = _counter(
    "greenroom_dispatches_remade_total", "Dispatches that the server had lost and the reconciler made again.", "agent"
)
RECONCILE_FAILURES = _counter(
    "greenroom_reconcile_failures_total", "Times that the reconciler could not ask the server's API."
)

# --- processes -------------------------------------------------------------------------------------------------------

PROCESSES = _gauge("greenroom_processes", "Processes by state: starting, warm, serving.", "agent", "state")
PROCESSES_WANTED = _gauge("greenroom_processes_wanted", "Warm processes that the settings ask for.", "agent")
PROCESSES_RECYCLED = _counter(
    "greenroom_processes_recycled_total",
    "Warm processes that were replaced for their age or for new settings.",
    "agent",
)
BOOTS = _counter("greenroom_boots_total", "Processes that became ready, or failed to.", "agent", "outcome")
BOOT_SECONDS = _histogram(
    "greenroom_boot_seconds", "How long processes took to load what the agent needs.", "agent", buckets=WAIT
)
JOB_MEMORY_BYTES = _gauge(
    "greenroom_job_memory_bytes",
    "Memory of the calls' processes, shared pages counted by share: sum and max.",
    "agent",
    "of",
)

# --- the model host --------------------------------------------------------------------------------------------------

MODEL_HOST_MEMORY_BYTES = _gauge(
    "greenroom_model_host_memory_bytes", "Memory of the process that holds the models which all calls use."
)
MODEL_HOST_MODELS = _gauge("greenroom_model_host_models", "Models that it has loaded.", "kind", "provider")
MODEL_HOST_RESTARTS = _counter(
    "greenroom_model_host_restarts_total", "Times that it died, or was ended for its memory or its silence."
)
MODEL_HOST_REQUESTS = _counter(
    "greenroom_model_host_requests_total",
    "What calls asked its models for: done, failed or cancelled.",
    "kind",
    "provider",
    "outcome",
)
MODEL_HOST_SECONDS = _histogram(
    "greenroom_model_host_seconds",
    "How long requests waited for their turn (wait), and were then worked on (work).",
    "kind",
    "provider",
    "stage",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, *ANSWER),
)

# --- in a call -------------------------------------------------------------------------------------------------------

TURNS = _counter("greenroom_turns_total", "Turns of callers that the agent answered.", "agent", by_job=True)
TURN_SECONDS = _histogram(
    "greenroom_turn_seconds",
    "From the caller's last voiced sample until the turn was over (end_of_turn), its last words were there "
    "(transcript), and the answer was heard (response); of that, in on_user_turn_completed (hook), from asking the "
    "model to its first words (model), to its first sentence (sentence), and to the voice's first sound (voice).",
    "agent",
    "segment",
    buckets=ANSWER,
    by_job=True,
)
SPEECHES = _counter(
    "greenroom_speeches_total",
    "What the agent said, by what asked for it and how it ended.",
    "agent",
    "source",
    "outcome",
    by_job=True,
)
INTERRUPTIONS = _counter(
    "greenroom_interruptions_total",
    "Times that the caller spoke into the agent's speech: it was cut (real), went on (false), or needed no answer "
    "(backchannel).",
    "agent",
    "kind",
    by_job=True,
)
EARLY_REPLIES = _counter(
    "greenroom_early_replies_total",
    "Answers begun before the turn was over: used or discarded.",
    "agent",
    "outcome",
    by_job=True,
)
EARLY_REPLY_WASTE = _counter(
    "greenroom_early_reply_waste_total",
    "What discarded early answers had cost: pieces and tokens of models, characters of voices.",
    "agent",
    "unit",
    by_job=True,
)
DEAD_AIR = _counter(
    "greenroom_dead_air_total",
    "Silences that the agent owed something in, by the step that was taken.",
    "agent",
    "step",
    by_job=True,
)
TOOL_CALLS = _counter(
    "greenroom_tool_calls_total",
    "Calls of tools: done, failed, cancelled, or unknown after a crash.",
    "agent",
    "outcome",
    by_job=True,
)
PROVIDER_SECONDS = _histogram(
    "greenroom_provider_seconds",
    "How long models took (kind: stt, llm, tts, turn, vad; provider: its label) to their first output (first) and in "
    "all (whole); of stt, from the last voiced sample to the final words (first).",
    "agent",
    "kind",
    "provider",
    "stage",
    buckets=ANSWER,
    by_job=True,
)
PROVIDER_ERRORS = _counter(
    "greenroom_provider_errors_total", "Requests to models that failed.", "agent", "kind", "provider", by_job=True
)
PROVIDER_FAULTS = _counter(
    "greenroom_provider_faults_total",
    "Failures of models, by what was wrong (fault: error, refused, timeout, stall, cut, silence) and what was done "
    "(action: retried, fell_back, hedged, gave_up).",
    "agent",
    "kind",
    "provider",
    "fault",
    "action",
    by_job=True,
)
PROVIDER_HEDGES = _counter(
    "greenroom_provider_hedges_total",
    "Second requests beside one that was late: won if the second was used, else lost.",
    "agent",
    "kind",
    "provider",
    "outcome",
    by_job=True,
)
PROVIDER_HEDGE_WASTE = _counter(
    "greenroom_provider_hedge_waste_total",
    "What second requests had cost for nothing: tokens of prompts.",
    "agent",
    "kind",
    "provider",
    "unit",
    by_job=True,
)
PROVIDER_UNITS = _counter(
    "greenroom_provider_units_total",
    "What models were used for: prompt_tokens, completion_tokens, characters, audio_seconds, cached_characters.",
    "agent",
    "kind",
    "provider",
    "unit",
    by_job=True,
)
JOURNAL_BYTES = _counter("greenroom_journal_bytes_total", "Bytes written to journals.", "agent", by_job=True)
JOURNALS_STOPPED = _counter(
    "greenroom_journals_stopped_total",
    "Journals that ended before their call: full, or the disk was.",
    "agent",
    by_job=True,
)
RECORDINGS = _counter(
    "greenroom_recordings_total",
    "What became of what callers had said before the agent came, as the log line preconnect says it.",
    "agent",
    "outcome",
    by_job=True,
)
FIRST_WORD_LOSS_SECONDS = _histogram(
    "greenroom_first_word_loss_seconds",
    "Audio missing between what the caller had said before and the live microphone.",
    "agent",
    buckets=INSTANT,
    by_job=True,
)
ROOM_AWAY_SECONDS = _histogram(
    "greenroom_room_away_seconds",
    "How long the agent was cut off from its room: until its client was back (reconnected), it had joined anew "
    "(rejoined), or the call was lost (lost).",
    "agent",
    "outcome",
    buckets=WAIT,
    by_job=True,
)
MEASURES_LOST = _counter(
    "greenroom_measures_lost_total",
    "Values from jobs that were too many, or made no sense, and count nowhere.",
    "agent",
    by_job=True,
)

JOB_SIDE: Final = frozenset(measure.name for measure in MEASURES.values() if measure.by_job)
"""What a job may send."""

Labels = tuple[tuple[str, str], ...]


class Measures:
    """One process's. Cheap: a dictionary's entry or a list's for each call; nothing is sent from here.

    A measure that jobs do not have, or other labels than its own, is a mistake in our code: ``ValueError``.
    """

    def __init__(self) -> None:
        self._counted: dict[tuple[str, Labels], float] = {}
        self._observed: list[tuple[str, Labels, float]] = []

    def count(self, measure: Measure, amount: float = 1.0, **labels: str) -> None:
        """Something happened, or so much of it. Amounts that are not above 0 count nothing."""
        key = self._key(measure, "counter", labels)
        if amount > 0 and math.isfinite(amount):
            self._counted[key] = self._counted.get(key, 0.0) + amount

    def observe(self, measure: Measure, value: float, **labels: str) -> None:
        """Something took so long. What is below 0, for two clocks were compared, is 0."""
        name, pairs = self._key(measure, "histogram", labels)
        if len(self._observed) >= MOST_OBSERVED or not math.isfinite(value):
            self.count(MEASURES_LOST)
            return
        self._observed.append((name, pairs, max(value, 0.0)))

    def take(self) -> Measured | None:
        """What happened since the last call; ``None`` for nothing."""
        if not self._counted and not self._observed:
            return None
        counted = tuple((name, labels, amount) for (name, labels), amount in self._counted.items())
        measured = Measured(counted=counted, observed=tuple(self._observed))
        self._counted.clear()
        self._observed.clear()
        return measured

    @staticmethod
    def _key(measure: Measure, kind: str, labels: dict[str, str]) -> tuple[str, Labels]:
        if not measure.by_job or measure.kind != kind:
            raise ValueError(f"{measure.name} is no {kind} of a job's")
        if set(labels) != set(measure.own_labels):
            raise ValueError(f"{measure.name} has the labels {measure.own_labels}; got {tuple(labels)}")
        return measure.name, tuple((name, labels[name]) for name in measure.own_labels)
