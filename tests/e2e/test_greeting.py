"""A greeting that was rendered before anybody called, on the real server: how soon it is heard, and what it costs."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from greenroom.embedded.caller import EAR_RATE

from .conftest import House, ask, open_house
from .test_speech import transcribed

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

PROMPT = 0.1
"""Seconds from the job's joining to the first sample of a greeting that is there: what is promised."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("house"), Path(__file__).with_name("greeting.yaml")) as house:
        yield house


async def units(house: House, unit: str) -> float:
    """What the voices were used for, by the worker's own count."""
    port = house.lines("admin listens")[0].fields["port"]
    async with aiohttp.ClientSession() as web, web.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    kept = rf'greenroom_provider_units_total\{{[^}}]*kind="tts"[^}}]*unit="{unit}"[^}}]*\}} ([\d.e+]+)'
    found = re.findall(kept, text)
    return sum(map(float, found))


async def test_a_greeting_that_is_there_is_heard_at_once_and_no_voice_is_asked(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    took: list[float] = []
    late: list[float] = []
    for _ in range(3):
        began = time.monotonic()
        async with house.call() as caller:
            _, joined = await house.wait_line("joined", since=began, timeout=5.0)
            _, line = await house.wait_line("first words", since=began, timeout=5.0)
            took.append(float(line.fields["seconds"]))
            # A machine that is too busy to join in that time is too busy to speak in it.
            late.append(took[-1] - max(PROMPT, float(joined.fields["seconds"])))
        heard = " ".join(await transcribed(caller.ear.recording(), sample_rate=EAR_RATE))
        assert "blue door" in heard, heard
    with capsys.disabled():
        figures = ", ".join(f"{each * 1000:.0f}" for each in took)
        sys.stdout.write(f"\ncached greeting: first sample {figures} ms after joining\n")
    assert min(late) <= 0, (took, late)
    async with asyncio.timeout(10.0):
        while not (cached := await units(house, "cached_characters")):  # noqa: ASYNC110  # another process counts
            await asyncio.sleep(0.2)
    assert cached >= len("Good day, this is the Blue Door. How can I help you?")
    assert await units(house, "characters") == 0


async def test_words_are_pronounced_and_shown_as_written_and_the_volume_holds(house: House) -> None:
    async with house.call() as caller:
        spoken = len(caller.ear.recording())
        assert await ask(caller, "What do you run?") == "We run **nginx** here 👋."
        heard = " ".join(await transcribed(caller.ear.recording()[spoken:], sample_rate=EAR_RATE))
    assert "engine" in heard, heard
    loudest = np.abs(caller.ear.recording().astype(np.int32)).max()
    assert 0.4 * 32767 < loudest < 0.6 * 32767, "piper normalises to full scale"
