"""The example in ``examples/hotline.py`` does what it says; ``tests/e2e/test_speech.py`` has it on the real server."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from greenroom.providers import ToolCall
from greenroom.testing.job import RehearsedJob
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import scene

FILE = Path(__file__).parents[2] / "examples" / "hotline.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hotline", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@virtual_time
async def test_the_goodbye_is_heard_before_the_call_ends() -> None:
    job = RehearsedJob()
    job.enter()
    goodbye = Answer("Thank you for calling. Goodbye!", calls=(ToolCall("c1", "end_call", "{}"),))
    async with scene(agent=load().Hotline(), heard=["goodbye then"], answers=[goodbye]) as s:
        await s.until(5.0)
        assert job.endings == []
        s.user.speak(0.8)
        await s.until(12.0)
        ((ended, reason),) = job.endings
        heard = s.out.heard[-1]
        assert reason == "room_deleted"
        assert ended >= heard.at + heard.duration
        assert s.said()[-1] == ("assistant", "Thank you for calling. Goodbye!")
        assert heard.duration > 1.5
