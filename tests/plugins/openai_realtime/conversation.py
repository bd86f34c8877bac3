"""One client of the local server: what the protocol allows, the memory, the ears and the voice."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from greenroom.audio import Pcm, rms
from greenroom.session.segments import SegmentRules, VoiceSegmenter, VoiceStarted, VoiceStopped

__all__ = ["RATE", "Answer", "Asked", "Call", "Conversation", "Element", "Mind", "Problem", "pieces"]

RATE = 24_000
WINDOW = RATE // 50
LOUD = 300.0
"""RMS, in int16 units."""


class Problem(Exception):
    """The client asked for something that the protocol does not allow."""

    def __init__(self, code: str, message: str, *, kind: str = "invalid_request_error") -> None:
        self.code, self.kind = code, kind
        super().__init__(message)


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str = "{}"


@dataclass(frozen=True)
class Answer:
    """What the model says: words, each with its sound, then the calls.

    ``pace``: seconds of waiting for each second of sound; ``first``: before the first word. ``hold``: it waits before
    the word of that number until the event is set. ``fail``: the code of an error in place of it; ``status``: of the
    response when it is done.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    pace: float = 0.0
    first: float = 0.0
    hold: tuple[int, asyncio.Event] | None = None
    fail: str = ""
    refuse: str = ""
    status: str = "completed"
    parts: tuple[str, ...] = ()
    """Further messages of the same response."""


@dataclass
class Element:
    """An item of the memory. ``samples``: of its sound; ``words``: each with the sample at which it ends."""

    id: str
    kind: str
    role: str = ""
    text: str = ""
    call_id: str = ""
    samples: int = 0
    words: list[tuple[int, str]] = field(default_factory=list)
    status: str = "completed"

    def told(self) -> tuple[str, str]:
        return (self.role if self.kind == "message" else self.kind, self.text)


@dataclass(frozen=True)
class Asked:
    """What a response is made from."""

    instructions: str
    memory: list[tuple[str, str]]
    tools: list[str]
    tool_choice: str
    response: dict[str, Any]


@dataclass
class Mind:
    """What the server's model is: who answers, who writes down, who speaks (pieces of a text, each with its sound)."""

    think: Callable[[Asked], Awaitable[Answer]]
    transcribe: Callable[[Pcm], Awaitable[str]]
    speak: Callable[[str], Awaitable[list[tuple[str, Pcm]]]]


class Conversation:
    """``send`` gives an event to the client, ``hang_up`` breaks off. ``elements`` is the memory; ``asked`` what
    responses were made from; ``told`` each event of the client but audio."""

    def __init__(
        self,
        mind: Mind,
        send: Callable[[dict[str, Any]], Awaitable[None]],
        *,
        hang_up: Callable[[], None],
        fault: str = "",
    ) -> None:
        self.elements: list[Element] = []
        self.asked: list[Asked] = []
        self.told: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {"instructions": "", "tools": [], "tool_choice": "auto"}
        self.utterances: list[Pcm] = []
        self.appended = 0
        self.active: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self._mind = mind
        self._hearing: asyncio.Task[None] | None = None
        self.send = send
        self._hang_up = hang_up
        self._fault = fault
        self._buffer = np.zeros(0, dtype=np.int16)
        self._segmenter: VoiceSegmenter | None = None
        self._window = np.zeros(0, dtype=np.int16)
        self._judged = 0
        self._cleared = 0
        self._speech: tuple[str, int] | None = None
        self._count = 0

    def remembered(self) -> list[tuple[str, str]]:
        """The memory as roles (or kinds) and texts."""
        return [element.told() for element in self.elements]

    async def begin(self) -> None:
        await self.send({"type": "session.created", "session": self.settings})

    async def handle(self, event: dict[str, Any]) -> None:
        """Raises ``Problem`` for what the protocol does not allow."""
        kind = event.get("type", "")
        if kind != "input_audio_buffer.append":
            self.told.append(event)
        handler = getattr(self, "_on_" + kind.replace(".", "_"), None)
        if handler is None:
            raise Problem("invalid_value", f"Invalid value: '{kind}'.")
        await handler(event)

    def volunteer(self, answer: Answer) -> None:
        """Answer without being asked."""
        self.active = self._spawn(self._respond(answer, None))

    async def aclose(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # --- the session --------------------------------------------------------------------------------------------------

    async def _on_session_update(self, event: dict[str, Any]) -> None:
        given = event["session"]
        if given.get("type") != "realtime":
            raise Problem("missing_required_parameter", "Missing required parameter: 'session.type'.")
        if isinstance(given.get("audio"), dict) and isinstance(given["audio"].get("input"), dict):
            self._listen(given["audio"]["input"])
        self.settings |= given
        await self.send({"type": "session.updated", "session": self.settings})

    def _listen(self, given: dict[str, Any]) -> None:
        if given["format"] != {"type": "audio/pcm", "rate": RATE}:
            raise Problem("invalid_value", "Unsupported audio format.")
        detection = given.get("turn_detection")
        if detection is None:
            self._segmenter = None
            return
        if detection["create_response"] or detection["interrupt_response"]:
            raise Problem("invalid_value", "This model leaves that to the client.")
        silence = detection.get("silence_duration_ms", 500) / 1000
        self._segmenter = VoiceSegmenter(SegmentRules(min_silence=silence))
        self._window, self._judged = np.zeros(0, dtype=np.int16), self.appended

    # --- hearing ------------------------------------------------------------------------------------------------------

    async def _on_input_audio_buffer_append(self, event: dict[str, Any]) -> None:
        pcm = np.frombuffer(base64.b64decode(event["audio"], validate=True), dtype="<i2")
        self._buffer = np.concatenate((self._buffer, pcm))
        self.appended += len(pcm)
        if self._segmenter is not None:
            await self._detect(pcm)

    async def _detect(self, pcm: Pcm) -> None:
        detection = self.settings["audio"]["input"]["turn_detection"]
        padding = round(detection.get("prefix_padding_ms", 300) * RATE / 1000)
        self._window = np.concatenate((self._window, pcm))
        while self._segmenter is not None and len(self._window) >= WINDOW:
            window, self._window = self._window[:WINDOW], self._window[WINDOW:]
            loud = float(rms(window) >= LOUD)
            happened = self._segmenter.push(loud, at=self._judged / RATE, seconds=WINDOW / RATE)
            self._judged += WINDOW
            if isinstance(happened, VoiceStarted):
                start = max(self._cleared, round(happened.at * RATE) - padding)
                self._speech = (self._new_id(), start)
                await self._voice("started", audio_start_ms=round(start * 1000 / RATE))
            elif isinstance(happened, VoiceStopped) and self._speech is not None:
                await self._voice("stopped", audio_end_ms=round(self._judged * 1000 / RATE))
                (item, start), self._speech = self._speech, None
                heard = self._buffer[start - self._cleared : self._judged - self._cleared]
                self._buffer = self._buffer[self._judged - self._cleared :]
                self._cleared = self._judged
                await self._commit(item, heard)

    async def _voice(self, what: str, **place: int) -> None:
        assert self._speech is not None
        await self.send({"type": f"input_audio_buffer.speech_{what}", "item_id": self._speech[0], **place})

    async def _on_input_audio_buffer_commit(self, event: dict[str, Any]) -> None:
        if len(self._buffer) < RATE // 10:
            length = len(self._buffer) * 1000 / RATE
            raise Problem("input_audio_buffer_commit_empty", f"buffer too small: {length:.2f}ms, expected 100ms.")
        heard, self._buffer = self._buffer, np.zeros(0, dtype=np.int16)
        self._cleared = self.appended
        await self._commit(self._new_id(), heard)

    async def _on_input_audio_buffer_clear(self, event: dict[str, Any]) -> None:
        self._buffer, self._cleared = np.zeros(0, dtype=np.int16), self.appended
        await self.send({"type": "input_audio_buffer.cleared"})

    async def _commit(self, item: str, pcm: Pcm) -> None:
        self.utterances.append(pcm)
        before = self.elements[-1].id if self.elements else None
        await self.send({"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": before})
        element = Element(item, "message", "user", samples=len(pcm))
        self.elements.append(element)
        await self._added(element)
        if self.settings["audio"]["input"].get("transcription"):
            self._hearing = self._spawn(self._transcribe(element, pcm))

    async def _transcribe(self, element: Element, pcm: Pcm) -> None:
        named = {"item_id": element.id, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        try:
            element.text = await self._mind.transcribe(pcm)
        except ValueError as error:
            failure = {"type": "server_error", "code": "audio_unintelligible", "message": str(error)}
            await self.send({"type": f"{kind}.failed", **named, "error": failure})
            return
        for word in pieces(element.text):
            await self.send({"type": f"{kind}.delta", **named, "delta": word})
        await self.send({"type": f"{kind}.completed", **named, "transcript": element.text})

    # --- the memory ---------------------------------------------------------------------------------------------------

    async def _on_conversation_item_create(self, event: dict[str, Any]) -> None:
        given, after = event["item"], event.get("previous_item_id")
        element = _element(given, given.get("id") or self._new_id())
        if any(known.id == element.id for known in self.elements):
            raise Problem("item_create_duplicate_item_id", f"Item '{element.id}' exists.")
        if element.kind == "function_call_output" and not any(e.call_id == element.call_id for e in self.elements):
            raise Problem("invalid_tool_call_id", f"Tool call ID '{element.call_id}' not found.")
        place = len(self.elements)
        if after is not None:
            place = 0 if after == "root" else self.elements.index(self._find(after)) + 1
        self.elements.insert(place, element)
        await self._added(element)

    async def _on_conversation_item_truncate(self, event: dict[str, Any]) -> None:
        element, end = self._find(event["item_id"]), event["audio_end_ms"]
        if element.role != "assistant" or not element.words:
            raise Problem("invalid_value", "Only model output audio messages can be truncated.")
        if event["content_index"] != 0:
            raise Problem("invalid_value", "There is no such content.")
        if end * RATE // 1000 > element.samples:
            length = element.samples * 1000 // RATE
            raise Problem("invalid_value", f"Audio content of {length}ms is already shorter than {end}ms")
        element.samples = end * RATE // 1000
        element.words = [(at, word) for at, word in element.words if at <= element.samples]
        element.text = "".join(word for _, word in element.words)
        named = {"item_id": element.id, "content_index": 0, "audio_end_ms": end}
        await self.send({"type": "conversation.item.truncated", **named})

    async def _on_conversation_item_delete(self, event: dict[str, Any]) -> None:
        self.elements.remove(self._find(event["item_id"]))
        await self.send({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    def _find(self, item: str) -> Element:
        for element in self.elements:
            if element.id == item:
                return element
        raise Problem("item_not_found", f"Item with item_id not found: {item}")

    async def _added(self, element: Element) -> None:
        place = self.elements.index(element)
        before = self.elements[place - 1].id if place else None
        item = {"id": element.id, "type": element.kind, "role": element.role or None, "status": "completed"}
        for kind in ("added", "done"):
            await self.send({"type": f"conversation.item.{kind}", "previous_item_id": before, "item": item})

    # --- responses ----------------------------------------------------------------------------------------------------

    async def _on_response_create(self, event: dict[str, Any]) -> None:
        if self.active is not None and not self.active.done():
            raise Problem("conversation_already_has_active_response", "Conversation already has an active response.")
        response = event.get("response", {})
        if self._hearing is not None:
            await asyncio.wait([self._hearing])  # it understands what it is written
        memory = self.remembered()
        if "input" in response:
            memory = [_element(item, "").told() for item in response["input"]]
        tools = response.get("tools", self.settings["tools"])
        asked = Asked(
            response.get("instructions", self.settings["instructions"]),
            memory,
            [tool["name"] for tool in tools],
            response.get("tool_choice", self.settings["tool_choice"]),
            response,
        )
        self.asked.append(asked)
        answer = await self._mind.think(asked) if self._fault != "silence" else Answer()
        if answer.refuse:
            raise Problem(answer.refuse, f"refused: {answer.refuse}", kind=answer.refuse)
        self.active = self._spawn(self._respond(answer, response.get("metadata")))

    async def _on_response_cancel(self, event: dict[str, Any]) -> None:
        if self.active is None or self.active.done():
            raise Problem("response_cancel_not_active", "Cancellation failed: no active response found")
        self.active.cancel()

    async def _respond(self, answer: Answer, metadata: Any) -> None:
        response = {"id": f"resp_{self._new_id()}", "object": "realtime.response", "metadata": metadata}
        output: list[Element] = []
        status, details = answer.status, None
        await self.send({"type": "response.created", "response": response | {"status": "in_progress", "output": []}})
        try:
            await asyncio.sleep(answer.first)
            if answer.fail:
                status = "failed"
                error = {"type": answer.fail, "code": answer.fail, "message": f"failed: {answer.fail}"}
                details = {"type": "failed", "error": error}
            else:
                for text in (answer.text, *answer.parts):
                    if text:
                        await self._say(answer, text, response["id"], output)
                for call in answer.calls:
                    await self._call(call, response["id"], output)
        except asyncio.CancelledError:
            status, details = "cancelled", {"type": "cancelled", "reason": "client_cancelled"}
        usage = {"input_tokens": 10 * len(self.elements), "output_tokens": sum(len(e.text) for e in output)}
        items = [_item(element) for element in output]
        done = {"status": status, "status_details": details, "output": items, "usage": usage}
        await self.send({"type": "response.done", "response": response | done})

    async def _say(self, answer: Answer, text: str, response: str, output: list[Element]) -> None:
        voiced = self.settings["output_modalities"] == ["audio"]
        element = Element(f"item_{self._new_id()}", "message", "assistant", status="in_progress")
        await self._start(element, response, output)
        named = {"response_id": response, "item_id": element.id, "output_index": len(output) - 1, "content_index": 0}
        spoken, kind = 0, "output_audio_transcript" if voiced else "output_text"
        silent = [(word, np.zeros(0, dtype=np.int16)) for word in pieces(text)]
        for number, (word, pcm) in enumerate(await self._mind.speak(text) if voiced else silent):
            if answer.hold is not None and answer.hold[0] == number:
                await answer.hold[1].wait()
            if self._fault == "cut" and number == 2:
                self._hang_up()
                raise asyncio.CancelledError
            element.text += word
            await self.send({"type": f"response.{kind}.delta", **named, "delta": word})
            for start in range(0, len(pcm), RATE // 5):
                piece = pcm[start : start + RATE // 5].astype("<i2").tobytes()
                element.samples += len(piece) // 2
                delta = base64.b64encode(piece).decode()
                await self.send({"type": "response.output_audio.delta", **named, "delta": delta})
            spoken += len(pcm)
            if voiced:
                element.words.append((spoken, word))
            await asyncio.sleep(answer.pace * len(pcm) / RATE)
        element.status = "completed"
        await self.send({"type": f"response.{kind}.done", **named, "transcript": element.text})
        await self.send({"type": "response.output_item.done", **named, "item": _item(element)})

    async def _call(self, call: Call, response: str, output: list[Element]) -> None:
        number = self._new_id()
        element = Element(
            f"item_{number}", "function_call", text=f"{call.name} {call.arguments}", call_id=f"c_{number}"
        )
        await self._start(element, response, output)
        named = {"response_id": response, "item_id": element.id, "output_index": len(output) - 1}
        arguments = {"call_id": element.call_id, "name": call.name, "arguments": call.arguments}
        await self.send({"type": "response.function_call_arguments.done", **named, **arguments})
        await self.send({"type": "response.output_item.done", **named, "item": _item(element)})

    async def _start(self, element: Element, response: str, output: list[Element]) -> None:
        self.elements.append(element)
        output.append(element)
        item = _item(element) | {"arguments": ""}
        named = {"response_id": response, "output_index": len(output) - 1}
        await self.send({"type": "response.output_item.added", **named, "item": item})
        await self._added(element)

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._count:04}"


def pieces(text: str) -> Iterator[str]:
    """Words with the spaces before them."""
    for number, word in enumerate(text.split(" ") if text else []):
        yield f" {word}" if number else word


def _element(given: dict[str, Any], item: str) -> Element:
    kind = given.get("type", "")
    if kind == "function_call":
        return Element(item, kind, text=f"{given['name']} {given['arguments']}", call_id=given["call_id"])
    if kind == "function_call_output":
        return Element(item, kind, text=given["output"], call_id=given["call_id"])
    role, expected = given.get("role", ""), {"assistant": "output_text"}
    if kind != "message" or role not in ("system", "user", "assistant"):
        raise Problem("invalid_value", f"Invalid item: {kind} {role}.")
    for part in given["content"]:
        if part["type"] != expected.get(role, "input_text"):
            raise Problem("invalid_value", f"Invalid value: '{part['type']}' for the role '{role}'.")
    return Element(item, kind, role, text="".join(part["text"] for part in given["content"]))


def _item(element: Element) -> dict[str, Any]:
    if element.kind == "function_call":
        name, _, arguments = element.text.partition(" ")
        called = {"call_id": element.call_id, "name": name, "arguments": arguments}
        return {"id": element.id, "type": element.kind, "status": element.status, **called}
    content = [{"type": "output_audio" if element.words else "output_text", "transcript": element.text}]
    return {
        "id": element.id,
        "type": element.kind,
        "role": element.role,
        "status": element.status,
        "content": content,
    }
