"""A worker's log read back, from the pipeline that writes it."""

from __future__ import annotations

import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from greenroom.embedded.loglines import LogLine, parse, render
from greenroom.ops import logs


@pytest.fixture
def written() -> list[str]:
    lines: list[str] = []
    logs.configure("debug", "json", write=lambda line: lines.append(line.decode()))
    return lines


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_what_the_worker_writes_is_read_whole(written: list[str]) -> None:
    structlog.get_logger("greenroom.daemon").info("ready", warm=2, max_jobs=10)
    line = parse(written[0])
    assert (line.event, line.level, line.logger) == ("ready", "info", "greenroom.daemon")
    assert dict(line.fields) == {"warm": 2, "max_jobs": 10}
    assert line.timestamp
    assert not line.failure


def test_a_traceback_is_kept_beside_the_event(written: list[str]) -> None:
    try:
        raise ValueError("no such voice")
    except ValueError:
        structlog.get_logger("x").exception("job failed", job="AJ_1")
    line = parse(written[0])
    assert line.failure
    assert line.exception.endswith("ValueError: no such voice")
    shown = render(line).plain.splitlines()
    assert shown[0].endswith("job failed  job=AJ_1")
    assert shown[-1] == "ValueError: no such voice"


def test_plain_text_is_shown_as_it_is() -> None:
    line = parse("Traceback (most recent call last):\n")
    assert line == LogLine("Traceback (most recent call last):")
    assert render(line).plain == "Traceback (most recent call last):"
    assert line.severity == logging.WARNING


def test_render_names_time_level_event_and_fields() -> None:
    entry = {"timestamp": "2026-11-21T04:00:01.123456Z", "level": "warn", "event": "link lost", "retry": 0.25}
    assert render(parse(json.dumps(entry))).plain == "04:00:01 warning  link lost  retry=0.25"


def test_long_values_are_cut() -> None:
    shown = render(LogLine("offer", level="info", fields={"metadata": "x" * 5000})).plain
    assert len(shown) < 300
    assert shown.endswith("…")


@given(st.text() | st.from_regex(r'\{"event": ?[^}]*\}', fullmatch=True))
def test_no_line_is_too_strange(text: str) -> None:
    render(parse(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_entry_is_too_strange(entry: object) -> None:
    render(parse(json.dumps(entry)))
    render(parse(json.dumps({"event": "x", "level": entry, "timestamp": entry, "exception": entry, "more": entry})))
