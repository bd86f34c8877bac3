from __future__ import annotations

from collections.abc import Callable
from signal import SIGKILL, SIGSEGV, SIGTERM, SIGUSR1

import pytest

from greenroom.errors import LocalProtocolError
from greenroom.jobs.events import (
    Adopted,
    Assigned,
    BootFailed,
    ConsiderAsked,
    Considered,
    Dialled,
    Drop,
    EndAsked,
    Ended,
    Event,
    Exited,
    Finished,
    Joined,
    Leaving,
    LineLost,
    MemoryMeasured,
    Outcome,
    Ponged,
    Ready,
    ReportLeaving,
    SendBoot,
    SendConsider,
    SendEnd,
    SendMayLeave,
    SendPing,
    SendStart,
    Signal,
    Spawned,
    SpawnFailed,
    StatusReported,
    Tick,
    Warn,
)
from greenroom.jobs.exits import Exit
from greenroom.jobs.lifecycle import DUMP_TIME, TRANSITIONS, JobLifecycle, State
from tests.jobs.lives import DEADLINES, Life, booting, joining, running, warm


def test_a_call_from_fork_to_exit() -> None:
    life = Life()
    assert life.machine.deadline() == 30
    assert life.at(0.1, Spawned(100)) == []
    assert life.at(0.2, Dialled()) == [SendBoot()]
    assert not life.machine.available
    assert life.at(3.0, Ready()) == []
    assert life.machine.available
    assert life.machine.deadline() is None, "an idle worker does not wake up"
    assert life.at(500.0, Assigned("AJ_1")) == [SendStart()]
    assert not life.machine.available
    assert life.at(500.5, Joined()) == []
    assert life.tick() == (502.0, [SendPing(1)])
    assert life.at(502.1, Ponged(1)) == []
    assert life.tick() == (504.0, [SendPing(2)])
    assert life.at(504.1, Ponged(2)) == []
    assert life.at(505.0, Leaving()) == [ReportLeaving("")]
    assert life.at(505.1, StatusReported()) == [SendMayLeave()]
    assert life.at(505.2, Ended()) == []
    assert life.at(505.3, LineLost()) == []
    assert life.end(505.4, 0) == (Outcome.SUCCESS, "", "OK")


def test_a_dead_process_says_nothing() -> None:
    life = running()
    life.end(12.0, -SIGKILL)
    for event in (LineLost(), Tick(), Ponged(1), EndAsked("late", 1), StatusReported(), Exited(0), MemoryMeasured(1e6)):
        assert life.at(13.0, event) == []
    assert life.machine.deadline() is None


class TestBoot:
    def test_the_fork_fails(self) -> None:
        life = Life()
        (finished,) = life.at(1.0, SpawnFailed("fork: no memory"))
        assert (finished.outcome, finished.error) == (Outcome.BOOT_FAILED, "fork: no memory")  # type: ignore[union-attr]

    def test_nobody_dials(self) -> None:
        life = Life()
        life.at(0.5, Spawned(100))
        assert life.tick() == (30.0, [Signal(SIGKILL)])
        assert life.end(30.1, -SIGKILL) == (Outcome.BOOT_FAILED, "did not dial within 30 s", "SIGKILL")

    def test_condemned_before_its_pid_was_known(self) -> None:
        life = Life()
        assert life.tick() == (30.0, [])
        assert life.machine.deadline() is None
        assert life.at(31.0, Spawned(100)) == [Signal(SIGKILL)]
        assert life.end(31.1, -SIGKILL)[0] is Outcome.BOOT_FAILED

    def test_it_says_why_it_cannot(self) -> None:
        life = booting()
        assert life.at(2.0, BootFailed("no such class")) == []
        assert life.end(2.1, Exit.BOOT_FAILED) == (Outcome.BOOT_FAILED, "no such class", "BOOT_FAILED")

    def test_it_says_why_and_stays(self) -> None:
        life = booting()
        life.at(2.0, BootFailed("no such class"))
        assert life.tick() == (5.0, [Signal(SIGKILL)])
        assert life.end(5.1, -SIGKILL) == (Outcome.BOOT_FAILED, "no such class", "SIGKILL")

    def test_it_hangs(self) -> None:
        life = booting()
        assert life.tick() == (30.0, [Signal(SIGUSR1)])
        assert life.tick() == (30.0 + DUMP_TIME, [Signal(SIGKILL)])
        assert life.end(31.0, -SIGKILL) == (Outcome.BOOT_FAILED, "did not boot within 30 s", "SIGKILL")

    def test_it_dies(self) -> None:
        life = booting()
        assert life.end(1.5, -SIGSEGV) == (Outcome.BOOT_FAILED, "exited while booting: SIGSEGV", "SIGSEGV")

    def test_boot_is_sent_again_on_a_new_line(self) -> None:
        life = booting()
        life.at(1.5, LineLost())
        assert life.at(2.0, Dialled()) == [SendBoot()]

    @pytest.mark.parametrize("life", [Life(), booting()])
    def test_it_is_not_needed_any_more(self, life: Life) -> None:
        if life.machine.pid is None:
            life.at(1.0, Spawned(100))
        assert life.at(2.0, EndAsked("close", 10)) == [Signal(SIGTERM)]
        assert life.tick() == (5.0, [Signal(SIGKILL)])
        assert life.end(5.1, -SIGKILL) == (Outcome.RETIRED, "", "SIGKILL")


class TestWarm:
    def test_told_to_go(self) -> None:
        life = warm()
        assert life.at(5.0, EndAsked("close", 60)) == [SendEnd("close", 3.0)]
        assert life.end(5.1, 0) == (Outcome.RETIRED, "", "OK")

    def test_told_to_go_and_stays(self) -> None:
        life = warm()
        life.at(5.0, EndAsked("close", 60))
        assert life.tick() == (8.0, [Signal(SIGTERM)])
        assert life.tick() == (11.0, [Signal(SIGKILL)])
        assert life.end(11.1, -SIGKILL)[0] is Outcome.KILLED

    def test_it_dies(self) -> None:
        life = warm()
        assert life.end(5.0, 7) == (Outcome.CRASHED, "exited while it waited: exit code 7", "exit code 7")

    def test_without_a_line_it_is_not_given_a_job(self) -> None:
        life = warm()
        life.at(5.0, LineLost())
        assert not life.machine.available
        assert life.at(6.0, Dialled()) == []
        assert life.at(6.0, Ready()) == []
        assert life.machine.available
        assert life.machine.deadline() is None

    def test_it_does_not_dial_again(self) -> None:
        life = warm()
        life.at(5.0, LineLost())
        assert life.tick() == (20.0, [Signal(SIGUSR1)])
        assert life.tick() == (20.5, [Signal(SIGKILL)])
        assert life.end(20.6, -SIGKILL)[0] is Outcome.UNRESPONSIVE


class TestJoining:
    def test_too_long(self) -> None:
        life = joining()
        error = "did not join the room within 10 s"
        assert life.tick_until(ReportLeaving(error)) == 20.0
        assert life.machine.state is State.ENDING
        assert life.at(20.1, StatusReported()) == []
        assert life.at(20.2, Leaving()) == [SendMayLeave()], "the server knows already"
        assert life.end(20.3, 0) == (Outcome.FAILED, error, "OK")

    def test_too_long_asks_it_to_end(self) -> None:
        life = joining()
        error = "did not join the room within 10 s"
        assert life.tick_until(SendEnd(error, 10.0)) == 20.0
        assert life.tick_until(Signal(SIGTERM)) == 30.0

    def test_it_could_not(self) -> None:
        life = joining()
        assert life.at(11.0, Leaving("the room is locked")) == [ReportLeaving("the room is locked")]
        assert life.end(11.1, Exit.JOB_FAILED) == (Outcome.FAILED, "the room is locked", "JOB_FAILED")

    def test_the_job_is_sent_again_to_who_missed_it(self) -> None:
        life = joining()
        life.at(10.1, LineLost())
        assert life.at(10.2, Dialled()) == [SendStart(), SendPing(1)]
        assert life.at(10.3, Ready()) == []
        assert life.machine.state is State.JOINING

    def test_the_job_is_not_sent_again_to_who_has_it(self) -> None:
        life = joining()
        life.at(10.1, LineLost())
        assert life.at(10.2, Dialled("AJ_1")) == [SendPing(1)]


class TestPings:
    def test_a_slow_answer_is_warned_of_once(self) -> None:
        life = running()
        assert life.tick() == (12.0, [SendPing(1)])
        assert life.tick() == (14.0, [Warn("process is slow to answer", "lag", 2.0)])
        assert life.machine.deadline() == 27.0
        assert life.at(15.0, Ponged(1)) == [SendPing(2)]
        assert life.at(15.1, Ponged(2)) == []
        assert life.machine.deadline() == 17.0

    def test_silence(self) -> None:
        life = running()
        error = "did not answer for 15 s"
        assert life.tick_until(Signal(SIGUSR1), answering=False) == 27.0
        assert life.tick() == (27.5, [Signal(SIGKILL)])
        assert life.end(27.6, -SIGKILL) == (Outcome.UNRESPONSIVE, error, "SIGKILL")

    def test_the_server_hears_nothing_of_a_call_that_may_go_on(self) -> None:
        life = running()
        life.tick()
        life.tick()
        assert life.tick() == (27.0, [Signal(SIGUSR1)])
        (finished,) = life.at(27.2, Exited(-SIGKILL))
        assert finished == Finished(Outcome.UNRESPONSIVE, "did not answer for 15 s", "SIGKILL", lost=True)

    def test_the_server_is_told_before_the_signal_of_one_that_was_to_end(self) -> None:
        life = running()
        life.at(11.5, EndAsked("hang up", 60))
        life.tick()
        life.tick()
        assert life.tick() == (27.0, [ReportLeaving("did not answer for 15 s"), Signal(SIGUSR1)])
        assert life.at(27.2, Exited(-SIGKILL))[-1] == Finished(
            Outcome.UNRESPONSIVE, "did not answer for 15 s", "SIGKILL"
        )

    def test_one_that_wakes_up_and_leaves_is_not_lost(self) -> None:
        life = running()
        life.tick()
        life.tick()
        life.tick()
        assert life.at(27.1, Leaving()) == [ReportLeaving("")]
        assert life.at(27.1, StatusReported()) == [SendMayLeave()]
        (finished,) = life.at(27.2, Exited(0))
        assert finished == Finished(Outcome.UNRESPONSIVE, "did not answer for 15 s", "OK")

    def test_an_answer_at_the_last_moment_counts(self) -> None:
        life = running()
        life.tick()
        life.tick()
        assert life.at(27.0, Ponged(1)) == [SendPing(2)]

    def test_answers_to_other_pings_are_dropped(self) -> None:
        life = running()
        assert life.at(11.5, Ponged(1)) == [Drop("an answer to no ping")]
        life.tick()
        assert life.at(12.5, Ponged(7)) == [Drop("an answer to no ping")]
        assert life.at(12.6, Ponged(1)) == []

    def test_a_daemon_that_was_stopped_blames_nobody(self) -> None:
        life = running()
        assert life.tick() == (12.0, [SendPing(1)])
        # Everything was due long ago, and the answer may be the next thing to be read.
        assert life.at(300.0, Tick()) == []
        assert life.at(300.1, Ponged(1)) == []
        assert life.machine.state is State.RUNNING


class TestTheLine:
    def test_a_call_outlives_it(self) -> None:
        life = running()
        assert life.at(11.5, LineLost()) == []
        assert life.machine.deadline() == 26.5
        assert life.at(20.0, Dialled("AJ_1")) == [SendPing(1)]
        assert life.at(20.0, Joined()) == []
        assert life.machine.state is State.RUNNING

    def test_nobody_dials_again(self) -> None:
        life = running()
        life.at(11.5, LineLost())
        error = "its line was lost and not dialled again within 15 s"
        assert life.tick() == (26.5, [Signal(SIGUSR1)])
        life.tick()
        assert life.end(27.1, -SIGKILL) == (Outcome.UNRESPONSIVE, error, "SIGKILL")

    def test_the_end_is_asked_again(self) -> None:
        life = running()
        life.at(11.5, LineLost())
        assert life.at(12.0, EndAsked("drain", 8)) == []
        assert life.at(14.0, Dialled("AJ_1")) == [SendEnd("drain", 6.0), SendPing(1)]

    def test_leaving_is_answered_again(self) -> None:
        life = running()
        life.at(11.5, Leaving())
        assert life.at(11.6, StatusReported()) == [SendMayLeave()]
        life.at(11.7, LineLost())
        life.at(11.8, Dialled("AJ_1"))
        assert life.at(11.8, Leaving()) == [SendMayLeave()]

    def test_leaving_is_reported_once(self) -> None:
        life = running()
        assert life.at(11.5, Leaving()) == [ReportLeaving("")]
        life.at(11.7, LineLost())
        life.at(11.8, Dialled("AJ_1"))
        assert life.at(11.8, Leaving()) == []
        assert life.at(11.9, StatusReported()) == [SendMayLeave()]


class TestTheLadder:
    def test_polite(self) -> None:
        life = running()
        assert life.at(11.5, EndAsked("hang up", 10)) == [SendEnd("hang up", 10.0)]
        assert life.at(11.6, Leaving()) == [ReportLeaving("")]
        assert life.end(11.7, 0) == (Outcome.SUCCESS, "", "OK")

    def test_deaf_but_alive(self) -> None:
        life = running()
        life.at(11.5, EndAsked("hang up", 4))
        assert life.tick() == (12.0, [SendPing(1)])
        life.at(12.1, Ponged(1))
        assert life.tick() == (14.0, [SendPing(2)])
        life.at(14.1, Ponged(2))
        assert life.tick() == (15.5, [ReportLeaving("did not end in time"), Signal(SIGTERM)])
        assert life.at(15.6, Leaving("cancelled")) == [SendMayLeave()], "it is not kept waiting"
        assert life.tick() == (18.5, [Signal(SIGKILL)])
        assert life.machine.deadline() is None
        assert life.end(18.6, -SIGKILL) == (Outcome.KILLED, "did not end in time", "SIGKILL")

    def test_a_second_ask_may_be_sooner_but_not_later(self) -> None:
        life = running()
        life.at(11.5, EndAsked("drain", 60))
        assert life.at(11.6, EndAsked("close", 0.2)) == [SendEnd("close", 0.2)]
        assert life.at(11.7, EndAsked("once more", 60)) == []
        assert life.machine.deadline() == pytest.approx(11.8)

    def test_no_grace(self) -> None:
        life = running()
        commands = life.at(11.5, EndAsked("now", 0))
        assert commands == [SendEnd("now", 0.0), ReportLeaving("did not end in time"), Signal(SIGTERM)]

    def test_who_leaves_has_to_exit(self) -> None:
        life = running()
        life.at(11.5, Leaving())
        life.at(11.5, StatusReported())
        assert life.tick_until(Signal(SIGTERM)) == 21.5
        assert life.tick() == (24.5, [Signal(SIGKILL)])
        assert life.end(24.6, -SIGKILL) == (Outcome.KILLED, "did not exit in time", "SIGKILL")

    def test_who_says_that_it_is_out_has_to_exit_soon(self) -> None:
        life = running()
        life.at(11.5, Leaving())
        life.at(11.5, Ended())
        assert life.tick_until(Signal(SIGTERM)) == 14.5

    def test_leaving_at_the_end_of_the_grace_has_time_to_leave(self) -> None:
        life = running()
        life.at(11.5, EndAsked("hang up", 1))
        life.at(12.4, Leaving())
        assert life.tick_until(Signal(SIGTERM)) == pytest.approx(15.4)


class TestExits:
    @pytest.mark.parametrize(
        ("code", "name"), [(0, "OK"), (7, "exit code 7"), (-SIGSEGV, "SIGSEGV"), (None, "unknown")]
    )
    @pytest.mark.parametrize("life", [joining, running])
    def test_without_a_word_the_call_is_lost(self, life: Callable[[], Life], code: int | None, name: str) -> None:
        assert life().at(11.5, Exited(code)) == [
            Finished(Outcome.CRASHED, f"exited during the call: {name}", name, lost=True)
        ]

    def test_the_agents_own_error_is_no_loss(self) -> None:
        assert running().at(11.5, Exited(Exit.JOB_FAILED)) == [
            ReportLeaving("the job failed"),
            Finished(Outcome.FAILED, "the job failed", "JOB_FAILED"),
        ]

    def test_nor_is_a_death_after_the_end_was_asked_for(self) -> None:
        life = running()
        life.at(11.5, EndAsked("hang up", 10))
        error = "exited during the call: SIGSEGV"
        assert life.at(11.6, Exited(-SIGSEGV)) == [
            ReportLeaving(error),
            Finished(Outcome.CRASHED, error, "SIGSEGV"),
        ]

    @pytest.mark.parametrize(
        ("code", "outcome"),
        [(0, Outcome.SUCCESS), (None, Outcome.SUCCESS), (-SIGSEGV, Outcome.CRASHED), (1, Outcome.CRASHED)],
    )
    def test_after_a_good_call(self, code: int | None, outcome: Outcome) -> None:
        life = running()
        life.at(11.5, Leaving())
        assert life.end(11.6, code)[0] is outcome

    def test_as_asked_but_without_a_word(self) -> None:
        life = running()
        life.at(11.5, EndAsked("hang up", 10))
        assert life.at(11.6, Exited(0))[0] == ReportLeaving("")


class TestMemory:
    def test_warned_of_again_only_when_it_grew(self) -> None:
        life = running(memory_warn_mb=100)
        assert life.at(11.1, MemoryMeasured(99)) == []
        assert life.at(11.2, MemoryMeasured(101.26)) == [Warn("job uses much memory", "memory_mb", 101.3)]
        assert life.at(11.3, MemoryMeasured(140)) == []
        assert life.at(11.4, MemoryMeasured(152)) == [Warn("job uses much memory", "memory_mb", 152)]

    def test_the_limit(self) -> None:
        life = running(memory_limit_mb=200)
        error = "used 201 MB of memory; the limit is 200 MB"
        assert life.at(11.1, MemoryMeasured(201)) == [Signal(SIGKILL)]
        assert life.at(11.2, MemoryMeasured(300)) == []
        assert life.at(11.2, Exited(-SIGKILL)) == [Finished(Outcome.OUT_OF_MEMORY, error, "SIGKILL", lost=True)]

    def test_the_limit_of_a_call_that_is_to_end(self) -> None:
        life = running(memory_limit_mb=200)
        life.at(11.05, EndAsked("hang up", 10))
        error = "used 201 MB of memory; the limit is 200 MB"
        assert life.at(11.1, MemoryMeasured(201)) == [ReportLeaving(error), Signal(SIGTERM)]
        assert life.at(11.2, MemoryMeasured(300)) == []
        assert life.tick() == (14.1, [Signal(SIGKILL)])
        assert life.end(14.2, -SIGKILL) == (Outcome.OUT_OF_MEMORY, error, "SIGKILL")


class TestConsidering:
    def test_an_offer(self) -> None:
        life = warm()
        assert life.at(5.0, ConsiderAsked()) == [SendConsider()]
        assert not life.machine.available
        assert life.at(5.2, Considered()) == []
        assert life.machine.available
        assert life.machine.deadline() is None

    def test_one_that_hangs(self) -> None:
        life = warm()
        life.at(5.0, ConsiderAsked())
        assert life.tick() == (20.0, [Signal(SIGUSR1)])
        assert life.tick() == (20.0 + DUMP_TIME, [Signal(SIGKILL)])
        error = "did not decide about an offer within 15 s"
        assert life.end(20.6, -SIGKILL) == (Outcome.UNRESPONSIVE, error, "SIGKILL")

    def test_what_was_decided_into_a_dead_line_is_forgotten(self) -> None:
        life = warm()
        life.at(5.0, ConsiderAsked())
        life.at(5.1, LineLost())
        assert life.at(5.3, Dialled()) == []
        assert life.machine.available
        assert life.at(5.4, Considered()) == [Drop("Considered while warm")]

    def test_told_to_go(self) -> None:
        life = warm()
        life.at(5.0, ConsiderAsked())
        assert life.at(5.1, EndAsked("close", 60)) == [SendEnd("close", 3.0)]
        assert life.end(5.2, 0) == (Outcome.RETIRED, "", "OK")

    def test_nobody_is_asked_who_is_not_free(self) -> None:
        with pytest.raises(LocalProtocolError):
            running().at(11.5, ConsiderAsked())


class TestAdoption:
    def test_a_call_of_an_earlier_daemon(self) -> None:
        life = Life()
        assert life.at(0.0, Adopted(100, "AJ_9")) == [SendPing(1)]
        assert life.machine.deadline() == 2.0
        life.at(0.1, Joined())
        assert life.machine.state is State.RUNNING
        life.at(0.1, Ponged(1))
        assert life.at(1.0, Leaving()) == [ReportLeaving("")]
        assert life.end(1.1, None) == (Outcome.SUCCESS, "", "unknown")


class TestMistakes:
    @pytest.mark.parametrize("event", [Ready(), Joined(), Leaving(), Ended(), Ponged(1), BootFailed("x")])
    def test_theirs_are_dropped(self, event: Event) -> None:
        life = Life()
        (dropped,) = life.at(0.1, event)
        assert isinstance(dropped, Drop)
        assert type(event).__name__ in dropped.reason
        assert life.machine.state is State.STARTING

    def test_leaving_without_a_job_is_dropped(self) -> None:
        life = warm()
        life.at(3.0, EndAsked("close", 10))
        assert life.at(3.1, Leaving()) == [Drop("leaving without a job")]

    def test_another_job_is_dropped(self) -> None:
        life = running()
        assert Drop("dialled with another job than its own") in life.at(11.5, Dialled("AJ_2"))

    @pytest.mark.parametrize(
        ("life", "event"),
        [
            (Life(), Assigned("AJ_1")),
            (booting(), Assigned("AJ_1")),
            (running(), Assigned("AJ_2")),
            (booting(), Spawned(101)),
            (booting(), SpawnFailed("x")),
            (warm(), Adopted(100, "AJ_1")),
        ],
    )
    def test_ours_raise(self, life: Life, event: Event) -> None:
        with pytest.raises(LocalProtocolError):
            life.at(12.0, event)

    def test_one_process_is_spawned_once(self) -> None:
        machine = JobLifecycle(DEADLINES, now=0.0)
        machine.handle(Spawned(1), 0.1)
        with pytest.raises(LocalProtocolError):
            machine.handle(Spawned(2), 0.2)


class TestTable:
    def test_rows_are_unique_and_say_what_they_are_for(self) -> None:
        keys = [(row.state, row.event, row.to) for row in TRANSITIONS]
        assert len(keys) == len(set(keys))
        assert all(row.rule for row in TRANSITIONS)

    def test_every_state_can_be_entered_and_can_end(self) -> None:
        entered = {row.to for row in TRANSITIONS} | {State.STARTING}
        assert entered == set(State)
        for state in set(State) - {State.DEAD}:
            assert any(row.state is state and row.event is Exited and row.to is State.DEAD for row in TRANSITIONS)

    def test_nothing_leaves_death(self) -> None:
        assert not [row for row in TRANSITIONS if row.state is State.DEAD]
