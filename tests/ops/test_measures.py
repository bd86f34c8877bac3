"""What jobs measure with, and the names that everything has."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from greenroom.jobs.ipc import ChildMessage, Frames, Measured, encode
from greenroom.ops import measures
from greenroom.ops.measures import MEASURES, Measure, Measures


@pytest.mark.parametrize("measure", MEASURES.values(), ids=str)
def test_names_are_as_prometheus_wants_them(measure: Measure) -> None:
    assert re.fullmatch(r"greenroom_[a-z]+(_[a-z]+)*", measure.name)
    assert measure.name.endswith("_total") == (measure.kind == "counter")
    assert not measure.name.endswith(("_bucket", "_count", "_sum", "_created"))
    assert measure.help.endswith(".")
    assert bool(measure.buckets) == (measure.kind == "histogram")
    assert list(measure.buckets) == sorted(set(measure.buckets))
    if measure.kind == "histogram":
        assert measure.name.endswith("_seconds")
    if measure.by_job:
        assert measure.labels[0] == "agent"
    assert not {"job", "room", "participant", "caller", "le"} & set(measure.labels)


def test_every_measure_can_be_imported_by_its_name() -> None:
    public = {value.name for name in measures.__all__ if isinstance(value := getattr(measures, name), Measure)}
    assert public == set(MEASURES)
    assert {name for name in MEASURES if MEASURES[name].by_job} == measures.JOB_SIDE


def test_counts_add_up_and_values_stay_apart() -> None:
    mine = Measures()
    mine.count(measures.TURNS)
    mine.count(measures.TURNS, 2)
    mine.count(measures.DEAD_AIR, step="hold")
    mine.observe(measures.TURN_SECONDS, 0.7, segment="response")
    mine.observe(measures.TURN_SECONDS, 0.7, segment="response")
    assert mine.take() == Measured(
        counted=(("greenroom_turns_total", (), 3.0), ("greenroom_dead_air_total", (("step", "hold"),), 1.0)),
        observed=(("greenroom_turn_seconds", (("segment", "response"),), 0.7),) * 2,
    )
    assert mine.take() is None


def test_what_is_taken_travels() -> None:
    mine = Measures()
    mine.observe(measures.PROVIDER_SECONDS, 0.2, kind="llm", provider="script", stage="first")
    mine.count(measures.JOURNAL_BYTES, 1234)
    taken = mine.take()
    assert taken is not None
    assert Frames(ChildMessage).feed(encode(taken)) == [taken]


def test_labels_are_given_whole_and_in_any_order() -> None:
    mine = Measures()
    mine.observe(measures.PROVIDER_SECONDS, 0.2, stage="first", provider="script", kind="llm")
    taken = mine.take()
    assert taken is not None
    assert taken.observed[0][1] == (("kind", "llm"), ("provider", "script"), ("stage", "first"))
    with pytest.raises(ValueError, match="has the labels"):
        mine.count(measures.DEAD_AIR)
    with pytest.raises(ValueError, match="has the labels"):
        mine.count(measures.TURNS, agent="another")


def test_a_job_measures_what_is_a_jobs() -> None:
    with pytest.raises(ValueError, match="no counter of a job's"):
        Measures().count(measures.JOBS_FINISHED, agent="a", outcome="success")
    with pytest.raises(ValueError, match="no histogram of a job's"):
        Measures().observe(measures.TURNS, 1.0)


@pytest.mark.parametrize("amount", [0.0, -1.0, float("nan"), float("inf")])
def test_amounts_that_are_none_count_nothing(amount: float) -> None:
    mine = Measures()
    mine.count(measures.TURNS, amount)
    assert mine.take() is None


def test_times_before_their_beginning_are_none_and_no_numbers_are_lost() -> None:
    mine = Measures()
    mine.observe(measures.FIRST_WORD_LOSS_SECONDS, -0.001)
    mine.observe(measures.FIRST_WORD_LOSS_SECONDS, float("nan"))
    assert mine.take() == Measured(
        counted=(("greenroom_measures_lost_total", (), 1.0),),
        observed=(("greenroom_first_word_loss_seconds", (), 0.0),),
    )


def test_without_a_daemon_it_does_not_grow_for_ever() -> None:
    mine = Measures()
    for _ in range(measures.MOST_OBSERVED + 7):
        mine.observe(measures.TURN_SECONDS, 1.0, segment="response")
    taken = mine.take()
    assert taken is not None
    assert len(taken.observed) == measures.MOST_OBSERVED
    assert taken.counted == (("greenroom_measures_lost_total", (), 7.0),)


def test_a_job_needs_no_library_to_measure() -> None:
    program = (
        "import sys, greenroom.ops.measures; print(*{'prometheus_client', 'aiohttp', 'structlog'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
