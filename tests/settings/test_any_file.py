"""Whatever stands in a file, reading it gives settings or mistakes, each a line: never another exception."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenroom.check import check
from greenroom.settings import Settings
from greenroom.settings_file import InvalidSettings

ENVIRON = {
    "LIVEKIT_URL": "ws://127.0.0.1:7880",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "secret",
    "HOME": "/h",
    "A": "1",
    "B": "- x",
}
CONFIG = Path(__file__).parents[2] / "config"
WHOLE = (CONFIG / "worker.yaml").read_text().replace("      #", "      ").replace("  #", "  ")
DEMO = (CONFIG / "demo.yaml").read_text()

SECTIONS = ["server", "agents", "worker", "logs", "vad", "stt", "llm", "tts", "turns", "voice_activity", "deadlines"]
OTHERS = ["url", "api_key", "name", "agent", "plugin", "model", "threshold", "boot", "level", "warm", "preload", "file"]
SCRIPT = ["rules", "when", "say", "after", "goto", "state", "call", "tool", "job_types", "options", "<<", "x"]
KEYS = st.sampled_from([*SECTIONS, *OTHERS, *SCRIPT])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["script", "silero", "whisper", "piper", "${A}", "${B}", "${C:-}", "$$", "${", "room", "a:B", "ws://h", "("]
    )
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
AGENTS = st.fixed_dictionaries({"llm": st.fixed_dictionaries({"plugin": st.just("script")}, optional={"rules": TREES})})
FILES = TREES | st.fixed_dictionaries(
    {"agents": st.lists(AGENTS | TREES, min_size=1, max_size=3)}, optional={"worker": TREES}
)


@pytest.fixture(autouse=True, scope="module")
def path_as_before() -> Iterator[None]:
    before = [*sys.path]
    yield
    sys.path[:] = before


def reads(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "worker.yaml")
        file.write_bytes(data)
        try:
            found = check(file, environ=ENVIRON)
        except InvalidSettings as error:
            wrong = error
        else:
            assert Settings.decode(found.encode()) == found
            return
    said = str(wrong).split("\n")
    assert len(said) == len(wrong.mistakes) == len(set(said))
    assert all(line.isprintable() for line in said)
    lines = [mistake.line for mistake in wrong.mistakes]
    assert lines == sorted(lines)
    # Every kind of line end that YAML knows, and one more line for an error at the very end.
    assert 1 <= lines[0] <= lines[-1] <= len(data.decode("utf-8", "replace").splitlines()) + 1


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    reads(data)


@given(st.text(alphabet="ab:-{}[]&*!|>'\"%@`#?,<~.0$ \t\n\r\x85\u2028\ufeff", max_size=40))
@example("? \n")
@example("%YAML 99999999999999999999999.1\n--- a")
@example("%TAG ! x\n---\n!a b")
def test_any_marks(text: str) -> None:
    reads(text.encode())


@given(FILES)
def test_any_tree(tree: Any) -> None:
    reads(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(FILES)
def test_any_json(tree: Any) -> None:
    reads(msgspec.json.encode(tree))


@given(st.sampled_from([WHOLE, DEMO]), st.data())
@settings(max_examples=60, deadline=None)
def test_any_slip_of_the_hand(text: str, data: st.DataObject) -> None:
    slips: list[Callable[[str, int], str]] = [
        lambda text, at: text[:at] + text[at + 1 :],
        lambda text, at: text[:at] + text[at] + text[at:],
        lambda text, at: text[:at] + "\t" + text[at:],
        lambda text, at: text[:at] + "\n" + text[at:],
        lambda text, at: text[:at] + "\x00" + text[at:],
        lambda text, at: text[:at],
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text = data.draw(st.sampled_from(slips))(text, at) or "x"
    reads(text.encode())
