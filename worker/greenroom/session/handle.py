"""What ``say`` and ``generate_reply`` return: one speech, from request to last sample.

A handle ends exactly once, with a reason. Awaiting it waits for that, never raises, and gives the handle back.
``UtteranceHandle`` is the same class under VideoSDK's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Protocol

import structlog

from greenroom.dialog.events import EndReason, SpeechSource
from greenroom.dialog.history import ChatItem
from greenroom.errors import GreenroomError

__all__ = ["SpeechFailed", "SpeechHandle", "UtteranceHandle"]

log = structlog.get_logger(__name__)


class SpeechFailed(GreenroomError):
    """A speech ended because a provider failed; the message says which and how."""


class SpeechControl(Protocol):
    """What a handle needs of its session."""

    def interrupt_speech(self, handle: SpeechHandle, *, force: bool) -> None: ...
    def protect_speech(self, handle: SpeechHandle, allow_interruptions: bool, /) -> None: ...


class SpeechHandle:
    """One speech. Made by the session, never by the user."""

    def __init__(
        self,
        control: SpeechControl,
        speech_id: str,
        *,
        source: SpeechSource,
        priority: int,
        allow_interruptions: bool,
        created: float,
        group: str = "",
    ) -> None:
        self._control = control
        self._id = speech_id
        self._source: SpeechSource = source
        self._priority = priority
        self._allow_interruptions = allow_interruptions
        self._created = created
        self._group = group
        self._started: float | None = None
        self._ended: float | None = None
        self._reason: EndReason | None = None
        self._error: SpeechFailed | None = None
        self._items: list[ChatItem] = []
        self._heard: list[str] = []
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
    def chat_items(self) -> list[ChatItem]:
        """What this speech has added to the history so far."""
        return list(self._items)

    @property
    def heard_text(self) -> str:
        """The words that left the track, of the steps that are over."""
        return " ".join(self._heard)

    @property
    def created(self) -> float:
        """When it was requested, on the loop's clock."""
        return self._created

    @property
    def started(self) -> float | None:
        """When its first sample left."""
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
            self._allow_interruptions = value
            self._control.protect_speech(self, value)

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
        await asyncio.shield(self._done)

    def __await__(self) -> Generator[Any, None, SpeechHandle]:
        yield from asyncio.shield(self._done).__await__()
        return self

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
        state = f"ended: {self._reason}" if self._reason else "playing" if self._started else "waiting"
        return f"<SpeechHandle {self._id} ({self._source}, {state})>"

    # --- told by the session ------------------------------------------------------------------------------------

    def mark_step(self, step: int) -> None:
        self._steps = max(self._steps, step)

    def mark_started(self, at: float) -> None:
        self._started = at

    def mark_item(self, item: ChatItem) -> None:
        self._items.append(item)

    def mark_heard(self, text: str) -> None:
        if text.strip():
            self._heard.append(text.strip())

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


UtteranceHandle = SpeechHandle
