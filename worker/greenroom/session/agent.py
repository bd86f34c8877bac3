"""What an agent is: instructions, tools, and what it does when it enters, hears and leaves."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Sequence
from inspect import getattr_static
from typing import TYPE_CHECKING, ClassVar, final

from greenroom.audio import AudioFrame, AudioFrameLike
from greenroom.dialog.history import ChatContext, Message
from greenroom.providers.llm import LLM, LLMChunk
from greenroom.providers.realtime import RealtimeModel
from greenroom.providers.stt import STT, Transcript
from greenroom.providers.tts import TTS, SynthesizedAudio
from greenroom.providers.vad import VAD
from greenroom.session.knowledge import Knowledge
from greenroom.session.nodes import DefaultNodes, ModelSettings, NodeResult, default_node
from greenroom.session.requests import Accept, JobRequest, Refuse
from greenroom.session.resume import Resumed
from greenroom.session.sources import ToolSource
from greenroom.session.tools import FunctionTool, find_tools

if TYPE_CHECKING:
    from greenroom.session.conversation import SessionOptions
    from greenroom.session.session import AgentSession

__all__ = ["Agent"]

GIVEN = ("id", "instructions", "tools", "chat_ctx", "vad", "stt", "llm", "tts", "mcp_servers")
"""What each agent is given when it is made."""


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
        self.__id = id or _snake_case(type(self).__name__)
        self.__tools = find_tools(self, tools)
        self.__knowledge = Knowledge(chat_ctx or (), instructions=instructions)
        self.__session: AgentSession | None = None
        self.vad = vad
        self.stt = stt
        self.llm = llm
        self.tts = tts
        self.mcp_servers = tuple(mcp_servers)

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if taken := _taken(cls):
            raise TypeError(taken)

    @property
    def id(self) -> str:
        """Its name in events and logs; of its class, where it was given none."""
        return self.__id

    @property
    def instructions(self) -> str:
        return self.known.instructions

    @property
    def tools(self) -> list[FunctionTool]:
        return list(self.__tools.values())

    @property
    def chat_ctx(self) -> ChatContext:
        """The conversation as this agent knows it, instructions first. A copy: see ``update_chat_ctx``."""
        return self.known.context()

    @property
    def known(self) -> Knowledge:
        """What it knows of the conversation, for the session to keep: read ``chat_ctx``, and ``instructions``."""
        try:
            return self.__knowledge
        except AttributeError:
            raise RuntimeError(f"{type(self).__qualname__}.__init__ has not called super().__init__()") from None

    @property
    def session(self) -> AgentSession:
        """The conversation that this agent is in. Raises ``RuntimeError`` before it has entered one."""
        if self.__session is None:
            raise RuntimeError("the agent has not entered a session yet; use self.session in on_enter or later")
        return self.__session

    @final
    def find_tool(self, name: str) -> FunctionTool | None:
        return self.__tools.get(name)

    @final
    async def update_instructions(self, instructions: str) -> None:
        """Change them, from the next answer on; one that was begun early is made again."""
        self.known.instructions = instructions
        self.__changed()

    @final
    async def update_tools(self, tools: Sequence[FunctionTool]) -> None:
        """Let these be all its tools, its methods included: ``[*agent.tools, one_more]`` adds one.

        Raises ``ValueError`` for a name used twice.
        """
        self.__tools = find_tools(None, tools)
        self.__changed()

    @final
    async def update_chat_ctx(self, chat_ctx: ChatContext, *, exclude_invalid_function_calls: bool = True) -> None:
        """Let this be what the agent knows of the conversation. The session's history stays what it was.

        Calls of tools that the agent does not have are left out, with their results; ``exclude_invalid_function_calls``
        keeps them.
        """
        items = list(chat_ctx)
        if exclude_invalid_function_calls:
            known = self.__session.available_tools() if self.__session is not None else self.__tools
            items = [item for item in items if isinstance(item, Message) or item.name in known]
        self.known.replace(items)
        self.__changed()

    def __changed(self) -> None:
        if self.__session is not None:
            self.__session.context_changed()

    # --- told by the session ------------------------------------------------------------------------------------------

    @final
    def enter(self, session: AgentSession, *, before: Agent | None = None) -> ChatContext:
        """You are in, after another agent. Returns the history that the agent brings along.

        One that was given the conversation of the agent ``before`` is given what was said since, too: the words that
        led to the hand-off were not said yet when it was made.
        """
        self.__session = session
        for message in before.known.said_since(self.known) if before is not None else ():
            self.known.remember(message)
        return ChatContext(self.known.items)

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


def _taken(cls: type[Agent]) -> str:
    """What is wrong with a class that has something under a name which is not its own to fill. Empty: nothing."""
    final = [
        name
        for name, member in vars(Agent).items()
        if isinstance(member, property) or getattr(member, "__final__", False)
    ]
    for name in (*GIVEN, *final):
        if getattr_static(cls, name, None) is not getattr_static(Agent, name, None):
            instead = f"give it to super().__init__({name}=...)" if name in GIVEN else "choose another name"
            return f"{cls.__module__}.{cls.__qualname__}.{name}: every Agent has {name} already; {instead}"
    return ""


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
