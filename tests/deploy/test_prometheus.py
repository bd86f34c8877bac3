"""The rules: right by Prometheus' own program, about metrics that there are, each alert tested and documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from greenroom.ops.metrics import Metrics
from tests.deploy.programs import DEPLOY, ROOT, checked
from tests.deploy.promql import RECORDED, problems
from tests.ops import workers

FOLDER = DEPLOY / "prometheus"
RULES = FOLDER / "greenroom.rules.yaml"
TESTS = FOLDER / "greenroom.rules.test.yaml"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALL = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}


def test_prometheus_takes_its_configuration() -> None:
    done = checked("promtool", "check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yaml")
    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    done = checked("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert (done.returncode, f"SUCCESS: {len(ALL)} rules found" in done.stdout) == (0, True), done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_only_then() -> None:
    done = checked("promtool", "test", "rules", TESTS)
    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_rule_that_does_not_hold_is_found(tmp_path: Path) -> None:
    """What the test above relies on."""
    broken = RULES.read_text().replace('up{job="greenroom"} == 0', 'up{job="greenroom"} == 2')
    (tmp_path / RULES.name).write_text(broken)
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    done = checked("promtool", "test", "rules", tmp_path / TESTS.name)
    assert (done.returncode, "GreenroomDown" in done.stdout + done.stderr) == (1, True)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: str(rule.get("alert") or rule.get("record")))
def test_a_rule_asks_for_what_is_measured(rule: dict[str, Any]) -> None:
    assert problems(rule["expr"]) == []


def test_what_nobody_measures_is_found() -> None:
    """What the test above relies on."""
    assert problems("greenroom_nothing") == ["greenroom_nothing is no metric"]
    assert problems("greenroom_turn_seconds") == ["greenroom_turn_seconds is no metric"]
    assert problems('greenroom_slots{state="warm"}') == ["greenroom_slots has no label state"]
    assert problems('greenroom_links{state=~"registered|gone"}') == ["greenroom_links: state is never gone"]
    assert problems("sum by (job, room) (greenroom_slots)") == ["nothing has the label room"]
    assert problems("greenroom_slots and on (agent) up") == ["nothing has the label agent"]
    with pytest.raises(ValueError, match="parenthesis"):
        problems("sum by (greenroom_slots")


def test_what_is_recorded_is_known() -> None:
    assert {rule["record"] for rule in ALL if "record" in rule} == set(RECORDED)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_and_how_bad(name: str) -> None:
    rule = ALERTS[name]
    assert re.fullmatch(r"Greenroom([A-Z][a-z]+)+", name)
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert not rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")


def test_each_alert_is_tested_and_documented() -> None:
    fires = {
        one["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for one in test.get("alert_rule_test", ())
        if one["exp_alerts"]
    }
    assert fires == set(ALERTS)
    documented = re.findall(r"^\| `(Greenroom\w+)` \|", (ROOT / "docs" / "deploy.md").read_text(), flags=re.MULTILINE)
    assert documented == list(ALERTS)


def test_what_a_worker_shows_is_as_prometheus_wants_it() -> None:
    shown = Metrics()
    shown.offered("j", "reception", now=0.0)
    shown.accepted("j", now=0.001)
    shown.assigned("j", now=0.2)
    shown.joined("j", now=0.5)
    text, _ = shown.render(workers.status(jobs=(workers.one_call(memory_mb=90.0),), memory_available_mb=4000.0))
    done = checked("promtool", "check", "metrics", said=text.decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
