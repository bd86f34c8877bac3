"""Real hosts in processes of their own: they die, hang, grow, and are left behind, and callers are answered."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from greenroom.errors import ProviderError, SettingsError
from greenroom.models import keeper
from greenroom.models.keeper import MODELS_SOCKET, ModelHost, wanted
from greenroom.ops import measures as m
from greenroom.ops.metrics import Metrics
from greenroom.settings import ProviderSettings
from tests.models.conftest import Keeping, Notes, keeping, provider, settings, until
from tests.models.fakes import DIE, DIE_ONCE, ECHO, NAME, sound


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "INTERVAL", 0.05)


def alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_host_holds_what_the_settings_name(folder: Path, notes: Notes) -> None:
    async with keeping(settings("stt", "tts", notes=str(notes)), folder) as kept:
        await kept.ready()
        status = kept.keeper.status()
        assert status is not None
        assert [(one.kind, one.provider, one.users) for one in status.models] == [("stt", NAME, 0), ("tts", NAME, 0)]
        assert status.pid != os.getpid()
        assert notes.count(f"load {status.pid}") == 2
        ear = kept.build("stt", notes=str(notes))
        await asyncio.to_thread(ear.load)
        assert (await ear.recognize(sound(ECHO))).text == "100 samples"
        assert notes.count("load") == 2
        await until(lambda: kept.keeper.status().memory_mb)  # type: ignore[union-attr]
        pid = status.pid
    assert not alive(pid)
    assert list((folder / "run").iterdir()) == []


async def test_who_asked_a_host_that_dies_is_answered_by_the_next(folder: Path, notes: Notes) -> None:
    what = settings("stt", "tts", notes=str(notes))
    async with keeping(what, folder) as kept:
        ear, voice = kept.build("stt", notes=str(notes)), kept.build("tts", notes=str(notes))
        assert (await ear.recognize(sound(ECHO))).text == "100 samples"
        # Both go on where they were: the transcript comes, and the sentence is whole, without a word said twice.
        assert (await ear.recognize(sound(DIE_ONCE))).text == "100 samples"
        notes.replace("died", "was killed")
        samples = [frame.pcm async for frame in voice.speak("one three die seventh")]
        assert np.concatenate(samples).tolist() == [3] * 3 + [5] * 5 + [3] * 3 + [7] * 7
        assert kept.keeper.status().restarts == 2  # type: ignore[union-attr]
        assert kept.metrics._counters[m.MODEL_HOST_RESTARTS] == {(): 2.0}


async def test_a_request_that_kills_each_host_is_given_up_and_others_are_answered(folder: Path, notes: Notes) -> None:
    async with keeping(settings("stt", parallel=2, notes=str(notes)), folder) as kept:
        ear = kept.build("stt", parallel=2, notes=str(notes))
        deadly = asyncio.create_task(ear.recognize(sound(DIE)))
        well = [asyncio.create_task(ear.recognize(sound(ECHO, samples=n))) for n in range(1, 20)]
        with pytest.raises(ProviderError, match="died each time that it was asked") as failed:
            await deadly
        assert not failed.value.retryable
        assert [heard.text for heard in await asyncio.gather(*well)] == [f"{n} samples" for n in range(1, 20)]
        assert notes.count("died") == 3
        assert (await ear.recognize(sound(ECHO))).text == "100 samples"


async def test_who_boots_while_there_is_no_host_waits_for_it(folder: Path, notes: Notes) -> None:
    async with keeping(settings("stt", notes=str(notes)), folder) as kept:
        await kept.ready()
        os.kill(kept.keeper.pid or 0, signal.SIGKILL)
        await asyncio.to_thread(kept.build("stt", notes=str(notes)).load)
        await kept.ready()
        assert kept.keeper.status().restarts == 1  # type: ignore[union-attr]


async def test_a_host_that_hangs_is_replaced(folder: Path, notes: Notes) -> None:
    async with keeping(settings("stt", ping_timeout=0.2, notes=str(notes)), folder) as kept:
        await kept.ready()
        stopped = kept.keeper.pid or 0
        os.kill(stopped, signal.SIGSTOP)
        kept.keeper.calls_changed(1)
        await until(lambda: not alive(stopped))
        assert (await kept.build("stt", notes=str(notes)).recognize(sound(ECHO))).text == "100 samples"


async def test_a_host_that_grows_too_large_is_replaced(folder: Path, notes: Notes) -> None:
    async with keeping(settings("stt", memory_limit_mb=1, notes=str(notes)), folder) as kept:
        await until(lambda: kept.keeper._restarts >= 1)


async def test_a_host_that_nobody_needs_is_not_kept(folder: Path) -> None:
    what = settings("stt")
    agent = what.agents[0]
    streams = (type(agent)(name="host", stt=ProviderSettings("fake_streams")),)
    async with keeping(type(what)(server=what.server, agents=streams), folder) as kept:
        await until(lambda: kept.keeper._unneeded)
        assert kept.keeper.status() is None
        assert kept.keeper.pid is None
        # New settings may need one.
        kept.keeper.keep(what)
        await kept.ready()


async def test_new_settings_are_loaded_beside_the_old_ones(folder: Path, notes: Notes) -> None:
    async with keeping(settings("stt", notes=str(notes)), folder) as kept:
        await kept.ready()
        old = kept.build("stt", notes=str(notes))
        assert (await old.recognize(sound(ECHO))).text == "100 samples"
        pid = kept.keeper.pid
        kept.keeper.keep(settings("stt", notes=str(notes), batch=2))
        await until(lambda: notes.count("load") == 2)
        assert (await old.recognize(sound(ECHO))).text == "100 samples"
        assert (kept.keeper.pid, notes.count("load")) == (pid, 2)


async def test_a_daemon_that_takes_over_has_a_host_of_its_own(folder: Path, notes: Notes) -> None:
    what = settings("stt", notes=str(notes))
    async with keeping(what, folder) as kept:
        ear = kept.build("stt", notes=str(notes))
        assert (await ear.recognize(sound(ECHO))).text == "100 samples"
        old = kept.keeper.pid
        heir = _heir(kept, what, folder)
        heir.keeper.start()
        try:
            await heir.ready()
            # Apart, it is reached by its own jobs alone.
            newer = heir.build("stt", notes=str(notes))
            assert (await newer.recognize(sound(ECHO))).text == "100 samples"
            heir.keeper.settle()
            await kept.keeper.let_go()
            # The call goes on with the host that it has, and finds the new one when that is gone.
            assert (await ear.recognize(sound(ECHO))).text == "100 samples"
            assert alive(old)
            os.kill(old or 0, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, old or 0, 0)
            assert (await ear.recognize(sound(ECHO))).text == "100 samples"
            assert notes.text.split().count(str(heir.keeper.pid)) == 1
        finally:
            await heir.sharing.aclose()
            await heir.keeper.aclose()


def _heir(kept: Keeping, what: Any, folder: Path) -> Keeping:
    """The keeper of a daemon with another pid."""
    heir = Keeping(what, folder / "run")
    heir.keeper._own = folder / "run" / "models-1.sock"
    heir.sharing = type(kept.sharing)(heir.keeper.paths)
    return heir


async def test_sockets_of_daemons_that_died_are_swept_up(folder: Path, notes: Notes) -> None:
    (folder / "run").mkdir()
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(folder / "run" / "models-99.sock"))
    dead.close()
    async with keeping(settings("stt", notes=str(notes)), folder):
        assert [path.name for path in (folder / "run").iterdir()] == [MODELS_SOCKET]


def test_a_path_that_is_too_long_is_said(folder: Path) -> None:
    host = ModelHost(settings("stt"), run_dir=folder / ("x" * 100), metrics=Metrics())
    with pytest.raises(SettingsError, match="choose a shorter directory"):
        host.start()


def test_what_may_be_shared() -> None:
    what = settings("stt", "tts")
    agent = what.agents[0]
    stt = ProviderSettings("a", shared=False, fallback=(ProviderSettings("b"), ProviderSettings("c", shared=True)))
    changed = type(agent)(
        name="host", vad=provider(), llm=ProviderSettings("script"), stt=stt, tts=agent.tts, turn_detector=agent.tts
    )
    found = wanted(type(what)(server=what.server, agents=(changed, changed)))
    assert [(one.kind, one.plugin, one.always) for one in found] == [
        ("stt", "b", False),
        ("stt", "c", True),
        ("tts", NAME, False),
        ("turn", NAME, False),
    ]
