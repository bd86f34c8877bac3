"""A question that is asked, and over, before the agent is in the room."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

import numpy as np
from playwright.async_api import Page

from greenroom.embedded.measure import audible_span
from greenroom.embedded.utterance import spoken
from tests.instant.runs import House
from tests.instant.words import SAMPLE_RATE, Source

__all__ = ["Answer", "ask"]

QUESTION = "What time is it?"
EXPECTED = "It is half past four in the afternoon."
LEAD = 0.2
PATIENCE = 30.0

EAR = """
new MutationObserver(async (_, observer) => {
  const player = document.querySelector('[data-role="agent-audio"]');
  if (!player?.srcObject) return;
  observer.disconnect();
  const context = new AudioContext();
  await context.resume();
  const analyser = new AnalyserNode(context, { fftSize: 512 });
  context.createMediaStreamSource(player.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    if (Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length) < 0.01) return;
    clearInterval(timer);
    audible();
  }, 5);
}).observe(document, { subtree: true, childList: true });
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """``early``: how long the question was over when the agent joined. ``delay``: from then until the answer could be
    heard in the browser. ``heard``: the question as the agent understood it. Seconds."""

    asked: str
    early: float
    delay: float
    heard: str
    answer: str

    @property
    def failures(self) -> list[str]:
        found = [] if _words(self.heard) == _words(self.asked) else [f"the question was heard as {self.heard!r}"]
        if self.early <= 0:
            found.append("the agent joined before the question was over")
        return found if self.answer == EXPECTED else [*found, f"the answer was {self.answer!r}"]


async def ask(house: House, *, dispatch: float) -> Answer:
    """Ask on the project's page, and call an agent with local models so long after capture began.

    Raises ``TimeoutError`` when there is no answer.
    """
    question = (await spoken(QUESTION, sample_rate=SAMPLE_RATE)).pcm
    span = audible_span(question, sample_rate=SAMPLE_RATE)
    assert span is not None
    lead, rest = round(LEAD * SAMPLE_RATE), np.zeros(40 * SAMPLE_RATE, dtype=np.int16)
    pcm = np.concatenate([np.zeros(lead, dtype=np.int16), question, rest])
    loop = asyncio.get_running_loop()
    audible: asyncio.Future[float] = loop.create_future()

    def hear() -> None:
        if not audible.done():
            audible.set_result(time.monotonic())

    async def prepare(page: Page) -> None:
        await page.expose_function("audible", hear)
        await page.add_init_script(EAR)

    house.relay.delay = 0.0
    call = await house.front.call(house.browser, "page", Source(pcm, ()), prepare=prepare)
    try:
        await house.dispatch(call, "answers", after=dispatch)
        joined = await house.joined(call)
        async with asyncio.timeout(PATIENCE):
            first = await audible
            heard = await _line(call.page, "user")
            answer = await _line(call.page, "agent")
        await house.end(call)
    finally:
        await call.end()
    ended = call.began + (lead + span[1]) / SAMPLE_RATE
    return Answer(QUESTION, early=joined - ended, delay=first - joined, heard=heard, answer=answer)


async def _line(page: Page, speaker: str) -> str:
    """What the page shows of this side, once it is final."""
    line = page.locator(f'[data-speaker="{speaker}"][data-final="true"] p').first
    await line.wait_for(timeout=PATIENCE * 1000)
    return await line.inner_text()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
