"""What ``say`` and ``generate_reply`` return: one speech, from request to last sample.

A handle ends exactly once, with a reason. Awaiting it waits for that, never raises, and gives the handle back. It is a
coroutine as far as asyncio is concerned, so ``create_task``, ``gather``, ``wait_for`` and ``shield`` take it as it is,
as often as wanted. Inside a tool that a speech runs, awaiting that speech would wait for the tool itself: it waits for
the step that called the tool instead. ``UtteranceHandle`` is the same class under VideoSDK's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Protocol

import structlog

from greenroom.dialog.events import EndReason, SpeechSource
from greenroom.dialog.history import ChatItem
from greenroom.errors import GreenroomError
from greenroom.speech.gain import checked_volume

__all__ = ["RUNNING_TOOL", "SpeechFailed", "SpeechHandle", "UtteranceHandle"]

log = structlog.get_logger(__name__)


RUNNING_TOOL: ContextVar[tuple[SpeechHandle, int] | None] = ContextVar("running_tool", default=None)
"""Inside a tool: the speech that called it, and in which step."""


class SpeechFailed(GreenroomError):
    """A speech ended because a provider failed; the message says which and how."""


class SpeechControl(Protocol):
    """What a handle needs of its session."""

    def interrupt_speech(self, handle: SpeechHandle, *, force: bool) -> None: ...
    def protect_speech(self, handle: SpeechHandle, allow_interruptions: bool, /) -> None: ...
    def speech_state(self, handle: SpeechHandle, /) -> str: ...
    async def wait_for_step(self, handle: SpeechHandle, step: int) -> None: ...


class SpeechHandle(Coroutine[Any, Any, "SpeechHandle"]):
    """One speech. Made by the session, never by the user."""

    SPEECH_PRIORITY_LOW: Final = 0
    SPEECH_PRIORITY_NORMAL: Final = 5
    SPEECH_PRIORITY_HIGH: Final = 10

    def __init__(
        self,
        control: SpeechControl,
        speech_id: str,
        *,
        source: SpeechSource,
        priority: int,
        allow_interruptions: bool,
        created: float,
        stoppable: bool = False,
        group: str = "",
        volume: float = 1.0,
    ) -> None:
        self.volume = volume
        self._control = control
        self._id = speech_id
        self._source: SpeechSource = source
        self._priority = priority
        self._allow_interruptions = allow_interruptions
        self._stoppable = stoppable
        self._created = created
        self._group = group
        self._scheduled = False
        self._authorised: float | None = None
        self._started: float | None = None
        self._ended: float | None = None
        self._reason: EndReason | None = None
        self._error: SpeechFailed | None = None
        self._items: list[ChatItem] = []
        self._made: dict[int, str] = {}
        self._heard: dict[int, tuple[str, float, bool]] = {}
        self._waits: dict[asyncio.Task[Any] | None, Generator[Any, None, SpeechHandle]] = {}
        self._steps = 1
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._callbacks: list[Callable[[SpeechHandle], object]] = []

    @property
    def id(self) -> str:
        return self._id

    @property
    def source(self) -> SpeechSource:
        return self._source

    @property
    def priority(self) -> int:
        return self._priority

    @property
    def group(self) -> str:
        """The name that it can be interrupted by together with others."""
        return self._group

    @property
    def num_steps(self) -> int:
        """Rounds of the model: one, and one more for each round of tools."""
        return self._steps

    @property
    def volume(self) -> float:
        """How loud it is: a factor, times ``session.volume``. May be set at any time, also while it is heard."""
        return self._volume

    @volume.setter
    def volume(self, value: float) -> None:
        self._volume = checked_volume(value)

    @property
    def chat_items(self) -> list[ChatItem]:
        """What this speech has added to the history so far."""
        return list(self._items)

    @property
    def heard_text(self) -> str:
        """The words that left the track, of the steps that are over. Its certainty: ``heard_exactly``."""
        return " ".join(text for text, _, _ in self._heard.values() if text)

    @property
    def remaining_text(self) -> str:
        """The words that were made and have not been heard."""
        rest = [made[len(self._heard[step][0]) if step in self._heard else 0 :] for step, made in self._made.items()]
        return " ".join(text for part in rest if (text := part.strip()))

    @property
    def heard_seconds(self) -> float:
        """How much of its audio left the track, to the sample."""
        return sum(seconds for _, seconds, _ in self._heard.values())

    @property
    def heard_exactly(self) -> bool:
        """``heard_text`` ends where the voice said that a word ends (aligned); else the place is estimated."""
        return all(aligned for _, _, aligned in self._heard.values())

    @property
    def created(self) -> float:
        """When it was requested, on the loop's clock."""
        return self._created

    @property
    def scheduled(self) -> bool:
        """It is in the queue, or past it; an answer that was begun early is not, until its turn is committed."""
        return self._scheduled

    @property
    def state(self) -> str:
        """Where it is: parked, queued, authorised, playing, paused, stopping, yielded (waits for tools) or ended."""
        return "ended" if self.done() else self._control.speech_state(self)

    @property
    def authorised(self) -> float | None:
        """When it was given the floor: it is heard as soon as there is audio."""
        return self._authorised

    @property
    def started(self) -> float | None:
        """When its first sample left: its first audio."""
        return self._started

    @property
    def ended(self) -> float | None:
        return self._ended

    @property
    def reason(self) -> EndReason | None:
        """Why it ended; ``None`` while it has not."""
        return self._reason

    @property
    def interrupted(self) -> bool:
        """It was cut off, by the user's voice or by a call to ``interrupt``."""
        return self._reason in (EndReason.INTERRUPTED, EndReason.REPLACED, EndReason.SUPERSEDED, EndReason.CLOSED)

    @property
    def allow_interruptions(self) -> bool:
        return self._allow_interruptions

    @allow_interruptions.setter
    def allow_interruptions(self, value: bool) -> None:
        """Takes effect while the speech can still be interrupted; afterwards it changes nothing."""
        if not self.done() and value != self._allow_interruptions:
            self._allow_interruptions = self._stoppable = value
            self._control.protect_speech(self, value)

    @property
    def is_interruptible(self) -> bool:
        """VideoSDK's name for ``allow_interruptions``."""
        return self._allow_interruptions

    @property
    def stoppable(self) -> bool:
        """``interrupt()`` stops it without ``force``: anybody may interrupt it, or the program may."""
        return self._allow_interruptions or self._stoppable

    def done(self) -> bool:
        """Its last sample has left, or was dropped."""
        return self._done.done()

    def exception(self) -> SpeechFailed | None:
        """The failure that ended it, if one did."""
        return self._error

    def interrupt(self, *, force: bool = False) -> SpeechHandle:
        """Stop it. A protected speech goes on unless ``force`` is given; one that is over stays so."""
        if not self.done():
            self._control.interrupt_speech(self, force=force)
        return self

    async def wait_for_playout(self) -> None:
        """Until it has ended, whatever the reason. Never raises, except for the caller's own cancellation."""
        running = RUNNING_TOOL.get()
        if running is not None and running[0] is self:
            await self.wait_for_step(running[1])
        else:
            await asyncio.shield(self._done)

    async def wait_for_step(self, step: int) -> None:
        """Until one of its steps has been heard, or it has ended."""
        await self._control.wait_for_step(self, step)

    async def wait_if_not_interrupted(self, futures: Sequence[asyncio.Future[Any]]) -> None:
        """Until all of these are done, or this speech has been interrupted; cancels none of them."""
        pending = {future for future in futures if not future.done()}
        while pending and not self.interrupted:
            waiting = pending if self._done.done() else {*pending, self._done}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            pending = {future for future in pending if not future.done()}

    async def _wait(self) -> SpeechHandle:
        await self.wait_for_playout()
        return self

    def __await__(self) -> Generator[Any, None, SpeechHandle]:
        return self._wait().__await__()

    # A coroutine's three methods, for those who run it as one: each task has a wait of its own.

    def send(self, value: Any, /) -> Any:
        try:
            return self._waiting().send(value)
        except BaseException:
            self._waits.pop(_current_task(), None)
            raise

    def throw(self, *error: Any) -> Any:
        try:
            return self._waiting().throw(*error)
        except BaseException:
            self._waits.pop(_current_task(), None)
            raise

    def close(self) -> None:
        """Stop waiting; the speech goes on."""
        if (waiting := self._waits.pop(_current_task(), None)) is not None:
            waiting.close()

    def _waiting(self) -> Generator[Any, None, SpeechHandle]:
        task = _current_task()
        if task not in self._waits:
            self._waits[task] = self.__await__()
        return self._waits[task]

    def add_done_callback(self, callback: Callable[[SpeechHandle], object]) -> None:
        """Call ``callback(handle)`` once it has ended: soon, when it has already."""
        if self.done():
            asyncio.get_running_loop().call_soon(self._call, callback)
        else:
            self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[SpeechHandle], object]) -> None:
        with suppress(ValueError):
            self._callbacks.remove(callback)

    def __repr__(self) -> str:
        state = f"ended: {self._reason}" if self._reason else self.state
        return f"<SpeechHandle {self._id} ({self._source}, {state})>"

    # --- told by the session ------------------------------------------------------------------------------------

    def mark_step(self, step: int) -> None:
        self._steps = max(self._steps, step)

    def mark_scheduled(self) -> None:
        self._scheduled = True

    def mark_authorised(self, at: float) -> None:
        if self._authorised is None:
            self._authorised = at

    def mark_started(self, at: float) -> None:
        self._started = at

    def mark_item(self, item: ChatItem) -> None:
        self._items.append(item)

    def mark_made(self, step: int, text: str) -> None:
        self._made[step] = text

    def mark_heard(self, step: int, text: str, *, seconds: float, aligned: bool) -> None:
        self._heard[step] = (text.strip(), seconds, aligned)

    def mark_ended(self, reason: EndReason, *, error: str, at: float) -> None:
        self._reason = reason
        self._ended = at
        if error:
            self._error = SpeechFailed(error)
        self._done.set_result(None)
        for callback in self._callbacks:
            self._call(callback)
        self._callbacks.clear()

    def _call(self, callback: Callable[[SpeechHandle], object]) -> None:
        try:
            callback(self)
        except Exception:
            log.exception("done callback failed", speech=self._id)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


UtteranceHandle = SpeechHandle
