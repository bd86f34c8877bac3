"""What an agent hears, thinks and speaks with: its own providers or the session's, and its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from greenroom.dialog.commands import Command
from greenroom.dialog.events import Event
from greenroom.dialog.history import ChatContext
from greenroom.providers.llm import LLM, ToolChoice
from greenroom.providers.realtime import RealtimeModel, RealtimeRequest
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.vad import VAD
from greenroom.session.agent import Agent
from greenroom.session.hearing import Ears, Hearing
from greenroom.session.media import AudioInput
from greenroom.session.nodes import NodeSTT, is_default, speak, think
from greenroom.session.outlet import through_node
from greenroom.session.realtime import Mirror
from greenroom.session.reply import Content, Source, Voicing
from greenroom.session.tools import FunctionTool

if TYPE_CHECKING:
    from greenroom.session.conversation import Conversation, SessionOptions

__all__ = ["Asked", "Providers", "Senses"]


@dataclass(frozen=True, slots=True)
class Providers:
    """The session's, for agents that bring none of their own."""

    vad: VAD | None = None
    stt: STT | None = None
    llm: LLM | RealtimeModel | None = None
    tts: TTS | None = None

    def of(self, agent: Agent) -> Providers:
        """Those that an agent uses."""
        return Providers(agent.vad or self.vad, agent.stt or self.stt, agent.llm or self.llm, agent.tts or self.tts)


@dataclass(frozen=True, slots=True)
class Asked:
    """A step of a speech that a model is to make.

    ``context``: handed over, for this step alone. ``tools``: all that the agent has.
    """

    speech: str
    step: int
    content: Content
    context: ChatContext
    tools: Sequence[FunctionTool]
    tool_choice: ToolChoice


class Senses:
    """A session's. A realtime model keeps its memory from one agent to the next that uses it.

    ``sample_rate``: of the audio that leaves, Hz. ``recall``: seconds of audio that the turn detector is given.
    """

    def __init__(
        self,
        talk: Conversation,
        providers: Providers,
        options: SessionOptions,
        *,
        sample_rate: int,
        recall: float,
    ) -> None:
        self._talk = talk
        self._providers = providers
        self._options = options
        self._by_model = options.rules.turns.detection == "realtime"
        self._sample_rate = sample_rate
        self._recall = recall
        self._audio: AudioInput | None = None
        self._ears = Ears()
        self._listening: asyncio.Task[None] | None = None
        self._mirror: Mirror | None = None
        self.hearing: Hearing | None = None

    def of(self, agent: Agent) -> Providers:
        """An agent's providers: its own, else the session's."""
        used = self._providers.of(agent)
        self._talk.watching.watch(used.vad, used.stt, used.llm, used.tts)
        return used

    # --- hearing ----------------------------------------------------------------------------------------------------

    def listen(self, audio: AudioInput, agent: Agent, tools: Sequence[FunctionTool]) -> None:
        """Begin to hear. Raises ``ValueError`` where the agent could hear nothing."""
        self._audio = audio
        self._hear(self._find_ears(agent, tools))

    async def refit(self, agent: Agent, tools: Sequence[FunctionTool]) -> None:
        """Another agent has come: hear with its ears, if they are others; an utterance that is open is cut there.

        Raises ``ValueError`` as ``listen`` does, and goes on with the ears there are.
        """
        if self._audio is None:
            return
        ears = self._find_ears(agent, tools)
        if ears == self._ears:
            return
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        self._hear(ears)

    def _hear(self, ears: Ears) -> None:
        self._ears = ears
        if self._audio is None or ears == Ears():
            return
        self.hearing = Hearing(
            ears,
            rules=self._options.voice,
            padding=self._options.padding,
            feed=self._talk.feed,
            failed=self._talk.report,
            measured=self._talk.measured,
        )
        if self._recall:
            self.hearing.keep(self._recall)
        self._listening = self._talk.spawn(self.hearing.run(self._audio), name="hearing")

    def _find_ears(self, agent: Agent, tools: Sequence[FunctionTool]) -> Ears:
        used = self.of(agent)
        vad = None if self._by_model else used.vad
        if self._by_model and not isinstance(used.llm, RealtimeModel):
            raise ValueError("the turn detection is realtime, and the agent's llm is no realtime model")
        if isinstance(used.llm, RealtimeModel) and not used.llm.transcribes and used.stt is None and vad is not None:
            name = type(used.llm).__name__
            raise ValueError(f"{name} does not tell what the user says; add an stt, or let it detect the turns")
        stt = used.stt
        if not is_default(agent.stt_node):
            rate = stt.sample_rate if stt is not None else vad.sample_rate if vad is not None else NodeSTT.sample_rate
            stt = NodeSTT(agent, sample_rate=rate)
        ears = Ears(vad, stt)
        ears.check(alone=not isinstance(used.llm, RealtimeModel))
        if not isinstance(used.llm, RealtimeModel):
            self._leave_mirror()
            return ears
        mirror = self._mirror_of(used.llm, agent, tools, detect_speech=vad is None)
        return replace(ears, model=mirror.session, model_rate=mirror.model.sample_rate)

    # --- thinking and speaking --------------------------------------------------------------------------------------

    def source(self, agent: Agent, asked: Asked) -> Source:
        """Who makes a step: the realtime model, ``llm_node``, or the language model."""
        model, names = self.of(agent).llm, asked.content.tools
        tools = [tool for tool in asked.tools if names is None or tool.name in names]
        if not isinstance(model, RealtimeModel):
            ask = partial(think, agent, model, asked.context, tools=tools, tool_choice=asked.tool_choice)
            return Source(ask, tools, label=model.label if model is not None else type(agent).__name__)
        mirror = self._mirror_of(model, agent, asked.tools)
        request = RealtimeRequest(
            f"{asked.speech}.{asked.step}",
            instructions=asked.content.instructions or None,
            tools=None if names is None else tuple(tool.schema() for tool in tools),
            tool_choice=asked.tool_choice,
            chat_ctx=asked.context if asked.content.chat_ctx is not None else None,
        )
        said = partial(mirror.respond, request, agent=agent, tools=asked.tools, context=asked.context)
        if model.speaks and not is_default(agent.realtime_audio_output_node):
            return Source(lambda: through_node(agent, said()), tools, voiced=True, label=model.label)
        return Source(said, tools, voiced=model.speaks, label=model.label)

    def voicing(self, agent: Agent) -> Voicing:
        """Who speaks: ``tts_node``, or the voice; what they are given has been rewritten."""
        tts, transforms = self.of(agent).tts, self._options.transforms
        label = tts.label if tts is not None else type(agent).__name__
        return Voicing(lambda text: speak(agent, tts, transforms.rest(text)), label, transforms.rewriting)

    def spoken_by_model(self, agent: Agent) -> bool:
        """Whether the only voice is a realtime model's, which speaks what it makes itself."""
        used = self.of(agent)
        return used.tts is None and isinstance(used.llm, RealtimeModel) and is_default(agent.tts_node)

    def check_voice(self, agent: Agent) -> None:
        """Raises ``RuntimeError`` where words that are given cannot be spoken."""
        if self.spoken_by_model(agent):
            raise RuntimeError(
                "say() was given text, and there is no voice for it: a realtime model speaks what it makes itself. "
                "Add a TTS plugin to the session (tts=...), or use generate_reply()"
            )

    def watch(self, what: Event | Command) -> None:
        """An event on its way to the dialog, or a command that it gave: the model's memory follows."""
        if self._mirror is not None:
            self._mirror.watch(what)

    def _mirror_of(
        self, model: RealtimeModel, agent: Agent, tools: Sequence[FunctionTool], *, detect_speech: bool | None = None
    ) -> Mirror:
        """A model's conversation: the one that there is, if it is the same model's and hears as it is to."""
        mirror = self._mirror
        if mirror is None or mirror.model is not model or detect_speech not in (None, mirror.detects):
            self._leave_mirror()
            mirror = self._mirror = Mirror(model, detect_speech=bool(detect_speech), sample_rate=self._sample_rate)
            mirror.update(agent, tools)
            self._talk.spawn(mirror.run(), name="realtime model")
        return mirror

    def _leave_mirror(self) -> None:
        if self._mirror is not None:
            self._mirror.leave()
        self._mirror = None
