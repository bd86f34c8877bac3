"""The YAML's ``background``: what is read, what is refused, and what becomes of it in a job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from greenroom.audio import AudioFrame, write_wav
from greenroom.background.clips import BuiltinAudioClip
from greenroom.errors import SettingsError
from greenroom.job.background import build_background
from greenroom.settings import CLIPS, BackgroundSettings, Settings, SoundSettings
from greenroom.settings_file import InvalidSettings, load

ENVIRONMENT = {
    "LIVEKIT_URL": "ws://127.0.0.1:7880",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "very-secret-value",
}
HEAD = "agents:\n  - llm: {plugin: script}\n    background:\n"
WHOLE = """\
      ambient: [{source: office_ambience, volume: 0.8, fade_in: 1.5}]
      thinking:
        - {source: keyboard_typing, volume: 0.8, probability: 0.7}
        - {source: sounds/beep.wav, probability: 0.3, fade_out: 0.1}
      track: mixed
      duck: {to: 0.2, release: 1}
"""


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "worker.yaml"
    file.write_text(HEAD + text)
    return load(file, environ=ENVIRONMENT)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read(tmp_path, text)
    return [line.removeprefix(f"{tmp_path / 'worker.yaml'}:") for line in str(caught.value).splitlines()]


@pytest.fixture
def beep(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    path = tmp_path / "sounds" / "beep.wav"
    write_wav(path, AudioFrame(np.full(4800, 900, dtype=np.int16), 24_000))
    return path


def test_the_names_of_the_clips_are_those_that_come_along() -> None:
    assert tuple(clip.value for clip in BuiltinAudioClip) == CLIPS


@pytest.mark.usefixtures("beep")
def test_sounds_are_read_and_a_player_has_them_loaded(tmp_path: Path) -> None:
    settings = read(tmp_path, WHOLE)
    background = settings.agents[0].background
    assert background.ambient == (SoundSettings(source="office_ambience", volume=0.8, fade_in=1.5),)
    assert background.thinking[1] == SoundSettings(source="sounds/beep.wav", probability=0.3, fade_out=0.1)
    assert (background.track, background.duck.to, background.duck.attack, background.duck.release) == (
        "mixed",
        0.2,
        0.1,
        1,
    )
    assert build_background(settings.agents[0], beside=settings.file) is not None
    assert BuiltinAudioClip.OFFICE_AMBIENCE.made(24_000)
    assert BuiltinAudioClip.KEYBOARD_TYPING.made(24_000)


@pytest.mark.parametrize("nothing", ["", "      ambient: []\n", "      duck: {to: 1}\n"])
def test_without_a_sound_there_is_no_player(tmp_path: Path, nothing: str) -> None:
    settings = read(tmp_path, nothing)
    assert build_background(settings.agents[0], beside=settings.file) is None
    if not nothing:
        assert settings.agents[0].background == BackgroundSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "      ambient: office_ambience\n",
            "4: agents[0].background.ambient: the text 'office_ambience'; expected a list of mappings",
        ),
        ("      ambient: [{}]\n", "4: agents[0].background.ambient[0].source: missing; expected text"),
        ("      track: both\n", "4: agents[0].background.track: the text 'both'; expected one of mixed, own"),
        ("      duck: {to: 2}\n", "4: agents[0].background.duck.to: the number 2; expected a number from 0 to 1"),
        (
            "      thinking: [{source: keyboard_tipping}]\n",
            "4: agents[0].background.thinking[0].source: no such file: keyboard_tipping; expected an audio file beside",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (line,) = mistakes(tmp_path, text)
    assert line.startswith(said), line


def test_a_clip_that_was_mistyped_is_suggested(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "      ambient: [{source: ofice_ambience}]\n")
    assert line.endswith("did you mean office_ambience?")


def test_a_file_that_is_no_sound_is_said_so_when_a_process_boots(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    settings = read(tmp_path, "      ambient: [{source: notes.txt}]\n")
    with pytest.raises(SettingsError, match=r"worker.yaml: background: .*notes.txt: .*expected an audio file"):
        build_background(settings.agents[0], beside=settings.file)
