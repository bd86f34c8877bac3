"""Journals of whole sessions: what a real conversation tells its journal is enough to have it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom.dialog.dialog import DialogRules
from greenroom.journal.reader import Journal, read
from greenroom.journal.recovery import fold
from greenroom.journal.replay import compare
from greenroom.journal.transcript import transcript
from greenroom.journal.waterfall import turns
from greenroom.journal.writer import JournalWriter, header
from greenroom.providers.llm import ToolCall
from greenroom.session.agent import Agent
from greenroom.session.session import SessionOptions
from greenroom.session.tools import function_tool
from greenroom.testing.providers import Answer, ScriptedTTS
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import Scene, scene

from .calls import path_of

STORY = "A story that is long enough. It is cut off by the user. Nobody knows its end."


def written(folder: Path, s: Scene, rules: DialogRules, *, until: float = 1e9) -> Journal:
    """The scene's journal, and the words that went to its track, as a job writes them."""
    writer = JournalWriter(folder, header(job="j", room="r", agent="a", rules=rules, began=0.0))
    said = [(when, event) for when, name, event in s.events if name == "agent_text" and event.delta]
    records: list[tuple[float, Any, bool]] = [(now, event, False) for now, event in s.journal]
    for now, what, spoken in sorted([*records, *((w, e, True) for w, e in said)], key=lambda r: (r[0], r[2])):
        if now > until:
            break
        if spoken:
            speech, _, step = what.item_id.rpartition(".")
            writer.said(speech, int(step), text=what.delta, now=now)
        else:
            writer.write(what, now)
    return read(path_of(writer))


@virtual_time
async def test_a_session_is_had_back_from_its_journal(tmp_path: Path) -> None:
    async with scene(heard=["hello", "stop"], answers=[STORY, "Fine."]) as s:
        s.user.speak(1.0)
        await s.until(4.0)
        s.user.speak(1.0)
        await s.until(12.0)
        journal = written(tmp_path, s, SessionOptions().rules)
        assert compare(journal) is None
        state = fold(journal)
        assert list(state.history) == list(s.session.history)
        assert (state.speech, state.unanswered, state.owed) == (None, (), False)
        told = [(entry.kind, entry.text) for entry in transcript(journal) if entry.kind in ("user", "agent")]
        assert [text for _, text in told] == [text for _, text in s.said()]


class Weatherman(Agent):
    @function_tool
    async def weather(self, city: str) -> str:
        """Look at the sky."""
        return f"sunny in {city}"


@virtual_time
async def test_the_waits_are_those_that_the_session_measured(tmp_path: Path) -> None:
    rules = DialogRules(preemptive=True)
    slow = Answer("It is noon.", first_token=0.3)
    async with scene(
        agent=Weatherman(),
        heard=["hello", "time", "weather"],
        answers=["Hi.", slow, Answer(calls=(ToolCall("call_1", "weather", '{"city": "Rome"}'),)), "Sunny."],
        options=SessionOptions(rules=rules),
    ) as s:
        for begin in (0.0, 8.0, 16.0):
            await s.until(begin)
            s.user.speak(1.0)
        await s.until(24.0)
        measured = [
            e.metrics for _, name, e in s.events if name == "metrics_collected" and hasattr(e.metrics, "response")
        ]
        journal = written(tmp_path, s, rules)
    answered = [turn for turn in turns(journal) if turn.segments]
    assert len(answered) == 3
    for turn, metrics in zip(answered, [m for m in measured if m.turn in {t.id for t in answered}], strict=False):
        assert turn.id == metrics.turn
        assert turn.total == pytest.approx(metrics.response * 1_000_000, abs=1)
        assert turn.length("hook") == pytest.approx(metrics.hook * 1_000_000, abs=1)
        decided = turn.length("silence") + turn.length("transcript")
        assert decided == pytest.approx(metrics.end_of_turn_delay * 1_000_000, abs=1)
    assert answered[2].length("answer") + answered[2].length("model") + answered[2].length("tools") > 0


@pytest.mark.parametrize("died", [2.5, 4.0, 5.0, 6.0])
def test_what_was_heard_of_a_broken_sentence_is_what_the_track_played(tmp_path: Path, died: float) -> None:
    """Folded from the journal as it was at that moment; the session, which went on, tells how much that really was."""

    @virtual_time
    async def held() -> None:
        async with scene(heard=["hello"], answers=[STORY], tts=ScriptedTTS()) as s:
            s.user.speak(1.0)
            await s.until(died)
            journal = written(tmp_path, s, SessionOptions().rules)
            await s.session.interrupt(force=True)
            really = s.said()[-1][1]
        state = fold(journal, until=died)
        assert state.speech is not None
        heard = state.speech.heard
        assert STORY.startswith(heard)
        assert abs(len(heard.split()) - len(really.split())) <= 2, (heard, really)
        assert f"{heard} {state.speech.remaining}".strip() == STORY

    held()
