"""What an agent is: instructions, tools, and what it does when it enters, hears and leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from greenroom.dialog.history import ChatContext, Message
from greenroom.providers.llm import LLM
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.vad import VAD
from greenroom.session.tools import FunctionTool, find_tools

if TYPE_CHECKING:
    from greenroom.session.session import AgentSession

__all__ = ["Agent"]


class Agent:
    """Subclass it, and name the subclass in the YAML: ``agent: module:Class``.

    It is made without arguments, in the job's process, once for each job. Providers that it is given take the place of
    the session's.
    """

    def __init__(
        self,
        *,
        instructions: str = "",
        tools: Sequence[FunctionTool] = (),
        chat_ctx: ChatContext | None = None,
        vad: VAD | None = None,
        stt: STT | None = None,
        llm: LLM | None = None,
        tts: TTS | None = None,
    ) -> None:
        self._instructions = instructions
        self._tools = find_tools(self, tools)
        self._chat_ctx = chat_ctx.copy() if chat_ctx is not None else ChatContext()
        self._session: AgentSession | None = None
        self.vad = vad
        self.stt = stt
        self.llm = llm
        self.tts = tts

    @property
    def instructions(self) -> str:
        return self._instructions

    @property
    def tools(self) -> list[FunctionTool]:
        return list(self._tools.values())

    @property
    def chat_ctx(self) -> ChatContext:
        """The conversation as the model would be told it now, instructions first. ``copy()`` it before changing it."""
        if self._session is not None:
            return self._session.context()
        return self._chat_ctx

    @property
    def session(self) -> AgentSession:
        """The conversation that this agent is in. Raises ``RuntimeError`` before it has entered one."""
        if self._session is None:
            raise RuntimeError("the agent has not entered a session yet; use self.session in on_enter or later")
        return self._session

    def find_tool(self, name: str) -> FunctionTool | None:
        return self._tools.get(name)

    def enter(self, session: AgentSession) -> ChatContext:
        """Told by the session: you are in. Returns the history that the agent brings along."""
        self._session = session
        return self._chat_ctx

    async def on_enter(self) -> None:
        """The agent has entered the conversation: the place to greet."""

    async def on_exit(self) -> None:
        """The conversation is over, or another agent takes it; speech still works for a moment."""

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> Message | None:
        """The user's turn is over and the model is about to be asked.

        ``turn_ctx`` is a copy of the context for this answer: what is added to it the model sees, this once. Return a
        message to replace the user's words; raise ``StopResponse`` to give no answer.
        """
        return None
