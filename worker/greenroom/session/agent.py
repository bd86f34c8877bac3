"""What an agent is: instructions, tools, and what it does when it enters, hears and leaves."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from greenroom.audio import AudioFrame, AudioFrameLike
from greenroom.dialog.history import ChatContext, ChatItem, Message
from greenroom.providers.llm import LLM, LLMChunk
from greenroom.providers.realtime import RealtimeModel
from greenroom.providers.stt import STT, Transcript
from greenroom.providers.tts import TTS, SynthesizedAudio
from greenroom.providers.vad import VAD
from greenroom.session.nodes import DefaultNodes, ModelSettings, NodeResult, default_node
from greenroom.session.requests import Accept, JobRequest, Refuse
from greenroom.session.resume import Resumed
from greenroom.session.sources import ToolSource
from greenroom.session.tools import FunctionTool, find_tools

if TYPE_CHECKING:
    from greenroom.session.conversation import SessionOptions
    from greenroom.session.session import AgentSession

__all__ = ["INSTRUCTIONS", "Agent"]

INSTRUCTIONS = "instructions"
"""The id of the message in a context that holds the agent's instructions."""


class Agent:
    """Subclass it, and name the subclass in the YAML: ``agent: module:Class``.

    It is made without arguments, in the job's process, once for each job. Providers that it is given take the place of
    the session's. ``chat_ctx``: what it knows of the conversation when it enters; instructions in it are left out.
    """

    default: ClassVar[type[DefaultNodes]] = DefaultNodes
    """What the nodes do by themselves, for overrides: ``Agent.default.tts_node(self, text, model_settings)``."""

    phrases: ClassVar[Sequence[str]] = ()
    """What it is certain, or likely, to say in the same words: rendered ahead in a warm process (``speech.cache``)."""

    def __init__(
        self,
        *,
        id: str = "",  # noqa: A002  # LiveKit's name for it
        instructions: str = "",
        tools: Sequence[FunctionTool] = (),
        chat_ctx: ChatContext | None = None,
        vad: VAD | None = None,
        stt: STT | None = None,
        llm: LLM | RealtimeModel | None = None,
        tts: TTS | None = None,
        mcp_servers: Sequence[ToolSource] = (),
    ) -> None:
        self._id = id or _snake_case(type(self).__name__)
        self._instructions = instructions
        self._tools = find_tools(self, tools)
        self._items = _without_instructions(chat_ctx) if chat_ctx is not None else []
        self._places = {item.id: place for place, item in enumerate(self._items)}
        self._revision = 0
        self._session: AgentSession | None = None
        self.vad = vad
        self.stt = stt
        self.llm = llm
        self.tts = tts
        self.mcp_servers = tuple(mcp_servers)

    @property
    def id(self) -> str:
        """Its name in events and logs; of its class, where it was given none."""
        return self._id

    @property
    def instructions(self) -> str:
        return self._instructions

    @property
    def tools(self) -> list[FunctionTool]:
        return list(self._tools.values())

    @property
    def chat_ctx(self) -> ChatContext:
        """The conversation as this agent knows it, instructions first. A copy: see ``update_chat_ctx``."""
        return self.context()

    @property
    def revision(self) -> int:
        """How often its context was replaced."""
        return self._revision

    @property
    def session(self) -> AgentSession:
        """The conversation that this agent is in. Raises ``RuntimeError`` before it has entered one."""
        if self._session is None:
            raise RuntimeError("the agent has not entered a session yet; use self.session in on_enter or later")
        return self._session

    def find_tool(self, name: str) -> FunctionTool | None:
        return self._tools.get(name)

    async def update_instructions(self, instructions: str) -> None:
        """Change them, from the next answer on; one that was begun early is made again."""
        self._instructions = instructions
        self._changed()

    async def update_tools(self, tools: Sequence[FunctionTool]) -> None:
        """Let these be all its tools, its methods included: ``[*agent.tools, one_more]`` adds one.

        Raises ``ValueError`` for a name used twice.
        """
        self._tools = find_tools(None, tools)
        self._changed()

    async def update_chat_ctx(self, chat_ctx: ChatContext, *, exclude_invalid_function_calls: bool = True) -> None:
        """Let this be what the agent knows of the conversation. The session's history stays what it was.

        Calls of tools that the agent does not have are left out, with their results; ``exclude_invalid_function_calls``
        keeps them.
        """
        items = _without_instructions(chat_ctx)
        if exclude_invalid_function_calls:
            known = self._session.available_tools() if self._session is not None else self._tools
            items = [item for item in items if isinstance(item, Message) or item.name in known]
        self._items = items
        self._places = {item.id: place for place, item in enumerate(items)}
        self._revision += 1
        self._changed()

    def _changed(self) -> None:
        if self._session is not None:
            self._session.context_changed()

    # --- told by the session ------------------------------------------------------------------------------------------

    def enter(self, session: AgentSession, *, before: Agent | None = None) -> ChatContext:
        """You are in, after another agent. Returns the history that the agent brings along.

        One that was given the conversation of the agent ``before`` is given what was said since, too: the words that
        led to the hand-off were not said yet when it was made.
        """
        self._session = session
        for message in before.said_since(self._places) if before is not None else ():
            self.remember(message)
        return ChatContext(self._items)

    def restore(self, items: Iterable[ChatItem], *, instructions: str | None = None) -> None:
        """Let it know this of a conversation that it had in another process, and be told these instructions."""
        self._items = list(items)
        self._places = {item.id: place for place, item in enumerate(self._items)}
        if instructions is not None:
            self._instructions = instructions

    def said_since(self, known: Collection[str]) -> list[Message]:
        """What was said after the last item whose id is among these; nothing when none is."""
        last = max((place for item, place in self._places.items() if item in known), default=len(self._items))
        return [item for item in self._items[last + 1 :] if isinstance(item, Message)]

    def context(self, *, instructions: str = "") -> ChatContext:
        """What a model is told: the agent's instructions and these, then what it knows of the conversation."""
        text = "\n\n".join(part for part in (self._instructions, instructions) if part)
        system = [Message(INSTRUCTIONS, "system", text)] if text else []
        return ChatContext([*system, *self._items])

    def remember(self, item: ChatItem) -> None:
        """It has become part of the conversation; one of the same id takes that one's place."""
        place = self._places.setdefault(item.id, len(self._items))
        self._items[place : place + 1] = [item]

    # --- hooks --------------------------------------------------------------------------------------------------------

    @classmethod
    async def on_request(cls, request: JobRequest) -> bool | Accept | Refuse:
        """May this job be taken? Asked in a warm process before the server is answered, and before there is an agent.

        ``True`` or ``Accept`` takes it, ``False`` or ``Refuse`` does not: another worker may. It has
        ``worker.deadlines.on_request`` seconds, of which the caller hears each; no answer by then, or an error, is a
        refusal. Agents that do not override it are not asked, which is quicker.
        """
        return True

    def session_options(self, options: SessionOptions) -> SessionOptions:
        """How this conversation is held: asked before it begins, of the agent that begins it.

        ``options`` are the YAML's ``turns``. Return them with ``dataclasses.replace`` to have it otherwise, for one
        caller, tenant or language, such as ``get_job_context().job.metadata`` names them.
        """
        return options

    async def on_enter(self) -> None:
        """The agent has entered the conversation: the place to greet."""

    async def on_resume(self, resumed: Resumed) -> None:
        """The process that held this conversation died, and this one goes on with it: called instead of ``on_enter``.

        What was said is in the history, and this agent is the one that had the conversation, made anew: what it kept in
        attributes is lost. By default it says ``recovery.line``, if there is one, and goes on where it was
        (``session.go_on``). What the user said last joins the history in any case.
        """
        if resumed.line:
            self.session.say(resumed.line)
        self.session.go_on()

    async def on_drain(self, seconds: float, last: bool) -> None:
        """The worker is to stop. The call is ended in ``seconds``, if it does not end by itself.

        Called when that begins, and once more shortly before the end (``last``). By default nothing is done: calls end
        by themselves, mostly.
        """

    async def on_exit(self) -> None:
        """The conversation is over, or another agent takes it; speech still works for a moment."""

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> Message | None:
        """The user's turn is over and the model is about to be asked.

        ``turn_ctx`` is a copy of the context for this answer: what is added to it the model sees, this once. Return a
        message to replace the user's words; raise ``StopResponse`` to give no answer.
        """
        return None

    # --- nodes --------------------------------------------------------------------------------------------------------

    @default_node
    def stt_node(self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings) -> NodeResult[Transcript | str]:
        """The user's voice to words. A ``str`` is a final transcript; ``None``: nothing is transcribed."""
        return self.default.stt_node(self, audio, model_settings)

    @default_node
    def llm_node(
        self, chat_ctx: ChatContext, tools: list[FunctionTool], model_settings: ModelSettings
    ) -> NodeResult[LLMChunk | str]:
        """The conversation to the agent's answer: what is said, and what the history holds. ``None``: no answer."""
        return self.default.llm_node(self, chat_ctx, tools, model_settings)

    @default_node
    def tts_node(
        self, text: AsyncIterable[str], model_settings: ModelSettings
    ) -> NodeResult[AudioFrameLike | SynthesizedAudio]:
        """Words to sound, frames of any rate. What it makes of the words is heard; the history has them as they came.

        ``None``: the words are shown, and not heard.
        """
        return self.default.tts_node(self, text, model_settings)

    @default_node
    def realtime_audio_output_node(
        self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings
    ) -> NodeResult[AudioFrameLike]:
        """The voice of a realtime model to what is heard, frames of any rate. ``None``: its words are only shown."""
        return self.default.realtime_audio_output_node(self, audio, model_settings)

    @default_node
    def transcription_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> NodeResult[str]:
        """The words that are heard, as they are heard, to what is shown. ``None``: nothing is."""
        return self.default.transcription_node(self, text, model_settings)


def _without_instructions(context: ChatContext) -> list[ChatItem]:
    return [item for item in context if item.id != INSTRUCTIONS]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
