"""The program and the turns: ending, clearing, muting, hand-off, dead air, detectors, in whole sessions."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from greenroom import Agent, ChatContext, RunContext, function_tool
from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.endpoint import EndpointRules
from greenroom.dialog.events import EndReason
from greenroom.dialog.interruption import InterruptionRules
from greenroom.dialog.turns import TurnRules
from greenroom.providers import ToolCall
from greenroom.providers.turn import Heard as TurnHeard
from greenroom.providers.turn import TurnDetector
from greenroom.session.session import SessionOptions
from greenroom.testing.providers import Answer, Heard, ScriptedTTS
from greenroom.testing.virtual_time import virtual_time

from .stage import scene

MANUAL = SessionOptions(rules=DialogRules(turns=TurnRules(detection="manual")))


# --- the program ends turns -----------------------------------------------------------------------------------------


@virtual_time
async def test_push_to_talk() -> None:
    async with scene(heard=["what time is it"], answers=["Noon."], options=MANUAL) as s:
        s.user.speak(1.0)
        await s.until(5.0)
        assert s.said() == []
        assert await s.session.commit_user_turn() == "what time is it"
        await s.until(8.0)
        assert s.said() == [("user", "what time is it"), ("assistant", "Noon.")]


@virtual_time
async def test_a_turn_is_ended_while_it_is_spoken() -> None:
    async with scene(heard=["the first half", "the second"], answers=["Aha."], options=MANUAL) as s:
        s.user.speak(3.0)
        await s.until(1.5)
        assert await s.session.commit_user_turn() == "the first half"
        await s.until(8.0)
        assert s.said() == [("user", "the first half"), ("assistant", "Aha.")]
        assert await s.session.commit_user_turn(skip_reply=True) == "the second"
        await s.until(12.0)
        assert s.said()[2:] == [("user", "the second")]
        assert await s.session.commit_user_turn() == "", "there was nothing more"


@virtual_time
async def test_a_cleared_turn_is_forgotten() -> None:
    async with scene(heard=["forget this", "but not this"], answers=["Yes."]) as s:
        s.user.speak(1.0)
        await s.until(1.3)
        s.session.clear_user_turn()
        await s.until(4.0)
        s.user.speak(1.0)
        await s.until(9.0)
        assert s.said() == [("user", "but not this"), ("assistant", "Yes.")]


@virtual_time
async def test_a_muted_user_is_not_heard() -> None:
    async with scene(heard=["to somebody else", "to you"], answers=["Yes."]) as s:
        s.session.mute_user()
        s.user.speak(1.0)
        await s.until(4.0)
        s.session.mute_user(False)
        s.user.speak(1.0)
        await s.until(9.0)
        assert s.said() == [("user", "to you"), ("assistant", "Yes.")]


@virtual_time
async def test_a_turn_that_is_too_long_is_cut_and_answered() -> None:
    options = SessionOptions(rules=DialogRules(turns=TurnRules(max_duration=5.0)))
    async with scene(
        heard=["and then", "and then again"], answers=["Let me answer.", "And this."], options=options
    ) as s:
        s.user.speak(8.0)
        await s.until(6.5)
        assert s.said()[:1] == [("user", "and then")]
        assert s.times("user_turn_exceeded") == [pytest.approx(5.0, abs=0.05)]
        assert s.out.heard, "the agent cuts in"
        await s.until(14.0)
        assert s.said() == [
            ("user", "and then"),
            ("assistant", "Let me answer."),
            ("user", "and then again"),
            ("assistant", "And this."),
        ]


@virtual_time
async def test_the_user_goes_away_and_comes_back() -> None:
    options = SessionOptions(rules=DialogRules(away_after=15.0))
    async with scene(heard=["here"], answers=["Hello."], options=options) as s:
        await s.session.say("Hello?")
        quiet = asyncio.get_running_loop().time()
        await s.until(40.0)
        assert s.times("user_state_changed", new_state="away") == [pytest.approx(quiet + 15.0, abs=0.1)]
        s.user.speak(1.0)
        await s.until(45.0)
        assert s.said()[-1] == ("assistant", "Hello.")


# --- detectors ------------------------------------------------------------------------------------------------------


class Grammar(TurnDetector):
    """What ends with "a" goes on."""

    def __init__(self) -> None:
        self.asked: list[TurnHeard] = []

    async def probability(self, heard: TurnHeard) -> float:
        self.asked.append(heard)
        await asyncio.sleep(0.03)
        return 0.1 if heard.text.endswith(" a") else 0.9


@virtual_time
async def test_a_detector_waits_for_who_has_not_finished() -> None:
    detector = Grammar()
    heard = ["I would like a", "table for two"]
    async with scene(heard=heard, answers=["Of course."], turn_detection=detector) as s:
        s.user.speak(1.0)
        s.user.silence(1.5)
        s.user.speak(1.0)
        await s.until(9.0)
        assert s.said()[0] == ("user", "I would like a table for two")
        assert [heard.text for heard in detector.asked] == ["I would like a", "I would like a table for two"]
        assert [m.text for m in detector.asked[1].context.messages()] == ["Be brief.", "I would like a table for two"]


class Broken(TurnDetector):
    async def probability(self, heard: TurnHeard) -> float:
        await asyncio.get_running_loop().create_future()
        return 0.0


@virtual_time
async def test_a_detector_that_hangs_costs_its_timeout_at_most() -> None:
    async with scene(heard=["hello"], answers=["Hi."], turn_detection=Broken()) as s:
        utterance = s.user.speak(1.0)
        await s.until(9.0)
        assert utterance.end is not None
        assert s.said() == [("user", "hello"), ("assistant", "Hi.")]
        assert s.times("error", source="turn_detector") == [pytest.approx(utterance.end + 1.35, abs=0.1)]


@virtual_time
async def test_a_detector_for_sound_is_given_the_turn() -> None:
    class Ear(TurnDetector):
        modality = "audio"
        sample_rate = 8000
        seconds = 2.0
        heard: TurnHeard | None = None

        async def probability(self, heard: TurnHeard) -> float:
            self.heard = heard
            return 0.9

    ear = Ear()
    async with scene(heard=["hello"], answers=["Hi."], turn_detection=ear) as s:
        s.user.silence(5.0)
        s.user.speak(1.0)
        await s.until(9.0)
        assert ear.heard is not None
        assert ear.heard.audio is not None
        assert ear.heard.audio.sample_rate == 8000
        assert ear.heard.audio.duration == pytest.approx(2.0, abs=0.05)
        assert abs(ear.heard.audio.pcm[-12000:-4000].astype(float)).mean() > 100, "the voice is in it"


# --- hand-off -------------------------------------------------------------------------------------------------------


class Sales(Agent):
    def __init__(self, chat_ctx: ChatContext | None = None) -> None:
        super().__init__(instructions="Sell.", chat_ctx=chat_ctx)

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="greet")


class Reception(Agent):
    def __init__(self, *, history: bool, result: str = "") -> None:
        super().__init__(instructions="Receive.")
        self.history = history
        self.result = result
        self.left = False

    @function_tool
    async def transfer(self, ctx: RunContext) -> Agent | tuple[Agent, str]:
        """Hand over to sales."""
        sales = Sales(self.chat_ctx if self.history else None)
        return (sales, self.result) if self.result else sales

    async def on_exit(self) -> None:
        self.left = True


TRANSFER = Answer("One moment.", calls=(ToolCall("c1", "transfer", "{}"),))


@pytest.mark.parametrize("history", [True, False])
@virtual_time
async def test_another_agent_takes_the_conversation(history: bool) -> None:
    reception = Reception(history=history)
    async with scene(agent=reception, answers=[TRANSFER, "Welcome to sales.", "Two euros."]) as s:
        s.session.receive_text("sales, please")
        await s.until(6.0)
        assert reception.left
        assert isinstance(s.session.current_agent, Sales)
        (handed,) = [event for _, name, event in s.events if name == "agent_handed_off"]
        assert (handed.old_agent, handed.new_agent) == (reception, s.session.current_agent)
        s.session.receive_text("how much")
        await s.until(12.0)
        told = [message.text for message in s.llm.contexts[-1].messages()]
        earlier = ["sales, please", "One moment."] if history else []
        assert told == ["Sell.", *earlier, "Welcome to sales.", "how much"]
        whole = ["sales, please", "One moment.", "Welcome to sales.", "how much", "Two euros."]
        assert [text for _, text in s.said()] == whole, "the session's history is the whole conversation"


@virtual_time
async def test_the_old_agent_says_what_came_with_the_hand_off() -> None:
    reception = Reception(history=False, result="Say goodbye.")
    async with scene(agent=reception, answers=[TRANSFER, "Goodbye.", "Welcome to sales."]) as s:
        s.session.receive_text("sales, please")
        await s.until(9.0)
        assert [text for _, text in s.said()] == ["sales, please", "One moment.", "Goodbye.", "Welcome to sales."]
        assert s.llm.contexts[1].messages()[0].text == "Receive."
        assert s.llm.contexts[2].messages()[0].text == "Sell.\n\ngreet"


@virtual_time
async def test_the_program_changes_the_agent() -> None:
    async with scene(answers=["Welcome to sales.", "Yes."]) as s:
        s.session.update_agent(Sales())
        s.session.receive_text("hello")
        await s.until(6.0)
        assert {context.messages()[0].text for context in s.llm.contexts} == {"Sell.", "Sell.\n\ngreet"}
        assert ("assistant", "Yes.") in s.said()


# --- dead air -------------------------------------------------------------------------------------------------------

GUARD = DeadAirRules(
    enabled=True,
    hold_after=3.0,
    fallback_after=3.0,
    end_after=3.0,
    hold_phrase="One moment.",
    fallback_phrase="Sorry, once more?",
    end_phrase="Goodbye.",
)


@virtual_time
async def test_a_model_that_stalls_is_bridged_and_given_up() -> None:
    answers = [Answer("never", failure="stall"), "Here I am."]
    options = SessionOptions(rules=DialogRules(dead_air=GUARD))
    async with scene(answers=answers, options=options) as s:
        s.session.receive_text("hello")
        await s.until(9.0)
        assert [text for _, text in s.said()] == ["hello", "One moment.", "Sorry, once more?"]
        assert [event.step for _, name, event in s.events if name == "dead_air"] == ["hold", "fallback"]
        s.session.receive_text("hello again")
        await s.until(14.0)
        assert s.said()[-1] == ("assistant", "Here I am.")
        assert s.llm.closed_early == 1


@virtual_time
async def test_a_voice_of_silence_is_noticed_on_the_outgoing_audio() -> None:
    class Mute(ScriptedTTS):
        def _tone(self, seconds: float) -> list:  # type: ignore[type-arg]
            return [pcm * 0 for pcm in super()._tone(seconds)]

    options = SessionOptions(rules=DialogRules(dead_air=GUARD))
    async with scene(tts=Mute(seconds_per_character=0.5), options=options) as s:
        handle = s.session.say("Nobody can hear what I say here.")
        await s.until(7.0)
        assert (handle.reason, str(handle.exception())) == (EndReason.FAILED, "nothing was audible for 3.0 s")
        await s.until(30.0)
        assert await s.session.wait_closed() == "dead air"


@virtual_time
async def test_a_caller_who_is_not_there_is_no_dead_air() -> None:
    options = SessionOptions(rules=DialogRules(dead_air=GUARD))
    async with scene(ready=False, options=options) as s:
        handle = s.session.say("Hello.")
        await s.until(60.0)
        assert s.times("dead_air") == []
        s.out.set_ready(True)
        await handle
        assert handle.reason is EndReason.FINISHED


# --- the rest of the rules ------------------------------------------------------------------------------------------


@virtual_time
async def test_an_early_answer_may_have_its_sound_made_too() -> None:
    async def lag(options: SessionOptions) -> float:
        async with scene(heard=["what time is it"], answers=["It is noon."], options=options) as s:
            question = s.user.speak(1.0)
            await asyncio.sleep(8.0)
            assert s.said() == [("user", "what time is it"), ("assistant", "It is noon.")]
            assert question.end is not None
            return s.out.heard[0].at - question.end

    endpoint = EndpointRules(min_delay=1.0)
    rules = DialogRules(turns=TurnRules(endpoint=endpoint), preemptive=True)
    plain = await lag(SessionOptions(rules=rules))
    early = await lag(SessionOptions(rules=replace(rules, preemptive_tts=True)))
    assert early == pytest.approx(1.0, abs=0.04), "when the turn ends it is there"
    assert plain - early == pytest.approx(0.05, abs=0.01), "the voice's first audio"


@virtual_time
async def test_a_handle_knows_its_times_and_state() -> None:
    async with scene(answers=["A second one."]) as s:
        first, second = s.session.say("The first one."), s.session.generate_reply()
        assert (first.scheduled, first.state, second.state) == (True, "authorised", "queued")
        assert (first.created, first.authorised, first.started, first.ended) == (0.0, 0.0, None, None)
        await s.until(0.5)
        assert first.state == "playing"
        assert first.started == pytest.approx(0.05, abs=0.001)
        await first
        assert second.authorised == first.ended
        await second
        assert (second.state, second.reason) == ("ended", EndReason.FINISHED)


@virtual_time
async def test_a_speech_that_is_cut_off_fades() -> None:
    options = SessionOptions(rules=DialogRules(interruption=InterruptionRules(pause=False)), fade=0.02)
    async with scene(heard=[Heard("stop")], answers=["Yes."], options=options) as s:
        handle = s.session.say("This goes on for a good while, or would.")
        await s.until(1.0)
        await s.session.interrupt()
        assert handle.interrupted
        await s.until(2.0)
        (heard,) = s.out.heard
        tail = abs(heard.pcm[-480:].astype(int))
        peak = [np.max(tail[at : at + 60]) for at in range(0, 480, 60)]
        assert peak == sorted(peak, reverse=True)
        assert peak[-1] < 1500 < 7000 < np.max(abs(heard.pcm[-2000:-1000]))
        assert handle.heard_seconds == pytest.approx(s.out.heard_seconds)
