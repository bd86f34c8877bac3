"""docs/operations.md says what is so: deadlines, metrics, endpoints, reasons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from greenroom.jobs.admission import Refusal
from greenroom.ops.admin import Admin
from greenroom.ops.measures import MEASURES
from greenroom.ops.metrics import Metrics
from greenroom.settings import AdminSettings, Deadlines
from tests.ops.workers import MadeUp

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
SOURCES = "".join(file.read_text() for file in (ROOT / "worker").rglob("*.py"))


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    found = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in found[1:]]


def test_every_deadline_is_there_with_its_default() -> None:
    told = {key.strip("`"): float(default) for key, default, _ in rows(section("Deadlines"))}
    defaults = Deadlines()
    assert told == {name: getattr(defaults, name) for name in Deadlines.__struct_fields__}


def test_every_metric_is_there() -> None:
    table = TEXT.split("<!-- metrics -->")[1].split("<!-- end of metrics -->")[0]
    expected = [
        [f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels) or "-", each.help]
        for each in MEASURES.values()
    ]
    assert rows(table) == expected


def test_every_metric_in_the_text_is_one() -> None:
    known = {name for measure in MEASURES.values() for name in (measure.name,)}
    assert set(re.findall(r"greenroom_[a-z_]+[a-z]", TEXT)) <= known


def test_every_reason_of_a_refusal_is_there() -> None:
    told = [cell.strip("`") for cell, _ in rows(section("Admission"))]
    assert sorted(told) == sorted(refusal.value for refusal in Refusal)


def test_every_endpoint_is_there(tmp_path: Path) -> None:
    admin = Admin(AdminSettings(), MadeUp(), metrics=Metrics(), run_dir=tmp_path)
    routes = {f"{route.method} {route.resource.canonical}" for route in admin._app(trusted=True).router.routes()
              if route.resource is not None and route.method != "HEAD"}  # fmt: skip
    told = {
        cell.strip("`") for cell in re.findall(r"^\| `((?:GET|POST) /\w+)`", section("Asking a worker"), re.MULTILINE)
    }
    assert told == routes


@pytest.mark.parametrize(
    "event", sorted(set(re.findall(r"`([^`]+)`", "".join(row[0] for row in rows(section("The log"))))))
)
def test_every_log_line_is_written_somewhere(event: str) -> None:
    assert f'"{event}"' in SOURCES
