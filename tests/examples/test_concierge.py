"""The examples in ``examples/concierge.py`` and ``examples/hotel_tools.py`` do what they say."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from greenroom.dialog.history import FunctionCallOutput
from greenroom.providers import ToolCall
from greenroom.session.handle import SpeechHandle
from greenroom.session.hooks import SpeechCreatedEvent
from greenroom.settings_file import load
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.servers import ListedServer
from tests.session.stage import Scene, scene

FOLDER = Path(__file__).parents[2] / "examples"
SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32}


def concierge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("concierge", FOLDER / "concierge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outputs(s: Scene) -> list[str]:
    return [item.output for item in s.session.history if isinstance(item, FunctionCallOutput)]


def test_its_settings_are_right(tmp_path: Path) -> None:
    text = concierge().__doc__ or ""
    (tmp_path / "worker.yaml").write_text(text[text.index("agents:") :])
    (agent,) = load(tmp_path / "worker.yaml", environ=SERVER).agents
    assert agent.mcp[0].args == ("hotel_tools.py",)


async def test_prices_come_from_the_hotels_server() -> None:
    calls = (ToolCall("c1", "price", '{"room": "double", "nights": 2}'), ToolCall("c2", "price", '{"room": "tower"}'))
    hotel = ListedServer(sys.executable, ["hotel_tools.py"], cwd=FOLDER)
    async with scene(agent=concierge().Concierge(), answers=[Answer(calls=calls), "Yes."], mcp_servers=[hotel]) as s:
        answers: asyncio.Queue[SpeechHandle] = asyncio.Queue()

        def created(event: SpeechCreatedEvent) -> None:
            if not event.user_initiated:
                answers.put_nowait(event.speech_handle)

        s.session.on("speech_created", created)
        await hotel.listed.wait()
        s.session.receive_text("What is a double room?")
        await (await answers.get())
        assert outputs(s)[0] == "240 euros."
        assert outputs(s)[1].endswith("There are no tower rooms; there are single and double ones.")


@virtual_time
async def test_the_restaurant_takes_over() -> None:
    transfer, book = ToolCall("c1", "call_restaurant", ""), ToolCall("c2", "book", '{"people": 3}')
    answers = [Answer(calls=(transfer,)), "Here is the restaurant.", Answer(calls=(book,)), "See you tonight."]
    module = concierge()
    async with scene(agent=module.Concierge(), answers=answers) as s:
        await s.until(6.0)
        s.session.receive_text("The restaurant, please.")
        await s.until(12.0)
        assert isinstance(s.session.current_agent, module.Restaurant)
        s.session.receive_text("A table for three.")
        await s.until(18.0)
        assert outputs(s)[-1] == "A table for 3 is booked."
        assert s.said()[-1] == ("assistant", "See you tonight.")


@virtual_time
async def test_tickets_are_told_of_after_an_interruption() -> None:
    search = ToolCall("c1", "find_tickets", '{"show": "Carmen"}')
    answers = [Answer("I shall look for it, one moment please.", calls=(search,)), "At noon.", "I have two seats."]
    async with scene(agent=concierge().Concierge(), heard=["when is breakfast"], answers=answers) as s:
        await s.until(6.0)
        s.session.receive_text("Tickets for Carmen, please.")
        await s.until(7.0)
        s.user.speak(0.8)
        await s.until(16.0)
        assert outputs(s) == ["There are two seats left for Carmen, at eight."]
        assert s.said()[-2:] == [("assistant", "At noon."), ("assistant", "I have two seats.")]
