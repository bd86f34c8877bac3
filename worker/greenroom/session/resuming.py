"""Takes up a conversation where it was when the process that held it died."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from greenroom.dialog.events import CloseAsked, SpeechRequested, UserTyped
from greenroom.session.nodes import raised_at
from greenroom.session.reply import Content
from greenroom.session.resume import Continuation

if TYPE_CHECKING:
    from greenroom.session.agent import Agent
    from greenroom.session.conversation import Conversation

__all__ = ["BROKEN_OFF", "Resuming"]

log = structlog.get_logger(__name__)

CUT_OFF = (
    "Your last answer was cut off in the middle, by a technical fault. What the user heard of it is in the "
    "conversation. Go on from there: do not begin again, and do not repeat what was said."
)

BROKEN_OFF = SpeechRequested("", "turn", place="next", instructions=CUT_OFF)
"""Has the model go on with an answer whose words are not known to the end."""


class Resuming:
    """One conversation's. ``run`` calls the agent's hook; what that leaves undone is done after it."""

    def __init__(self, talk: Conversation, continuation: Continuation) -> None:
        self._talk = talk
        self._left = continuation
        self._gone_on = False

    async def run(self, agent: Agent) -> None:
        left, resumed = self._left, self._left.resumed
        try:
            await agent.on_resume(resumed)
        except Exception as error:  # noqa: BLE001  # a hook call
            log.error("on_resume failed", error=repr(error), at=raised_at(error))
            self._talk.report(error, "on_resume")
            self.go_on()  # the user is not to wait for somebody's mistake
        if not self._gone_on and resumed.unanswered:
            self._talk.feed(UserTyped(" ".join(resumed.unanswered), skip_reply=True))
        left.taken_up()
        if left.coming is not None:
            self._talk.session.update_agent(left.coming)
        if left.closing:
            self._talk.feed(CloseAsked(left.closing, drain=True))

    def go_on(self) -> None:
        if self._gone_on:
            return
        self._gone_on = True
        left, unanswered = self._left, self._left.resumed.unanswered
        voiced = self._may_say()
        if left.rest is not None and voiced and not (unanswered and left.rest.allow_interruptions):
            self._say(left.rest)
        if unanswered:
            self._talk.feed(UserTyped(" ".join(unanswered)))
        elif left.broken or (left.rest is not None and not voiced):
            self._reply(BROKEN_OFF)
        for asked in left.replies:
            self._reply(asked)
        for asked in left.waiting if voiced else ():
            if asked.ttl is None or left.resumed.away < asked.ttl:
                self._say(asked)
        left.taken_up()

    def _may_say(self) -> bool:
        """Words that are known can be said: not so with a realtime model alone."""
        try:
            self._talk.senses.check_voice(self._talk.current_agent)
        except RuntimeError:
            return False
        return True

    def _say(self, asked: SpeechRequested) -> None:
        self._talk.request(replace(asked, speech=self._talk.new_speech_id()), Content(text=asked.text))

    def _reply(self, asked: SpeechRequested) -> None:
        again = replace(asked, speech=self._talk.new_speech_id(), user_input="")  # that is in the history
        self._talk.request(again, Content(instructions=asked.instructions))
