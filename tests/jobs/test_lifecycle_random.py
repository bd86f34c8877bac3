"""``JobLifecycle`` under any order of events: what holds whatever a process, its daemon and its clock do."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.jobs import events as ev
from greenroom.jobs.events import Event, Finished, ReportLeaving, SendBoot, SendEnd, SendPing, SendStart
from greenroom.jobs.lifecycle import TRANSITIONS, JobLifecycle, State
from tests.jobs.lives import DEADLINES

ROWS = {(row.state, row.event, row.to) for row in TRANSITIONS}
REMOTE = st.one_of(
    st.builds(ev.Ready),
    st.builds(ev.BootFailed, st.sampled_from(["", "no such class"])),
    st.builds(ev.Considered),
    st.builds(ev.Joined),
    st.builds(ev.Leaving, st.sampled_from(["", "failed"])),
    st.builds(ev.Ended),
    st.builds(ev.Ponged, st.integers(0, 5)),
)
CODES = st.sampled_from([None, 0, 1, 64, 65, 67, -9, -11, -15])


class AnyLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = JobLifecycle(DEADLINES, now=0.0, memory_warn_mb=50, memory_limit_mb=200)
        self.counts: Counter[type[object]] = Counter()
        self.exited = False
        self.lost = False
        self.failed_to_spawn = False

    def feed(self, event: Event) -> None:
        before = self.machine.state
        dead = before is State.DEAD
        line = self.machine.line
        commands = self.machine.handle(event, self.now)
        assert not (dead and commands), "a command after the end"
        self.counts.update(type(command) for command in commands)
        if before is not self.machine.state:
            self.check_path(before, self.machine.state, type(event))
        if Finished in map(type, commands):
            assert isinstance(commands[-1], Finished)
            self.lost = commands[-1].lost
        if not (line or self.machine.line):
            assert not [one for one in commands if isinstance(one, (SendBoot, SendStart, SendPing, SendEnd))]

    def check_path(self, before: State, after: State, event: type[Event]) -> None:
        """In the table: the event's own step, and ticks that were due after it."""
        reached = {before} | {to for state, kind, to in ROWS if state is before and kind is event}
        for _ in range(4):
            reached |= {to for state, kind, to in ROWS if state in reached and kind is ev.Tick}
        assert after in reached

    @initialize(adopted=st.booleans())
    def begin(self, adopted: bool) -> None:
        if adopted:
            self.feed(ev.Adopted(100, "AJ_0"))

    @rule(gap=st.sampled_from([0.0, 0.01, 0.4, 1.0, 2.0, 9.0, 40.0]))
    def time_passes(self, gap: float) -> None:
        self.now += gap

    @rule()
    def deadline_rings(self) -> None:
        when = self.machine.deadline()
        if when is not None:
            self.now = max(self.now, when)
            self.feed(ev.Tick())

    @precondition(lambda self: self.machine.pid is None and not self.failed_to_spawn)
    @rule()
    def spawns(self) -> None:
        self.feed(ev.Spawned(100))

    @precondition(lambda self: self.machine.pid is None and not self.failed_to_spawn)
    @rule()
    def cannot_spawn(self) -> None:
        self.failed_to_spawn = True
        self.feed(ev.SpawnFailed("no memory"))

    @precondition(lambda self: self.machine.pid is not None and not self.exited)
    @rule(job_id=st.sampled_from([None, "AJ_0", "AJ_1"]))
    def dials(self, job_id: str | None) -> None:
        self.feed(ev.Dialled(job_id))

    @precondition(lambda self: self.machine.line)
    @rule()
    def hangs_up(self) -> None:
        self.feed(ev.LineLost())

    @precondition(lambda self: self.machine.line)
    @rule(event=REMOTE)
    def says(self, event: Event) -> None:
        self.feed(event)

    @precondition(lambda self: self.machine.line and self.machine.state is State.BOOTING)
    @rule()
    def boots(self) -> None:
        self.feed(ev.Ready())

    @precondition(lambda self: self.machine.available)
    @rule()
    def gets_a_job(self) -> None:
        self.feed(ev.Assigned("AJ_1"))

    @precondition(lambda self: self.machine.available)
    @rule()
    def is_asked_about_an_offer(self) -> None:
        self.feed(ev.ConsiderAsked())

    @rule(grace=st.sampled_from([0.0, 1.0, 30.0]))
    def is_asked_to_end(self, grace: float) -> None:
        self.feed(ev.EndAsked("asked", grace))

    @rule()
    def server_is_told(self) -> None:
        self.feed(ev.StatusReported())

    @rule(memory_mb=st.floats(0, 400))
    def is_measured(self, memory_mb: float) -> None:
        self.feed(ev.MemoryMeasured(memory_mb))

    @precondition(lambda self: self.machine.pid is not None and not self.exited)
    @rule(code=CODES)
    def exits(self, code: int | None) -> None:
        self.exited = True
        self.feed(ev.Exited(code))

    @invariant()
    def its_deadline_is_ahead(self) -> None:
        when = self.machine.deadline()
        if self.machine.state is State.DEAD:
            assert when is None

    @invariant()
    def it_ends_once(self) -> None:
        assert self.counts[Finished] == (self.machine.state is State.DEAD)
        assert self.counts[ReportLeaving] <= 1
        if self.machine.state is State.DEAD:
            assert self.counts[ReportLeaving] + self.lost == (self.machine.job_id is not None)

    def teardown(self) -> None:
        """Whatever happened, a process that is asked to end and only obeys signals ends in bounded time."""
        if self.machine.state is State.DEAD:
            return
        if self.machine.pid is None:
            self.feed(ev.Spawned(100))
        self.feed(ev.EndAsked("the test is over", 5.0))
        for _ in range(50):
            when = self.machine.deadline()
            if when is None:
                break
            self.now = max(self.now, when)
            self.feed(ev.Tick())
        assert self.machine.state is State.STOPPING
        self.feed(ev.Exited(-9))
        self.it_ends_once()


AnyLife.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyLife = AnyLife.TestCase


class Punctual(AnyLife):
    """The same with a daemon whose ticks are on time: then no deadline is ever in the past."""

    @rule(gap=st.sampled_from([0.0, 0.01, 0.4, 1.0, 2.0, 9.0, 40.0]))
    def time_passes(self, gap: float) -> None:
        until = self.now + gap
        while (when := self.machine.deadline()) is not None and when <= until:
            self.now = max(self.now, when)
            self.feed(ev.Tick())
        self.now = until

    @invariant()
    def its_deadline_is_ahead(self) -> None:
        when = self.machine.deadline()
        assert when is None or when > self.now


Punctual.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPunctual = Punctual.TestCase
