"""What the demonstration answers: its rules, in the model that plays them."""

from __future__ import annotations

import re
from contextlib import aclosing
from pathlib import Path

import pytest

from greenroom.dialog.history import ChatContext
from greenroom.providers import LLM, TextDelta, registry
from greenroom.settings import AgentSettings
from greenroom.settings_file import load

DEMO = Path(__file__).parents[2] / "config" / "demo.yaml"


@pytest.fixture(scope="module")
def agent() -> AgentSettings:
    environ = {"LIVEKIT_URL": "ws://h", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s"}
    (only,) = load(DEMO, environ=environ).agents
    return only


@pytest.fixture
def brain(agent: AgentSettings) -> LLM:
    assert agent.llm is not None
    brain = registry.build("llm", agent.llm)
    assert isinstance(brain, LLM)
    return brain


async def answer(brain: LLM, *said: str) -> str:
    context = ChatContext()
    words = ""
    for text in said:
        context.add_message(role="user", content=text)
        async with aclosing(brain.chat(context)) as chunks:
            words = "".join([chunk.text async for chunk in chunks if isinstance(chunk, TextDelta)])
        context.add_message(role="assistant", content=words)
    return words


@pytest.mark.parametrize(
    ("said", "pattern"),
    [
        ("What time is it?", r"It is \d+:\d\d [AP]M\."),
        ("what's the time", r"It is \d+:\d\d [AP]M\."),
        ("Can you tell me what time it is?", r"It is \d+:\d\d [AP]M\."),
        ("What day is it today?", r"Today is \w+day, \w+ \d+\."),
        ("What's today's date?", r"Today is \w+day, \w+ \d+\."),
        ("What is your name?", r"My name is Joe\."),
        ("Who are you?", r"My name is Joe\."),
        ("Tell me a story.", r"Gladly\. Once upon a time"),
        ("Could you tell me a joke, please?", r"Why do actors never get lost\?"),
        ("Help!", r"Ask me what time it is"),
        ("Stop.", r"All right\."),
        ("Thank you very much.", r"You are very welcome\."),
        ("Good bye.", r"Goodbye\."),
        ("Okay, goodbye!", r"Goodbye\."),
        ("Hi there.", r"Hello\. How can I help you\?"),
        (" I like cheese.", r"I heard: I like cheese\. I am afraid"),
        ("...", r"I am sorry, I did not catch that\."),
    ],
)
async def test_what_is_said_is_answered(brain: LLM, said: str, pattern: str) -> None:
    assert re.match(pattern, await answer(brain, said))


async def test_answers_of_one_rule_take_turns(brain: LLM) -> None:
    assert (await answer(brain, "I like tea", "I like rain")).startswith("You said: I like rain. I am sorry")
    assert (await answer(brain, "A joke!", "Another joke!")).startswith("I told my microphone a secret.")


async def test_the_story_is_long_enough_to_be_interrupted(brain: LLM) -> None:
    # About 150 words a minute are spoken.
    assert len((await answer(brain, "Tell me a story")).split()) > 120


def test_it_greets_and_runs_on_this_machine(agent: AgentSettings) -> None:
    assert agent.name == "demo"
    assert agent.greeting.startswith("Hello")
    plugins = [provider.plugin for provider in (agent.vad, agent.stt, agent.llm, agent.tts) if provider]
    assert plugins == ["silero", "whisper", "script", "piper"]
