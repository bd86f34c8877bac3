"""Logs: what a line holds, what it never holds, and that nothing logged can raise."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.ops import logs

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYWxsZXIifQ.c2lnbmF0dXJl"


MORE_SECRETS = ("DB_PASSWD", "client_secrets", "private_key", "cookie", "credentials", "passphrase")


class Lines:
    """Where the logs go in a test."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def __call__(self, line: bytes) -> None:
        self.writes.append(line)

    @property
    def entries(self) -> list[dict[str, Any]]:
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in self.writes)
        return [json.loads(line) for line in self.writes]

    @property
    def entry(self) -> dict[str, Any]:
        (only,) = self.entries
        return only

    @property
    def text(self) -> str:
        return b"".join(self.writes).decode()


@pytest.fixture
def lines() -> Lines:
    taken = Lines()
    logs.configure("debug", "json", write=taken)
    return taken


def test_a_line_is_one_write_of_one_json_object(lines: Lines) -> None:
    structlog.get_logger("greenroom.test").info("call ended", job="AJ_1", seconds=1.5, text="two\nlines")
    entry = lines.entry
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry.pop("timestamp"))
    assert entry == {
        "level": "info",
        "logger": "greenroom.test",
        "event": "call ended",
        "job": "AJ_1",
        "seconds": 1.5,
        "text": "two\nlines",
    }
    assert list(json.loads(lines.writes[0]))[:4] == ["timestamp", "level", "logger", "event"]


def test_fields_of_the_process_the_context_and_the_call(lines: Lines) -> None:
    logs.configure("info", "json", write=lines, job="AJ_1", room="lobby")
    with structlog.contextvars.bound_contextvars(turn=3, room="bar"):
        structlog.get_logger("x").bind(speech="s1").info("said", turn=4)
    entry = lines.entry
    assert {key: entry[key] for key in ("job", "room", "turn", "speech")} == {
        "job": "AJ_1",
        "room": "bar",
        "turn": 4,
        "speech": "s1",
    }


def test_a_logger_made_before_follows_a_later_configuration() -> None:
    before, after = Lines(), Lines()
    logs.configure("info", "json", write=before)
    log = structlog.get_logger("early")
    log.info("one")
    logs.configure("warning", "json", write=after, job="AJ_2")
    log.info("not enough")
    log.warning("two")
    assert before.entry["event"] == "one"
    assert (after.entry["event"], after.entry["job"]) == ("two", "AJ_2")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_levels_hold_for_both_kinds_of_logger(level: Any, shown: list[str]) -> None:
    ours, theirs = Lines(), Lines()
    logs.configure(level, "json", write=ours)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(structlog.get_logger("x"), name)("event")
    logs.configure(level, "json", write=theirs)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(logging.getLogger("x"), name)("event")
    assert [entry["level"] for entry in ours.entries] == shown
    assert [entry["level"] for entry in theirs.entries] == shown


def test_the_standard_library_goes_the_same_way(lines: Lines) -> None:
    logs.configure("info", "json", write=lines, job="AJ_1")
    logging.getLogger("users.module").warning("%s has %d", "it", 3, extra={"room": "lobby"})
    entry = lines.entry
    assert (entry["event"], entry["level"], entry["logger"]) == ("it has 3", "warning", "users.module")
    assert (entry["job"], entry["room"]) == ("AJ_1", "lobby")
    assert set(entry) == {"timestamp", "event", "level", "logger", "job", "room"}


def test_arguments_that_do_not_fit_a_message_lose_only_themselves(lines: Lines) -> None:
    logs.configure("info", "json", write=lines)  # again: pytest's own handler would raise
    logging.getLogger("x").error("%d calls", "many")
    assert lines.entry["event"] == "%d calls"


def test_talkative_libraries_are_quiet_unless_asked(lines: Lines) -> None:
    logs.configure("info", "json", write=lines)
    logging.getLogger("httpx").info("a request")
    logging.getLogger("httpx").warning("a failure")
    logs.configure("debug", "json", write=lines)
    logging.getLogger("httpx").info("another request")
    assert [entry["event"] for entry in lines.entries] == ["a failure", "another request"]


def test_an_exception_is_one_field_with_its_whole_traceback(lines: Lines) -> None:
    try:
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
        logging.getLogger("x").exception("failed too")
    for entry in lines.entries:
        assert entry["level"] == "error"
        assert entry["exception"].startswith("Traceback (most recent call last):\n")
        assert "ValueError: inner" in entry["exception"]
        assert entry["exception"].endswith("RuntimeError: outer")


def test_an_exception_may_be_given_in_every_way(lines: Lines) -> None:
    error = ValueError("given")
    log = structlog.get_logger("x")
    log.error("a", exc_info=error)
    log.error("b", exc_info=(ValueError, error, None))
    log.error("c", exc_info=True)
    log.error("d", exc_info=(None, None, None))
    log.error("e", error=error)
    a, b, c, d, e = lines.entries
    assert a["exception"] == b["exception"] == "ValueError: given"
    assert "exception" not in c
    assert "exception" not in d
    assert e["error"] == "ValueError: given"


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "access_token",
        "accessToken",
        "api_secret",
        "api-key",
        "apikey",
        "Authorization",
        "password",
        *MORE_SECRETS,
    ],
)
def test_fields_named_like_secrets_are_masked_everywhere(lines: Lines, key: str) -> None:
    structlog.get_logger("x").info("e", **{key: "hunter22", "inner": {key: ["hunter22"], "list": [{key: b"hunter22"}]}})
    assert lines.entry[key] == "***"
    assert "hunter22" not in lines.text


@pytest.mark.parametrize(
    ("key", "value"), [("prompt_tokens", 12), ("first_token", 0.25), ("token", None), ("key", "k")]
)
def test_what_only_sounds_like_a_secret_is_kept(lines: Lines, key: str, value: Any) -> None:
    structlog.get_logger("x").info("e", **{key: value})
    assert lines.entry[key] == value


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (JWT, "***"),
        (f"GET /rtc?access_token={JWT}&auto_subscribe=1", "GET /rtc?access_token=***&auto_subscribe=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("redis://joe:hunter22@host/0", "redis://***@host/0"),
        ("basic things", "basic things"),
        ("mail joe@example.com", "mail joe@example.com"),
    ],
)
def test_what_looks_like_a_secret_is_masked(lines: Lines, text: str, masked: str) -> None:
    structlog.get_logger("x").info("e", text=text, nested=[{"text": text}])
    logging.getLogger("x").info(text)
    assert lines.entries[0]["text"] == masked
    assert lines.entries[0]["nested"] == [{"text": masked}]
    assert lines.entries[1]["event"] == masked


def test_hidden_values_are_masked_wherever_they_are(lines: Lines) -> None:
    logs.hide("a-very-secret-secret")
    logs.hide("a-very-secret-secret-and-more")
    logs.hide("abc")  # too short to be hidden: it would mask words
    logs.hide("")
    try:
        raise ValueError("with a-very-secret-secret in it")
    except ValueError:
        structlog.get_logger("x").exception("abc", key="a-very-secret-secret-and-more", **{"a-very-secret-secret": 1})
    assert "secret-secret" not in lines.text
    assert lines.entry["event"] == "abc"
    assert lines.entry["key"] == "***"
    assert "ValueError: with *** in it" in lines.entry["exception"]


class Colour(IntEnum):
    RED = 1


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def cyclic() -> list[Any]:
    inside: list[Any] = []
    inside.append({"again": inside})
    return inside


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**70, hex(2**70)),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Colour.RED, 1),
        (b"pcm", "<3 bytes>"),
        ("\udcff", "\\udcff"),
        (Path("/a"), "PosixPath('/a')"),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        ((1, {2}), [1, [2]]),
        (Hostile(), "<Hostile whose repr raised RuntimeError>"),
        (HostileError(), "<HostileError whose repr raised RuntimeError>"),
        (list(range(300)), [*range(200), "… 100 more"]),
        ("x" * 20_000, "x" * 16_384 + "… 3616 more"),
    ],
)
def test_weird_values_are_shown_as_well_as_can_be(lines: Lines, value: Any, shown: Any) -> None:
    structlog.get_logger("x").info("e", value=value)
    assert lines.entry["value"] == shown


def test_weird_entries_are_written_too(lines: Lines) -> None:
    logs.configure("info", "json", write=lines)  # again: pytest's own handler would raise
    log = structlog.get_logger("x")
    log.info("cyclic", value=cyclic())
    log.error("hostile", exc_info=HostileError())
    log.info(Hostile())
    log.info("own words", level="x", logger="y", timestamp="z", event_="w")
    logging.getLogger("x").info(Hostile())
    cycle, hostile, event, own, theirs = lines.entries
    assert cycle["event"] == "cyclic"
    assert "HostileError" in hostile["exception"]
    assert event["event"] == "<Hostile whose repr raised RuntimeError>"
    assert (own["level"], own["level_"], own["logger_"], own["timestamp_"], own["event_"]) == (
        "info",
        "x",
        "y",
        "z",
        "w",
    )
    assert theirs["level"] == "info"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.dates()
    | st.builds(Hostile)
    | st.builds(cyclic),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner) | st.tuples(inner, inner)
    ),
    max_leaves=15,
)


@given(
    st.dictionaries(st.text(alphabet="abeklnortv_ \n\udcff", min_size=1, max_size=9), VALUES, max_size=5),
    st.sampled_from(["json", "console"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_logged_raises_or_is_lost(fields: dict[str, Any], form: Any) -> None:
    lines = Lines()
    logs.configure("debug", form, write=lines)
    fields.pop("event", None)
    structlog.get_logger("x").info("noted", **fields)
    assert len(lines.writes) == 1
    if form == "json":
        assert lines.entry["event"] == "noted"
    else:
        assert lines.text.count("\n") == 1
        assert "noted" in lines.text


def test_the_console_is_for_people() -> None:
    lines = Lines()
    logs.configure("info", "console", write=lines, job="AJ_1")
    structlog.get_logger("greenroom.x").info("said", text="red \x1b[31m and\nnew line", token="hunter22")
    (line,) = lines.writes
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    shown = line.decode()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z \[info +\] said +\[greenroom\.x\] job=AJ_1 text=", shown)
    assert "token=***" in shown
    assert r"\x1b[31m" in shown


def test_a_traceback_on_the_console_is_lines_in_one_write() -> None:
    lines = Lines()
    logs.configure("info", "console", write=lines)
    try:
        raise ValueError("red \x1b[31m")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    (write,) = lines.writes
    assert write.count(b"\n") >= 4
    assert b"\x1b[31m" not in write


def test_a_writer_that_fails_fails_no_call() -> None:
    def write(line: bytes) -> None:
        raise OSError(line)

    logs.configure("info", "json", write=write)
    structlog.get_logger("x").info("lost")
    logging.getLogger("x").info("lost")


def test_what_nobody_reads_is_lost_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(os, "write", lambda _, data, write=os.write: write(writer, data))
    logs.write_to_stderr(b"hello\n")
    os.close(writer)


def test_warnings_are_logged(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logs.configure("info", "json", write=lines)
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert lines.entry["logger"] == "py.warnings"
    assert "DeprecationWarning: soon gone" in lines.entry["event"]


def test_a_thread_that_dies_says_why(lines: Lines) -> None:
    def die() -> None:
        raise ValueError("in a thread")

    logs.configure("info", "json", write=lines)
    thread = threading.Thread(target=die, name="decoder")
    thread.start()
    thread.join()
    assert (lines.entry["event"], lines.entry["level"], lines.entry["thread"]) == (
        "uncaught exception",
        "critical",
        "decoder",
    )
    assert lines.entry["exception"].endswith("ValueError: in a thread")


@pytest.mark.parametrize("form", ["auto", "json"])
def test_a_process_that_dies_says_why_in_its_log(form: str) -> None:
    code = f"from greenroom.ops import logs\nlogs.configure('info', {form!r}, slot=3)\nraise ValueError('at the end')\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["slot"]) == ("uncaught exception", 3)
    assert entry["exception"].endswith("ValueError: at the end")


def test_automatic_is_the_console_on_a_terminal() -> None:
    code = (
        "from greenroom.ops import logs\nimport structlog\nlogs.configure()\nstructlog.get_logger('x').info('hello')\n"
    )
    reader, writer = os.openpty()
    try:
        subprocess.run([sys.executable, "-c", code], stderr=writer, check=True)
        shown = os.read(reader, 4096).decode()
    finally:
        os.close(reader)
        os.close(writer)
    assert "\x1b[" in shown
    assert "hello" in shown
    assert "{" not in shown
