"""What a job writes down of its agents: enough to make them again, as they were, with what they knew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from greenroom import Agent, ChatContext, function_tool
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import Event
from greenroom.job.record import CallRecord
from greenroom.job.resume import begin
from greenroom.journal.reader import read
from greenroom.journal.recovery import CallState, carried_over, fold
from greenroom.journal.writer import header
from greenroom.providers import ToolCall
from greenroom.session.resume import Continuation, Resumed
from greenroom.session.session import AgentSession
from greenroom.settings import JournalSettings
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import Scene, scene


class Clerk(Agent):
    def __init__(self, chat_ctx: ChatContext | None = None, *, customer: str = "nobody") -> None:
        super().__init__(instructions=f"You serve {customer}.", chat_ctx=chat_ctx)

    @function_tool
    async def transfer(self) -> tuple[Agent, str]:
        """Hand over."""
        return Clerk(customer="Ann"), "It is done."


class Book:
    """A record and the session that it is of."""

    def __init__(self, folder: Path, agent: Agent, *, continuation: Continuation | None = None) -> None:
        self.agent = agent
        self.continuation = continuation
        self._folder = folder
        self._record: CallRecord | None = None

    def follow(self, session: AgentSession) -> Callable[[Event, float], None]:
        start = begin(self.agent)
        history = self.continuation.history if self.continuation is not None else start.history
        head = header(job="AJ", room="r", agent="", rules=DialogRules(), began=0.0, history=history)
        self._record = CallRecord(self._folder, head, settings=JournalSettings())
        start = type(start)(self.agent, self.continuation, history)
        self._record.follow(session, start)
        return self._record.event

    def state(self) -> CallState:
        assert self._record is not None
        return fold(read(Path(self._record.path)))

    def agrees(self, s: Scene) -> bool:
        """The journal knows of the agent what the agent knows of itself."""
        state, agent = self.state(), s.session.current_agent
        known = state.history if state.agent.known is None else state.agent.known
        told = state.agent.instructions
        return list(known) == agent.known.items and (told is None or told == agent.instructions)


@virtual_time
async def test_an_agent_that_forgets_and_is_told_something_else(tmp_path: Path) -> None:
    clerk = Clerk()
    book = Book(tmp_path, clerk)
    answers = ["One.", "Two.", "Three."]
    async with scene(agent=clerk, prepare=book.follow, answers=answers) as s:
        s.session.receive_text("first")
        await s.until(5.0)
        s.session.receive_text("second")
        await s.until(10.0)
        assert book.state().agent.known is None
        context = clerk.chat_ctx
        summary = ChatContext(context.items[-2:])
        summary.add_message(role="system", content="They said something first.")
        await clerk.update_chat_ctx(summary)
        await clerk.update_instructions("You are in a hurry.")
        s.session.receive_text("third")
        await s.until(15.0)
        assert book.agrees(s)
        state = book.state()
        assert state.agent.instructions == "You are in a hurry."
        assert state.agent.known is not None
        assert len(state.agent.known) < len(state.history)


@virtual_time
async def test_an_agent_that_came_later_was_made_with_arguments(tmp_path: Path) -> None:
    clerk = Clerk()
    book = Book(tmp_path, clerk)
    answers = [Answer("I put you through.", calls=(ToolCall("c", "transfer", "{}"),)), "Yes?"]
    async with scene(agent=clerk, prepare=book.follow, answers=answers) as s:
        s.session.receive_text("Ann, please")
        await s.until(0.8)
        coming = book.state().coming
        assert coming is not None
        assert (coming.agent_class, coming.instructions) == ("tests.job.test_record:Clerk", "You serve Ann.")
        await s.until(8.0)
        assert s.session.current_agent is not clerk
        assert book.agrees(s)
        state = book.state()
        assert (state.agent.name, state.agent.instructions, state.coming) == ("Clerk_1", "You serve Ann.", None)


@virtual_time
async def test_a_conversation_that_goes_on_is_written_down_as_it_was_taken_over(tmp_path: Path) -> None:
    clerk = Clerk()
    book = Book(tmp_path / "one", clerk)
    async with scene(agent=clerk, prepare=book.follow, answers=["One."]) as s:
        s.session.receive_text("first")
        await s.until(5.0)
        await clerk.update_chat_ctx(ChatContext(clerk.chat_ctx.items[-1:]))
        await clerk.update_instructions("You are in a hurry.")
    assert book._record is not None
    journal = read(Path(book._record.path))
    state = fold(journal)
    carried = carried_over(journal, state)
    told = state.agent.instructions
    again = Continuation(Resumed(2), carried.history, carried.known, told)
    second = Book(tmp_path / "two", Clerk(), continuation=again)
    async with scene(agent=second.agent, prepare=second.follow, resume=again, answers=["Two."]) as s:
        assert second.agrees(s)
        s.session.receive_text("second")
        await s.until(12.0)
        assert second.agrees(s)
        assert second.state().agent.instructions == "You are in a hurry."
        assert len(second.state().history) == 4
