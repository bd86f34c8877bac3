"""Each file in ``broken/`` says in comments at its head what is to be said of it, line by line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.check import check
from greenroom.settings_file import InvalidSettings

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(BROKEN.glob("*.yaml"))
EXPECTED = re.compile(r"^# expect (.*)$", re.MULTILINE)
ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith(("LIVEKIT_", "GREENROOM_"))}


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The user's modules are imported afresh, and faster-whisper is not installed."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    before = set(sys.modules)
    yield
    for name in {"reception", "collapsing", "dependent"} & (set(sys.modules) - before):
        del sys.modules[name]


def expected_lines(file: Path) -> list[str]:
    places = {"{here}": str(file.parent), "{cwd}": str(Path.cwd())}
    lines = []
    for line in EXPECTED.findall(file.read_text()):
        for place, folder in places.items():
            line = line.replace(place, folder)
        lines.append(f"{file}:{line}")
    return lines


def test_the_ten_mistakes_of_newcomers_have_a_file() -> None:
    assert {file.stem for file in FILES} == {
        "bad_module",
        "bad_url",
        "duplicate_name",
        "missing_agent",
        "missing_extra",
        "tabs",
        "unknown_key",
        "unknown_plugin",
        "unset_variable",
        "wrong_type",
    }
    assert all(expected_lines(file) for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_mistake_is_one_line_with_file_line_key_and_what_was_expected(file: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        check(file, environ={})
    assert str(caught.value).split("\n") == expected_lines(file)
    assert caught.value.line == int(expected_lines(file)[0].removeprefix(f"{file}:").partition(":")[0])


def test_the_command_says_the_same_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['faster_whisper'] = None\n")
    result = subprocess.run(
        [sys.executable, "-m", "greenroom", "check", *map(str, FILES)],
        env={**ENVIRON, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stderr.splitlines() == [line for file in FILES for line in expected_lines(file)]
    assert result.stdout == ""
    assert result.returncode == 2
