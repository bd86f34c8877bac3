"""The example in ``examples/switchboard.py`` does what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from greenroom.audio import rms
from greenroom.dialog.events import AgentState
from greenroom.providers import ToolCall
from greenroom.settings_file import load
from greenroom.testing.job import RehearsedJob
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.background.stage import played
from tests.session.stage import scene

FILE = Path(__file__).parents[2] / "examples" / "switchboard.py"
SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32}


def switchboard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("switchboard", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Job(RehearsedJob):
    """With a room in which only the sound is there."""

    def __init__(self, stage: Any) -> None:
        super().__init__()
        self._stage = stage

    @property
    def room(self) -> Any:
        return self._stage


def test_its_settings_are_right(tmp_path: Path) -> None:
    text = switchboard().__doc__ or ""
    (tmp_path / "worker.yaml").write_text(text[text.index("agents:") :])
    (agent,) = load(tmp_path / "worker.yaml", environ=SERVER).agents
    assert agent.agent == "switchboard:Switchboard"


@virtual_time
async def test_an_office_is_heard_then_music_for_as_long_as_the_caller_is_on_hold() -> None:
    agent = switchboard().Switchboard()
    answers = [Answer(calls=(ToolCall("c1", "connect", '{"department": "bookings"}'),)), "I am sorry."]
    async with played() as stage:
        Job(stage).enter()
        async with scene(agent=agent, heard=["bookings please"], answers=answers) as s:
            await s.until(6.0)
            s.user.speak(0.8)
            await s.until(25.0)
            (wait,) = s.times("function_tools_executed")
            before, held = stage.source.heard(5.0, 5.9), stage.source.heard(wait - 6.0, wait - 1.0)
            after = stage.source.heard(24.0, 24.9)
            assert 100 < rms(before) < 800
            assert rms(held) > 3 * rms(before)
            assert rms(after) < 2 * rms(before)
            assert s.times("agent_state_changed", new_state=AgentState.THINKING)
            assert s.said()[-1] == ("assistant", "I am sorry.")
