"""What Prometheus reads: parsed by its own library's parsers, never by eye."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from structlog.testing import capture_logs

from greenroom.jobs.ipc import Measured
from greenroom.ops import measures as m
from greenroom.ops.facts import DrainStatus, Status
from greenroom.ops.metrics import LONGEST_LABEL, MOST_SERIES, Metrics
from tests.ops.workers import agent, link, one_call, status


def families(text: bytes) -> list[Metric]:
    return list(parse(text.decode()))


def samples(metrics: Metrics, now: Status | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, content_type = metrics.render(now or status())
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, now: Status | None = None, **labels: str) -> float | None:
    return samples(metrics, now).get((name, frozenset(labels.items())))


def of_job(measure: m.Measure, amount: float = 1.0, **labels: str) -> Measured:
    mine = m.Measures()
    if measure.kind == "counter":
        mine.count(measure, amount, **labels)
    else:
        mine.observe(measure, amount, **labels)
    taken = mine.take()
    assert taken is not None
    return taken


def test_all_metrics_are_there_with_their_kinds_and_helps() -> None:
    text, _ = Metrics().render(status())
    by_name = {family.name: family for family in families(text)}
    for measure in m.MEASURES.values():
        family = by_name[measure.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (measure.kind, measure.help)


def test_openmetrics_for_who_asks_for_it() -> None:
    metrics = Metrics()
    metrics.offered("a", "reception", now=1.0)
    metrics.accepted("a", now=1.001)
    text, content_type = metrics.render(status(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(text.decode())}  # type: ignore[no-untyped-call]
    assert {"greenroom_offers", "greenroom_dispatch_seconds", "greenroom_jobs"} <= names


def test_the_way_of_a_job() -> None:
    metrics = Metrics()
    metrics.offered("a", "reception", now=100.0)
    metrics.accepted("a", now=100.001)
    metrics.assigned("a", now=100.006)
    metrics.merge("a", "reception", of_job(m.DISPATCH_SECONDS, 0.9, stage="first_audio"))
    metrics.joined("a", now=100.2)
    metrics.joined("a", now=130.0)
    metrics.finished("a", "reception", "success", now=160.006)

    took = {
        stage: value(metrics, "greenroom_dispatch_seconds_sum", agent="reception", stage=stage)
        for stage in ("accepted", "assigned", "joined", "first_audio")
    }
    assert took == {
        "accepted": pytest.approx(0.001),
        "assigned": pytest.approx(0.006),
        "joined": pytest.approx(0.2),
        "first_audio": pytest.approx(0.906),
    }
    assert value(metrics, "greenroom_dispatch_seconds_count", agent="reception", stage="joined") == 1
    assert value(metrics, "greenroom_offers_total", agent="reception") == 1
    assert value(metrics, "greenroom_jobs_started_total", agent="reception") == 1
    assert value(metrics, "greenroom_jobs_finished_total", agent="reception", outcome="success") == 1
    assert value(metrics, "greenroom_call_seconds_sum", agent="reception") == pytest.approx(60.0)
    assert metrics._timelines == {}


def test_buckets_add_up() -> None:
    metrics = Metrics()
    for seconds in (0.04, 0.05, 0.051, 99.0):
        metrics.merge("a", "reception", of_job(m.TURN_SECONDS, seconds, segment="response"))
    found = {
        dict(labels)["le"]: amount
        for (name, labels), amount in samples(metrics).items()
        if name == "greenroom_turn_seconds_bucket"
    }
    assert (found["0.05"], found["0.1"], found["10.0"], found["+Inf"]) == (2, 3, 3, 4)
    assert value(metrics, "greenroom_turn_seconds_count", agent="reception", segment="response") == 4


def test_refusals_by_reason() -> None:
    metrics = Metrics()
    for job, reason in (("a", "full"), ("b", "full"), ("c", "no_rule_accepts")):
        metrics.offered(job, "reception", now=1.0)
        metrics.refused(job, reason)
    metrics.refused("unknown", "full")
    assert metrics.refusals() == {"full": 2, "no_rule_accepts": 1}
    assert value(metrics, "greenroom_offers_refused_total", agent="reception", reason="full") == 2
    assert value(metrics, "greenroom_dispatch_seconds_count", agent="reception", stage="accepted") is None
    assert metrics._timelines == {}


def test_an_offer_that_came_to_nothing() -> None:
    metrics = Metrics()
    metrics.offered("a", "reception", now=1.0)
    metrics.accepted("a", now=1.0)
    metrics.given_up("a")
    metrics.assigned("a", now=2.0)
    assert value(metrics, "greenroom_offers_lost_total", agent="reception") == 1
    assert value(metrics, "greenroom_jobs_started_total", agent="reception") == 0


def test_a_call_of_an_earlier_daemon_has_no_way_in() -> None:
    metrics = Metrics()
    metrics.adopted("reception")
    metrics.joined("a", now=1.0)
    metrics.merge("a", "reception", of_job(m.DISPATCH_SECONDS, 0.9, stage="first_audio"))
    metrics.finished("a", "reception", "success", now=9.0)
    assert value(metrics, "greenroom_jobs_adopted_total", agent="reception") == 1
    assert value(metrics, "greenroom_jobs_finished_total", agent="reception", outcome="success") == 1
    assert not [name for name, _ in samples(metrics) if name.startswith(("greenroom_dispatch_", "greenroom_call_"))]


def test_what_never_happened_is_shown_as_nothing_for_each_agent() -> None:
    two = status(agents=(agent(), agent("hotline")))
    for name in ("reception", "hotline"):
        for outcome in ("success", "crashed", "out_of_memory"):
            assert value(Metrics(), "greenroom_jobs_finished_total", two, agent=name, outcome=outcome) == 0
        assert value(Metrics(), "greenroom_offers_refused_total", two, agent=name, reason="full") == 0
        assert value(Metrics(), "greenroom_turns_total", two, agent=name) == 0
    assert value(Metrics(), "greenroom_reconcile_failures_total", two) == 0
    assert value(Metrics(), "greenroom_reloads_total", two, outcome="failed") == 0


def test_gauges_are_what_the_worker_is_now() -> None:
    busy = status(
        free=7,
        jobs=(
            one_call(memory_mb=100.0),
            one_call(id="AJ_2", state="away", memory_mb=300.0),
            one_call(id="AJ_3", pid=None, state="recovering"),
        ),
        links=(link(round_trip=0.004), link(state="opening", job_type="publisher"), link(deployment="x")),
        lag=0.25,
        memory_available_mb=2.0,
    )
    expected = {
        ("greenroom_info", ("version", "1.2.3")): 1,
        ("greenroom_ready",): 0,
        ("greenroom_draining",): 0,
        ("greenroom_slots",): 10,
        ("greenroom_slots_free",): 7,
        ("greenroom_loop_lag_worst_seconds",): 0.25,
        ("greenroom_memory_available_bytes",): 2 * 2**20,
        ("greenroom_jobs", ("agent", "reception"), ("state", "running")): 1,
        ("greenroom_jobs", ("agent", "reception"), ("state", "away")): 1,
        ("greenroom_jobs", ("agent", "reception"), ("state", "recovering")): 1,
        ("greenroom_jobs", ("agent", "reception"), ("state", "ending")): 0,
        ("greenroom_processes", ("agent", "reception"), ("state", "warm")): 2,
        ("greenroom_processes", ("agent", "reception"), ("state", "serving")): 2,
        ("greenroom_job_memory_bytes", ("agent", "reception"), ("of", "sum")): 400 * 2**20,
        ("greenroom_job_memory_bytes", ("agent", "reception"), ("of", "max")): 300 * 2**20,
        ("greenroom_links", ("agent", "reception"), ("job_type", "room"), ("state", "registered")): 2,
        ("greenroom_links", ("agent", "reception"), ("job_type", "publisher"), ("state", "opening")): 1,
        ("greenroom_links", ("agent", "reception"), ("job_type", "publisher"), ("state", "registered")): 0,
        ("greenroom_link_round_trip_seconds", ("agent", "reception"), ("job_type", "room")): 0.004,
    }
    found = samples(Metrics(), busy)
    assert {key: found.get((key[0], frozenset(key[1:]))) for key in expected} == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "closed",
    [
        {"drain": DrainStatus(phase="waiting", left=1.0)},
        {"fork_server_pid": None},
        {"agents": (agent(refusal="no_warm_process"),)},
        {"free": -1},
    ],
)
def test_slots_that_nobody_gets_are_not_free(closed: dict[str, Any]) -> None:
    assert value(Metrics(), "greenroom_slots_free", status(**closed)) == 0


# --- jobs are not believed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "measured",
    [
        Measured(counted=(("greenroom_nonsense_total", (), 1.0),)),
        Measured(counted=(("greenroom_jobs_finished_total", (("outcome", "success"),), 1.0),)),
        Measured(counted=(("greenroom_turn_seconds", (("segment", "response"),), 1.0),)),
        Measured(counted=(("greenroom_turns_total", (("agent", "another"),), 1.0),)),
        Measured(counted=(("greenroom_dead_air_total", (), 1.0),)),
        Measured(counted=(("greenroom_turns_total", (), float("nan")),)),
        Measured(counted=(("greenroom_turns_total", (), -5.0),)),
        Measured(observed=(("greenroom_turn_seconds", (("segment", "response"),), float("inf")),)),
        Measured(observed=(("greenroom_loop_lag_seconds", (), 1.0),)),
    ],
)
def test_what_a_job_may_not_say_counts_nowhere_and_is_logged_once(measured: Measured) -> None:
    metrics, before = Metrics(), samples(Metrics())
    with capture_logs() as logs:
        metrics.merge("a", "reception", measured)
        metrics.merge("a", "reception", measured)
    assert [entry["event"] for entry in logs] == ["measure dropped"]
    lost = ("greenroom_measures_lost_total", frozenset({("agent", "reception")}))
    assert samples(metrics) == before | {lost: 2.0}


def test_labels_from_a_job_are_few_and_short() -> None:
    metrics = Metrics()
    for number in range(MOST_SERIES + 3):
        metrics.merge("a", "reception", of_job(m.PROVIDER_ERRORS, kind="llm", provider=f"model {number}"))
    metrics.merge("a", "reception", of_job(m.PROVIDER_ERRORS, kind="llm", provider="model 0"))
    metrics.merge("a", "reception", of_job(m.DEAD_AIR, step="x" * 1000))
    found = samples(metrics)
    errors = [amount for (name, _), amount in found.items() if name == "greenroom_provider_errors_total"]
    assert (len(errors), sum(errors)) == (MOST_SERIES, MOST_SERIES + 1)
    assert value(metrics, "greenroom_measures_lost_total", agent="reception") == 3
    assert value(metrics, "greenroom_dead_air_total", agent="reception", step="x" * LONGEST_LABEL) == 1


labels = st.lists(st.tuples(st.text(max_size=8) | st.just("segment"), st.text(max_size=300)), max_size=3).map(tuple)
entries = st.lists(
    st.tuples(st.sampled_from(sorted(m.MEASURES)) | st.text(max_size=20), labels, st.floats()), max_size=5
).map(tuple)


@given(counted=entries, observed=entries)
def test_whatever_a_job_sends_the_page_can_be_read(counted: Any, observed: Any) -> None:
    metrics = Metrics()
    metrics.merge("a", 'recep"tion\n', Measured(counted=counted, observed=observed))
    text, _ = metrics.render(status())
    assert len(families(text)) == len(m.MEASURES)


def test_our_own_mistakes_are_errors() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="labels"):
        metrics.count(m.JOBS_ADOPTED)
    with pytest.raises(ValueError, match="histogram"):
        metrics.count(m.CALL_SECONDS, agent="a")
    with pytest.raises(ValueError, match="counter"):
        metrics.observe(m.JOBS_ADOPTED, 1.0, agent="a")


def test_the_daemon_loads_the_library_when_it_is_asked_and_no_file_is_left(tmp_path: Path) -> None:
    program = """
import sys
from greenroom.ops.metrics import Metrics
from tests.ops.workers import status
metrics = Metrics()
metrics.offered("a", "reception", now=1.0)
assert "prometheus_client" not in sys.modules
text, _ = metrics.render(status())
assert b"greenroom_offers_total" in text
"""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
