"""The example in ``examples/reception.py`` does what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from greenroom.providers import ToolCall
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import scene

FILE = Path(__file__).parents[2] / "examples" / "reception.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reception", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@virtual_time
async def test_a_table_is_booked() -> None:
    agent = load().Reception()
    call = ToolCall("c1", "book_table", '{"people": "four"}')
    wrong = ToolCall("c2", "book_table", '{"people": "twenty"}')
    answers = [Answer(calls=(call,)), "See you tonight.", Answer(calls=(wrong,)), "Sorry, that is too many."]
    async with scene(agent=agent, heard=["a table for four", "and one for twenty"], answers=answers) as s:
        await s.until(8.0)
        assert s.said()[0][1].startswith("Good evening")
        s.user.speak(0.8)
        await s.until(14.0)
        s.user.speak(0.8)
        await s.until(20.0)
        assert agent.tables == [4]
        outputs = [getattr(item, "output", "") for item in s.session.history]
        assert "A table for 4 is booked." in outputs
        assert "We have tables for one to six guests." in outputs
        assert s.said()[-1] == ("assistant", "Sorry, that is too many.")
