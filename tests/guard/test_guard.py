"""The hot paths of a call take no more than was recorded, and the guard notices when one of them does.

They are counted, not timed (``counting``), so a busy machine changes nothing.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from greenroom.audio import AudioFrame
from tests.guard.bounds import Bounds, Figures, measure, measured, version
from tests.guard.counting import Meter
from tests.guard.paths import PATHS

pytestmark = pytest.mark.models  # of voice activity


def test_the_hot_paths_take_no_more_than_was_recorded() -> None:
    bounds = Bounds.read()
    exceeded = [text for path, taken in measured().items() for text in bounds.exceeded(version(), path, taken)]
    assert not exceeded, "\n\n" + "\n\n".join(exceeded)


# --- what it would notice -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seed:
    """A regression: in the source of ``where``, ``now`` in place of ``was``. ``figure``: what shows it on ``path``."""

    what: str
    path: str
    where: str
    was: str
    now: str
    figure: str

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module_name, class_name, name = self.where.rsplit(".", 2)
        module = importlib.import_module(module_name)
        owner = getattr(module, class_name)
        function: FunctionType = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.was) == 1, f"{self.where} is another now: {self.was!r} is not in it once"
        code = compile(
            source.replace(self.was, self.now),
            function.__code__.co_filename,  # so that it counts as greenroom's own
            "exec",
            flags=__future__.annotations.compiler_flag,
            dont_inherit=True,
        )
        made: dict[str, Any] = {}
        exec(code, module.__dict__, made)  # noqa: S102  # its own source
        monkeypatch.setattr(owner, name, made[name])


SEEDS = (
    Seed(
        "a frame that comes in is copied once more",
        "frame in, silence",
        "greenroom.room.stream.TrackStream._arrived",
        "self._take(np.frombuffer(data, dtype=np.int16))",
        "self._take(np.frombuffer(data, dtype=np.int16).copy())",
        "calls",
    ),
    Seed(
        "twice as much of what was said is held",
        "frame out",
        "greenroom.room.speaker.Speaker._hand_over",
        "-round(TAKEN_BACK",
        "-round(2 * TAKEN_BACK",
        "held",
    ),
    Seed(
        "frames that were read are kept",
        "frame in, voice",
        "greenroom.room.track_audio.TrackAudio._add",
        "if self._begun:",
        "if False:",
        "kept",
    ),
    Seed(
        "a piece that goes out is copied once more",
        "frame out",
        "greenroom.room.underlay.Underlay._lay",
        "pcm.tobytes()",
        "pcm.copy().tobytes()",
        "calls",
    ),
    Seed(
        "the dialog settles twice after each event",
        "dialog",
        "greenroom.dialog.dialog.Dialog.handle",
        "self._settle(now)",
        "self._settle(now) + self._settle(now)",
        "steps",
    ),
    Seed(
        "each line of the journal waits for the disk",
        "journal",
        "greenroom.journal.file.AppendedFile.append",
        "self.size += len(line)",
        "self.size += len(line); os.fdatasync(self._file)",
        "calls",
    ),
)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.what)
def test_a_regression_is_noticed(seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    seed.plant(monkeypatch)
    taken = measure(PATHS[seed.path])
    _, bound = Bounds.read().of(version(), seed.path)
    assert bound is not None
    assert getattr(taken, seed.figure) > getattr(bound, seed.figure)


# --- its own parts --------------------------------------------------------------------------------------------------


def test_only_what_greenroom_does_is_counted() -> None:
    frame = AudioFrame(memoryview(bytes(64)).cast("h"), 16_000)  # type: ignore[arg-type]  # as long as samples are
    meter = Meter()
    with meter.counting(events=1):
        sorted([3, 2, 1], key=lambda number: -number)
        for _ in range(2):  # Python 3.13 tells of the instructions of a function from its second call on
            assert frame.duration == 32 / 16_000
    assert dict(meter.taken.where)["audio.AudioFrame.duration", "calls"] == 2 * 2  # into it, and of len
    assert {function for function, _ in meter.taken.where} == {"audio.AudioFrame.duration"}
    assert meter.taken.calls == 2 * 2
    assert 0 < meter.taken.steps < 2 * 20


def test_a_path_beyond_its_bound_is_told_with_what_to_do() -> None:
    bounds = Bounds({"3.11": {"frame out": Figures(200.0, 2000.0, 40_000, 0.0)}})
    assert not list(bounds.exceeded("3.11", "frame out", Figures(200.5, 2040.0, 40_512, 16.0)))
    (told,) = bounds.exceeded("3.11", "frame out", Figures(201.0, 2000.0, 40_000, 0.0))
    assert "frame out: 201 function calls for each piece of 50 ms" in told
    assert "the bound is 200.5, as 200 were recorded (Python 3.11)" in told
    assert "--where 'frame out'" in told
    assert "--record" in told
    (untold,) = bounds.exceeded("3.11", "dialog", Figures(1.0, 1.0, 1, 0.0))
    assert "nothing is recorded" in untold


def test_a_version_without_a_record_is_held_to_the_one_next_to_it() -> None:
    older, newer = Figures(100.0, 1000.0, 1, 0.0), Figures(80.0, 800.0, 1, 0.0)
    bounds = Bounds({"3.11": {"dialog": older}, "3.13": {"dialog": newer}})
    _, known = bounds.of("3.11", "dialog")
    _, unknown = bounds.of("3.14", "dialog")
    assert known is not None
    assert unknown is not None
    assert (known.calls, unknown.calls) == (100.5, 100.5)
    assert (known.steps, unknown.steps) == (1020.0, 1020.0)
