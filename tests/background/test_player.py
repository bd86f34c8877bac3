"""The player on tracks in virtual time: what is heard when, with a session of scripted models beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from greenroom import AudioConfig, BackgroundAudioPlayer, BuiltinAudioClip
from greenroom.audio import AudioFrame, Pcm, rms, write_wav
from greenroom.background.mixer import Ducking
from greenroom.dialog.events import AgentState
from greenroom.room.tally import TICK
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.background.stage import RATE, LoopStage, played
from tests.session.stage import scene

SLACK = 3 * TICK
"""A tick until what was asked for leaves, another until it is safe to take back, and the shortest fade."""


def write(path: Path, seconds: float, *, level: int = 4000) -> str:
    """A file of one level: what is heard of it tells the volume."""
    write_wav(path, AudioFrame(np.full(round(seconds * RATE), level, dtype=np.int16), RATE))
    return str(path)


def now() -> float:
    return asyncio.get_running_loop().time()


def sounds(stage: LoopStage, *, above: int = 100) -> tuple[float, float]:
    """When the first and the last sample left that are louder than that."""
    there = np.flatnonzero(np.abs(stage.source.pcm.astype(np.int32)) > above)
    assert len(there), "nothing was heard"
    return stage.source.began + there[0] / RATE, stage.source.began + there[-1] / RATE


def level(stage: LoopStage, start: float, end: float) -> float:
    return rms(stage.source.heard(start, end))


@virtual_time
async def test_a_sound_is_heard_at_once_and_its_handle_is_done_with_its_last_sample(tmp_path: Path) -> None:
    async with played() as stage:
        player = BackgroundAudioPlayer()
        await player.start(room=stage)
        await asyncio.sleep(0.3)
        began = now()
        handle = player.play(write(tmp_path / "a.wav", 1.0))
        assert not handle.done()
        assert await handle is handle
        ended = now()
        first, last = sounds(stage)
        assert first - began <= SLACK
        assert last - first == pytest.approx(1.0, abs=0.011)
        assert abs(ended - last) <= 2 * TICK
        assert handle.done()
        assert handle.exception() is None


@virtual_time
async def test_ambient_sound_loops_from_the_start_until_the_room_is_left(tmp_path: Path) -> None:
    async with played() as stage:
        ambience = AudioConfig(write(tmp_path / "a.wav", 0.25), volume=0.5)
        player = BackgroundAudioPlayer(ambient_sound=ambience)
        began = now()
        await player.start(room=stage)
        await asyncio.sleep(3.0)
        first, last = sounds(stage)
        assert first - began <= SLACK
        assert last >= now() - 2 * TICK
        heard = stage.source.heard(first + 0.02, last)
        assert np.all(heard == 2000)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@virtual_time
async def test_stop_is_heard_at_once_or_fades_and_the_handle_waits_for_it(tmp_path: Path) -> None:
    async with played() as stage:
        player = BackgroundAudioPlayer()
        await player.start(room=stage)
        handle = player.play(write(tmp_path / "a.wav", 9.0))
        await asyncio.sleep(1.003)
        stopped = now()
        handle.stop()
        await handle.wait_for_playout()
        assert sounds(stage)[1] - stopped <= SLACK
        fading = player.play(AudioConfig(str(tmp_path / "a.wav"), fade_in=0.2, fade_out=0.5))
        await asyncio.sleep(1.003)
        stopped = now()
        fading.stop()
        fading.stop()
        await fading
        assert now() - stopped == pytest.approx(0.5, abs=2 * SLACK)
        assert level(stage, stopped + 0.2, stopped + 0.3) == pytest.approx(4000 * np.sqrt(0.5), rel=0.1)
        quick = player.play(AudioConfig(str(tmp_path / "a.wav"), fade_out=0.5))
        await asyncio.sleep(0.303)
        stopped = now()
        quick.stop(fade=0.0)
        await quick
        assert now() - stopped <= 2 * SLACK


@virtual_time
async def test_the_volume_changes_while_it_plays(tmp_path: Path) -> None:
    async with played() as stage:
        player = BackgroundAudioPlayer()
        await player.start(room=stage)
        handle = player.play(write(tmp_path / "a.wav", 9.0), loop=True)
        assert handle.volume == 1.0
        await asyncio.sleep(1.0)
        handle.volume = 0.25
        assert handle.volume == 0.25
        turned = now()
        await asyncio.sleep(1.0)
        handle.fade(1.0, seconds=1.0)
        await asyncio.sleep(1.5)
        assert level(stage, turned - 0.1, turned) == pytest.approx(4000, abs=2)
        assert level(stage, turned + 0.1, turned + 0.9) == pytest.approx(1000, abs=2)
        assert 3500 > level(stage, turned + 1.4, turned + 1.6) > 2000
        assert level(stage, turned + 2.2, turned + 2.4) == pytest.approx(4000, abs=2)
        with pytest.raises(ValueError, match="volume"):
            handle.volume = -1.0
        handle.stop()
        await handle
        handle.volume = 0.5
        assert handle.volume == 0.0


@virtual_time
async def test_several_sounds_play_at_once(tmp_path: Path) -> None:
    async with played() as stage:
        player = BackgroundAudioPlayer(ambient_sound=write(tmp_path / "a.wav", 1.0, level=1000))
        await player.start(room=stage)
        await asyncio.sleep(0.5)
        await player.play([AudioConfig(write(tmp_path / "b.wav", 1.0, level=3000), volume=0.5)])
        ended = now()
        await asyncio.sleep(0.5)
        assert level(stage, ended - 0.5, ended - 0.1) == pytest.approx(2500, abs=2)
        assert level(stage, ended + 0.1, ended + 0.4) == pytest.approx(1000, abs=2)


@virtual_time
async def test_where_nothing_is_chosen_nothing_is_heard(tmp_path: Path) -> None:
    async with played() as stage:
        player = BackgroundAudioPlayer(ambient_sound=[AudioConfig(write(tmp_path / "a.wav", 1.0), probability=0.0)])
        await player.start(room=stage)
        assert player.play([]).done()
        await asyncio.sleep(1.0)
        assert not stage.source.pcm.any()
        assert stage.source.captures == 0


@virtual_time
async def test_frames_are_played_once(tmp_path: Path) -> None:
    async def frames() -> AsyncIterator[AudioFrame]:
        for _ in range(10):
            yield AudioFrame(np.full(4800, 3000, dtype=np.int16), 48_000)

    async with played() as stage:
        player = BackgroundAudioPlayer()
        await player.start(room=stage)
        await player.play(frames())
        assert np.count_nonzero(stage.source.pcm > 2000) / RATE == pytest.approx(1.0, abs=0.02)
        with pytest.raises(ValueError, match="only once"):
            player.play(frames(), loop=True)


@virtual_time
async def test_what_fails_ends_its_handle_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("no sound")
    async with played() as stage:
        player = BackgroundAudioPlayer(ambient_sound=write(tmp_path / "a.wav", 1.0, level=1000))
        await player.start(room=stage)
        with pytest.raises(ValueError, match="no such file"):
            player.play("nowhere.ogg")
        handle = player.play(str(tmp_path / "text.mp3"))
        await handle
        assert isinstance(handle.exception(), ValueError)
        await asyncio.sleep(0.5)
        assert level(stage, now() - 0.3, now() - 0.05) == pytest.approx(1000, abs=2)


@virtual_time
async def test_a_player_is_started_once_and_says_so(tmp_path: Path) -> None:
    async with played() as stage:
        player = BackgroundAudioPlayer(ambient_sound=str(tmp_path / "nowhere.ogg"))
        with pytest.raises(ValueError, match="no such file"):
            await player.start(room=stage)
        with pytest.raises(RuntimeError, match="not started"):
            player.play(BuiltinAudioClip.HOLD_MUSIC)
        player = BackgroundAudioPlayer()
        await player.start(room=stage)
        with pytest.raises(RuntimeError, match="started before"):
            await player.start(room=stage)
        playing = player.play(BuiltinAudioClip.HOLD_MUSIC, loop=True)
        await asyncio.sleep(0.5)
        await player.aclose()
        await player.aclose()
        await playing
        with pytest.raises(RuntimeError, match="between start"):
            player.play(BuiltinAudioClip.HOLD_MUSIC)


# --- with a session -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True])
@virtual_time
async def test_thinking_sounds_while_the_agent_thinks_and_all_of_it_ducks_while_it_speaks(
    tmp_path: Path, mixed: bool
) -> None:
    ambience, clatter = write(tmp_path / "a.wav", 0.5, level=1000), write(tmp_path / "t.wav", 0.3, level=6000)
    slow = Answer("It is ten past nine, I believe.", first_token=1.5)
    async with played() as stage, scene(heard=["what time is it"], answers=[slow]) as s:
        player = BackgroundAudioPlayer(
            ambient_sound=ambience,
            thinking_sound=[AudioConfig(clatter, volume=0.5)],
            ducking=Ducking(to=0.2, attack=0.05, release=0.2),
            track="mixed" if mixed else "own",
        )
        await player.start(room=stage, agent_session=s.session)
        await s.until(2.0)
        s.user.speak(0.8)
        await s.until(12.0)
        (thinking,) = s.times("agent_state_changed", new_state=AgentState.THINKING)
        (speaking,) = s.times("agent_state_changed", new_state=AgentState.SPEAKING)
        silent = s.times("agent_state_changed", old_state=AgentState.SPEAKING)[0]
        assert speaking - thinking > 1.0
        first, last = sounds(stage, above=1200)
        assert 0 <= first - thinking <= SLACK
        assert abs(last - speaking) <= SLACK
        assert level(stage, thinking - 0.5, thinking) == pytest.approx(1000, abs=2)
        assert level(stage, thinking + 0.1, speaking - 0.05) == pytest.approx(4000, abs=2)
        assert level(stage, speaking + 0.1, silent) == pytest.approx(200, abs=1)
        assert level(stage, silent + 0.3, silent + 1.0) == pytest.approx(1000, abs=2)


@virtual_time
async def test_a_session_that_is_thinking_already_is_followed(tmp_path: Path) -> None:
    slow = Answer("It is noon.", first_token=3.0)
    async with played() as stage, scene(heard=["what time is it"], answers=[slow]) as s:
        s.user.speak(0.8)
        await s.until(2.5)
        assert s.session.agent_state is AgentState.THINKING
        player = BackgroundAudioPlayer(thinking_sound=write(tmp_path / "t.wav", 0.3))
        began = now()
        await player.start(room=stage, agent_session=s.session)
        await s.until(3.0)
        assert sounds(stage)[0] - began <= SLACK
        await player.aclose()
        stopped = now()
        await s.until(9.0)
        assert sounds(stage)[1] - stopped <= SLACK


@virtual_time
async def test_the_voice_is_mixed_with_the_background_to_the_sample(tmp_path: Path) -> None:
    async with played() as stage:
        player = BackgroundAudioPlayer(ambient_sound=write(tmp_path / "a.wav", 0.5, level=1000), track="mixed")
        await player.start(room=stage)
        await asyncio.sleep(0.5)
        voice: Pcm = np.tile(np.arange(1, 241, dtype=np.int16) * 20, 15)
        await stage.voice.say(voice)
        await asyncio.sleep(0.5)
        heard = stage.source.pcm.astype(np.int32) - 1000
        at = int(np.flatnonzero(heard > 0)[0])
        assert np.array_equal(heard[at : at + len(voice)], voice)
