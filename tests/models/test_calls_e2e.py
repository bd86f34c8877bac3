"""Calls on the real server whose Whisper and Piper are in the model host."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.e2e.conftest import House, ask, open_house, speak
from tests.models.weighing import ALLOWED_MB, ANSWER, CONFIG, LIBRARIES, QUESTION, weigh

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("house"), CONFIG) as house:
        yield house


def host_of(house: House) -> int:
    """The newest one's pid."""
    return int(house.lines("model host ready")[-1].fields["pid"])


async def test_calls_share_the_models_and_weigh_little(house: House) -> None:
    daemon = int(house.lines("starting")[0].fields["pid"])
    async with house.call() as first:
        assert ANSWER in await ask(first, QUESTION)
        one = await asyncio.to_thread(weigh, daemon, calls=1)
        async with house.call() as second:
            assert ANSWER in await ask(second, QUESTION)
            two = await asyncio.to_thread(weigh, daemon, calls=2)
    for weighing in (one, two):
        assert {model: weighing.loads(model) for model in LIBRARIES} == dict.fromkeys(LIBRARIES, 1)
        (host,) = (weight for weight in weighing.weights if weight.role == "model host")
        assert host.models == tuple(LIBRARIES)
    assert two.mb - one.mb < 2 * ALLOWED_MB


async def test_a_host_that_is_killed_costs_a_pause(house: House) -> None:
    async with house.call() as caller:
        began, died = time.monotonic(), host_of(house)
        words = await speak(caller, QUESTION)
        # It has been asked for the words, or is about to be.
        os.kill(died, signal.SIGKILL)
        answered = await caller.wait_for_voice(after=words.ended, timeout=30.0)
        await caller.wait_for_pause(since=answered, timeout=30.0)
        assert ANSWER in caller.transcript.text("agent", since=began)
        await house.wait_line("model host died", since=began, timeout=10.0)
        await house.wait_line("model host ready", since=began, timeout=30.0)
        assert host_of(house) != died
        assert ANSWER in await ask(caller, QUESTION)
    assert [line for line in house.lines("job finished", since=began) if line.fields["outcome"] != "success"] == []


async def test_the_host_ends_with_its_worker(tmp_path: Path) -> None:
    async with open_house(tmp_path, CONFIG) as other:
        host = psutil.Process(host_of(other))
        assert host.is_running()
    assert not host.is_running()
    assert [path.name for path in (tmp_path / "run").glob("models*")] == []
