"""A person's way in: ``greenroom dev``, its page in a real browser, a spoken question, an answer that can be heard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.browser.conftest import Dev, Open, Speak, running

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.models]

ANSWER_TIMEOUT = 40_000
GREETING = 9.0
"""Seconds until the demonstration has said its greeting: who speaks sooner interrupts it."""

OBSERVE = """
window.seen = {agent: [], connection: []};
new MutationObserver(() => {
  for (const kind of ["agent", "connection"]) {
    const value = document.body.dataset[kind];
    if (window.seen[kind].at(-1) !== value) window.seen[kind].push(value);
  }
}).observe(document, {subtree: true, attributes: true, attributeFilter: ["data-agent", "data-connection"]});
"""

LISTEN = """
async () => {
  const player = document.querySelector('[data-role="agent-audio"]');
  const context = new AudioContext();
  await context.resume();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(player.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  window.heard = {loudest: 0, audible: 0, playing: () => !player.paused && !player.muted && player.volume > 0};
  setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const rms = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    window.heard.loudest = Math.max(window.heard.loudest, rms);
    if (rms > 0.01) window.heard.audible += 0.02;
  }, 20);
}
"""


@pytest.fixture(scope="module")
def dev(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with running(demo, printed=tmp_path_factory.mktemp("dev") / "output") as started:
        yield started


async def talk(browser: Browser, dev: Dev) -> Page:
    """Open the page, press Talk, and listen in on what the agent's element plays."""
    page = await browser.new_page()
    await page.add_init_script(OBSERVE)
    page.on("pageerror", lambda error: pytest.fail(f"the page raised {error}"))
    await page.goto(dev.url)
    await page.get_by_role("button", name="Talk").click()
    await page.wait_for_selector('[data-role="agent-audio"]', state="attached", timeout=20_000)
    await page.evaluate(LISTEN)
    return page


async def said(page: Page, speaker: str) -> list[str]:
    return await page.locator(f'[data-speaker="{speaker}"][data-final="true"] p').all_inner_texts()


async def test_a_spoken_question_is_answered_in_text_and_in_sound(dev: Dev, open_browser: Open, speak: Speak) -> None:
    page = await talk(await open_browser(await speak((GREETING, "What is your name?"))), dev)
    user = page.locator('[data-speaker="user"][data-final="true"]')
    await expect(user.filter(has_text="name")).to_be_visible(timeout=ANSWER_TIMEOUT)
    before = await page.evaluate("window.heard.audible")
    answer = page.locator('[data-speaker="agent"][data-final="true"]').filter(has_text="My name is Joe")
    await expect(answer).to_be_visible(timeout=ANSWER_TIMEOUT)
    assert "welcome" in (await said(page, "agent"))[0].lower(), "the greeting came first"
    assert before > 2.0, "the greeting was heard"
    assert (await page.evaluate("window.heard.audible")) - before > 1.0, "the answer was heard"
    assert await page.evaluate("window.heard.loudest") > 0.02
    assert await page.evaluate("window.heard.playing()")
    await expect(page.locator("body[data-agent=listening]")).to_be_attached(timeout=ANSWER_TIMEOUT)
    seen = await page.evaluate("window.seen.agent")
    spoken = [state for state in seen if state in ("listening", "thinking", "speaking")]
    assert spoken[-3:] == ["thinking", "speaking", "listening"] or spoken[-2:] == ["speaking", "listening"], seen
    assert spoken.count("speaking") >= 2, seen
    await page.get_by_role("button", name="Hang up").click()
    await expect(page.locator("body[data-connection=idle]")).to_be_attached()
    assert (await page.evaluate("window.seen.connection"))[-1] == "idle"
    await expect(page.get_by_role("button", name="Talk")).to_be_enabled()


async def test_talking_over_the_agent_stops_it(dev: Dev, open_browser: Open, speak: Speak) -> None:
    page = await talk(
        await open_browser(await speak((GREETING, "Tell me a story, please."), (7.0, "What is your name?"))), dev
    )
    story = page.locator('[data-speaker="agent"]').filter(has_text="Once upon a time")
    await expect(story).to_be_visible(timeout=ANSWER_TIMEOUT)
    answer = page.locator('[data-speaker="agent"][data-final="true"]').filter(has_text="My name is Joe")
    await expect(answer).to_be_visible(timeout=ANSWER_TIMEOUT)
    assert await story.get_attribute("data-interrupted") == "true"
    assert "lost ship found the harbour" not in await story.inner_text(), "it was stopped long before its end"
    await page.close()


async def test_without_a_microphone_one_can_type(dev: Dev, open_browser: Open) -> None:
    page = await talk(await open_browser(), dev)
    await expect(page.get_by_role("alert")).to_contain_text("No microphone was found")
    await expect(page.locator("body[data-agent=listening]")).to_be_attached(timeout=ANSWER_TIMEOUT)
    await page.get_by_role("textbox", name="Message to the agent").fill("What is your name?")
    await page.keyboard.press("Enter")
    await expect(page.locator('[data-speaker="user"]')).to_contain_text("What is your name?")
    answer = page.locator('[data-speaker="agent"][data-final="true"]').filter(has_text="My name is Joe")
    await expect(answer).to_be_visible(timeout=ANSWER_TIMEOUT)
    await expect(page.locator('[data-speaker="user"]')).to_have_count(1)
    assert await page.evaluate("window.heard.audible") > 1.0
    await page.close()


async def test_the_page_tells_when_greenroom_is_gone_and_nothing_is_left(
    demo: Path, open_browser: Open, speak: Speak, tmp_path: Path
) -> None:
    with running(demo, printed=tmp_path / "output") as dev:
        page = await talk(await open_browser(await speak((60.0, "Hello."))), dev)
        family = dev.family()
        assert len(family) >= 3, "a media server, a worker, a job"
        assert dev.interrupt() == 0, dev.output
        await expect(page.locator("body[data-connection=idle]")).to_be_attached(timeout=40_000)
        await expect(page.get_by_role("alert")).to_be_visible()
        await page.get_by_role("button", name="Talk").click()
        await expect(page.get_by_role("alert")).to_contain_text("greenroom dev does not answer")
    _, alive = psutil.wait_procs(family, timeout=2.0)
    assert not alive
