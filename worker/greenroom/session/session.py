"""What the user's code calls: one conversation between a user and an agent.

What decides is in ``dialog``; what does it, behind this, in ``conversation``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import replace
from typing import Any

from greenroom.audio import AudioFrameLike
from greenroom.dialog.commands import Command
from greenroom.dialog.events import (
    AgentState,
    Detection,
    Event,
    HandOff,
    InterruptAsked,
    Muted,
    Place,
    SpeechRequested,
    TurnCleared,
    UserState,
    UserTyped,
)
from greenroom.dialog.history import ChatContext
from greenroom.providers.llm import LLM, ToolChoice
from greenroom.providers.realtime import RealtimeModel
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.turn import TurnDetector
from greenroom.providers.vad import VAD
from greenroom.session.agent import Agent
from greenroom.session.conversation import Conversation, SessionOptions
from greenroom.session.handle import RUNNING_TOOL, SpeechHandle, UtteranceHandle
from greenroom.session.hooks import EventName
from greenroom.session.media import AudioInput, AudioOutput
from greenroom.session.reply import Content
from greenroom.session.resume import Continuation
from greenroom.session.senses import Providers
from greenroom.session.sources import ToolSource
from greenroom.session.tools import FunctionTool
from greenroom.speech.transforms import TextTransform, Transforms

__all__ = ["AgentSession", "SessionOptions"]


class AgentSession:
    """A conversation between one user and one agent.

    Providers given here are used where the agent brings none of its own. ``turn_detection``,
    ``preemptive_generation``, ``tts_text_transforms`` and ``volume`` take the place of what ``options`` say.
    ``journal`` is told every event that the dialog takes, with its time, before it is handled.
    """

    def __init__(
        self,
        *,
        vad: VAD | None = None,
        stt: STT | None = None,
        llm: LLM | RealtimeModel | None = None,
        tts: TTS | None = None,
        mcp_servers: Sequence[ToolSource] = (),
        turn_detection: Detection | TurnDetector | None = None,
        preemptive_generation: bool | None = None,
        tts_text_transforms: Sequence[TextTransform] | None = None,
        volume: float | None = None,
        options: SessionOptions | None = None,
        userdata: Any = None,
        journal: Callable[[Event, float], None] | None = None,
    ) -> None:
        self.userdata = userdata
        options = options or SessionOptions()
        if tts_text_transforms is not None:
            options = replace(options, transforms=Transforms(tts_text_transforms))
        if volume is not None:
            options = replace(options, volume=volume)
        self._talk = Conversation(
            self,
            Providers(vad, stt, llm, tts),
            options,
            mcp_servers=mcp_servers,
            turn_detection=turn_detection,
            preemptive_generation=preemptive_generation,
            journal=journal,
        )

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(
        self,
        agent: Agent,
        *,
        audio_in: AudioInput | None,
        audio_out: AudioOutput,
        resume: Continuation | None = None,
    ) -> None:
        """Begin to listen and let the agent enter. Without ``audio_in`` it hears text only (``receive_text``).

        ``resume``: the conversation goes on from there, with ``on_resume`` instead of ``on_enter``.
        """
        await self._talk.start(agent, audio_in=audio_in, audio_out=audio_out, resume=resume)

    def go_on(self) -> None:
        """In ``on_resume``: go on where the conversation was when it was cut off.

        What the user said last and nobody has answered is answered; an answer to it takes the place of what was being
        said, where that might be interrupted. Else what was being said is said from where it was cut, or, where its
        words are not known to the end, the model is asked to go on. Then what was to be said next is. In silence
        nothing is said. Of no effect the second time, and where there is nothing to go on with.
        """
        self._talk.go_on()

    def expected_agent(self, name: str) -> Agent | None:
        """Who is to take the conversation under this name, or has it."""
        return self._talk.expected_agent(name)

    def drain(self, seconds: float, *, last: bool) -> None:
        """The worker is to stop: the current agent is told (``on_drain``)."""
        self._talk.drain(seconds, last=last)

    async def aclose(self, reason: str = "closed", *, drain: bool = False) -> None:
        """End the conversation: at once, or (``drain``) when what is waiting has been said. Safe to call twice."""
        await self._talk.aclose(reason, drain=drain)

    async def wait_closed(self) -> str:
        """Until the conversation has ended; the reason."""
        return await self._talk.wait_closed()

    # --- speech -----------------------------------------------------------------------------------------------------

    def say(
        self,
        text: str | AsyncIterable[str] | None = None,
        *,
        audio: AsyncIterable[AudioFrameLike] | None = None,
        allow_interruptions: bool = True,
        add_to_chat_ctx: bool = True,
        priority: int = 5,
        place: Place = "queue",
        ttl: float | None = None,
        key: str = "",
        group: str = "",
        volume: float = 1.0,
    ) -> SpeechHandle:
        """Say something. With ``audio`` that is played, and ``text`` is its transcript; audio alone leaves no trace.

        ``ttl``: seconds after which it is not worth saying any more if its turn has not come. ``key``: dropped while
        another with the same key is waiting or playing. ``group``: a name to interrupt several by. ``volume``: of this
        speech, 0 to 4; the handle's may be changed while it is heard.
        """
        if text is None and audio is None:
            raise ValueError("say() was given neither text nor audio; expected at least one")
        if audio is None:
            self._talk.senses.check_voice(self.current_agent)
        request = SpeechRequested(
            self._talk.new_speech_id(),
            "say",
            priority=priority,
            place=place,
            allow_interruptions=allow_interruptions,
            ttl=ttl,
            key=key,
            group=group,
            stoppable=allow_interruptions,
            text=text if isinstance(text, str) else "",
            in_history=add_to_chat_ctx and text is not None,
        )
        return self._talk.request(request, Content(text=text, audio=audio), volume=volume)

    def generate_reply(
        self,
        *,
        user_input: str = "",
        instructions: str = "",
        chat_ctx: ChatContext | None = None,
        allow_interruptions: bool = True,
        tools: Sequence[FunctionTool | str] | None = None,
        tool_choice: ToolChoice | None = None,
        priority: int = 5,
        place: Place = "queue",
        ttl: float | None = None,
        key: str = "",
        group: str = "",
        stoppable: bool | None = None,
        volume: float = 1.0,
    ) -> SpeechHandle:
        """Have the model say something.

        ``instructions`` are added to the agent's for this reply; ``chat_ctx`` takes the place of the whole context.
        ``user_input`` is told after it. ``tools``: the only ones that the model may call. ``tool_choice``: "auto", but
        "none" inside a tool, since a reply that may call the tool it is awaited in need never end. The rest as in
        ``say``.
        """
        if instructions and chat_ctx is not None:
            raise ValueError(
                "generate_reply() was given both instructions and chat_ctx; "
                "expected one: put the instructions into the chat_ctx, or leave it out"
            )
        names = None if tools is None else tuple(tool if isinstance(tool, str) else tool.name for tool in tools)
        request = SpeechRequested(
            self._talk.new_speech_id(),
            "generate_reply",
            priority=priority,
            place=place,
            allow_interruptions=allow_interruptions,
            ttl=ttl,
            key=key,
            group=group,
            user_input=user_input,
            stoppable=allow_interruptions if stoppable is None else stoppable,
            instructions=instructions,
        )
        choice = tool_choice or ("auto" if RUNNING_TOOL.get() is None else "none")
        content = Content(
            instructions=instructions, chat_ctx=chat_ctx, user_input=user_input, tools=names, tool_choice=choice
        )
        return self._talk.request(request, content, volume=volume)

    def reply(self, instructions: str, wait_for_playback: bool = True, *, interruptible: bool = True) -> SpeechHandle:
        """VideoSDK's word for ``generate_reply``.

        With ``wait_for_playback`` the user does not interrupt it; ``interrupt()`` does, unless it is not
        ``interruptible``.
        """
        return self.generate_reply(
            instructions=instructions,
            allow_interruptions=interruptible and not wait_for_playback,
            stoppable=interruptible,
        )

    @property
    def volume(self) -> float:
        """How loud the agent is: 1 as its voice was made, 0 silent, at most 4. May be set at any time.

        What is heard at that moment goes on at the new volume, without a click, as soon as what is queued has left:
        within a fifth of a second. A speech's own volume (``handle.volume``) is a factor beside it.
        """
        return self._talk.volume

    @volume.setter
    def volume(self, value: float) -> None:
        self._talk.volume = value

    def interrupt(self, *, force: bool = False, group: str = "") -> asyncio.Future[Any]:
        """Stop the current speech and all that wait (or those of a group); protected ones only with ``force``.

        May be awaited until they have ended.
        """
        hit = [
            handle
            for handle in self._talk.stage.live()
            if (force or handle.stoppable) and (not group or handle.group == group)
        ]
        self._talk.ask(InterruptAsked(group=group, force=force))
        return asyncio.gather(*(handle.wait_for_playout() for handle in hit))

    def receive_text(self, text: str) -> None:
        """The user typed a whole turn."""
        if text.strip():
            self._talk.ask(UserTyped(text.strip()))

    @property
    def current_speech(self) -> SpeechHandle | None:
        """Inside a tool the speech that called it; else the one that is heard, or about to be, if there is one."""
        running = RUNNING_TOOL.get()
        if running is not None and not running[0].done():
            return running[0]
        current = self._talk.dialog.current_speech
        return self._talk.stage.handle(current) if current is not None else None

    @property
    def current_utterance(self) -> UtteranceHandle | None:
        """VideoSDK's name for ``current_speech``."""
        return self.current_speech

    # --- turns ------------------------------------------------------------------------------------------------------

    def commit_user_turn(self, *, skip_reply: bool = False) -> asyncio.Future[str]:
        """End the user's turn now, whatever the detection thinks; what is being said is cut there.

        May be awaited for its words, which are empty when there were none. With ``skip_reply`` they join the history,
        and nothing is answered.
        """
        return self._talk.end_turn(skip_reply=skip_reply)

    def clear_user_turn(self) -> None:
        """Forget what the user has said in the turn that is being taken."""
        self._talk.ask(TurnCleared())

    def mute_user(self, muted: bool = True) -> None:
        """Stop listening to the user's voice, or listen again. What is typed is read all the same."""
        self._talk.ask(Muted(muted))

    def update_agent(self, agent: Agent) -> None:
        """Let another agent take the conversation, between two turns: the old one's ``on_exit``, then its
        ``on_enter``. It knows of the conversation what its ``chat_ctx`` was given.
        """
        self._talk.ask(HandOff(self._talk.expect_agent(agent)))

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def history(self) -> ChatContext:
        """The conversation so far; of the agent's words, those that were heard. A copy."""
        return self._talk.history.copy()

    @property
    def current_agent(self) -> Agent:
        """Raises ``RuntimeError`` before ``start``."""
        return self._talk.current_agent

    @property
    def agent_state(self) -> AgentState:
        return self._talk.dialog.agent_state

    @property
    def user_state(self) -> UserState:
        return self._talk.dialog.user_state

    @property
    def wasted_tokens(self) -> int:
        """Pieces of text that the model made for early answers which nobody heard (``preemptive``)."""
        return self._talk.stage.wasted_tokens

    def context(self, *, instructions: str = "") -> ChatContext:
        """What the model would be told now: the agent's instructions (and these), then what it knows was said."""
        return self._talk.context(instructions=instructions)

    def providers(self, agent: Agent | None = None) -> Providers:
        """What the current agent, or another, hears, thinks and speaks with."""
        return self._talk.senses.of(agent or self.current_agent)

    def available_tools(self) -> dict[str, FunctionTool]:
        """What the model may call now, by name: the current agent's tools, then those that MCP servers have told of."""
        return self._talk.available_tools()

    def context_changed(self) -> None:
        """Told by the agent: its instructions, tools or chat context are others now."""
        self._talk.context_changed()

    def watch(self, watcher: Callable[[Command], None]) -> None:
        """Call ``watcher`` with each command of the dialog, before it is performed."""
        self._talk.watch_commands(watcher)

    def on(self, name: EventName, handler: Callable[[Any], object] | None = None) -> Callable[..., Any]:
        """Call ``handler`` at each event of this name (see ``session.hooks``); without one, a decorator."""
        return self._talk.hooks.on(name, handler)

    def off(self, name: EventName, handler: Callable[[Any], object]) -> None:
        self._talk.hooks.off(name, handler)
