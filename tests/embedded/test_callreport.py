"""The JSON document that a simulated call ends with, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greenroom.embedded.call import CallExit, CallOptions, run
from greenroom.embedded.callreport import CallReport, Turn


def test_the_document_has_what_was_promised() -> None:
    turn = Turn(user="What time is it?", transcript="What time is it?", answer="It is noon.", response_seconds=0.812)
    report = CallReport(joined_seconds=0.4, turns=[turn], recording="/tmp/answer.wav")  # noqa: S108
    document = json.loads(report.encode())
    assert document["joined_seconds"] == 0.4
    assert document["turns"][0]["user"] == "What time is it?"
    assert document["turns"][0]["response_seconds"] == 0.812
    assert document["recording"] == "/tmp/answer.wav"  # noqa: S108
    assert document["error"] is None


def options(**changes: object) -> CallOptions:
    return CallOptions(**{"json": True, "say": ("Hello.",), **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"say": ()}, "--say TEXT or --wav FILE"),
        ({"embedded": True}, "-c FILE"),
        ({"say": (), "wav": (Path("missing.wav"),)}, "missing.wav"),
        ({"out": Path("/no/such/folder/answer.wav")}, "no such folder"),
        ({}, "LIVEKIT_URL"),
    ],
)
def test_what_is_wrong_with_the_options(
    changes: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(options(**changes)) == CallExit.SETTINGS
    said = capsys.readouterr()
    assert words in json.loads(said.out)["error"]
    assert "error: " in said.err


def test_a_server_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"url": "ws://127.0.0.1:9", "api_key": "key", "api_secret": "very-secret"}
    assert run(options(**given)) == CallExit.UNREACHABLE
    said = capsys.readouterr()
    assert "no LiveKit server answers at ws://127.0.0.1:9" in json.loads(said.out)["error"]
    assert "very-secret" not in said.out + said.err


def test_the_secret_is_not_shown() -> None:
    assert "very-secret" not in repr(options(api_secret="very-secret"))
