"""The user's audio on its way to the model, and what the model says of it.

Where the session finds the utterances, only they are sent, and each is committed at its end. Where the model finds
them, all is sent, and its places in the stream become capture times. An utterance that was open when the connection
failed is heard again from its beginning on the next one, and stays the same utterance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import Transcript
from greenroom.providers.realtime import RealtimeHeard, SpeechStarted, SpeechStopped
from greenroom_plugins.openai_realtime.memory import Memory, Part
from greenroom_plugins.openai_realtime.options import NAME, OpenAIRealtimeOptions, ServerVAD
from greenroom_plugins.openai_realtime.tape import Tape
from greenroom_plugins.openai_realtime.wire import (
    RATE,
    Committed,
    Outgoing,
    TranscriptDelta,
    TranscriptDone,
    TranscriptFailed,
    VoiceStarted,
    VoiceStopped,
    append,
)

__all__ = ["Hearing"]

log = structlog.get_logger(__name__)

SHORTEST = RATE // 10
"""Samples that a server takes for an utterance at least."""
OVERLAP = RATE // 2
"""Samples before the connection failed that are sent again."""
RECOGNISED = 3.0
"""Seconds in which the model finds an utterance again that it is told a second time."""
COMMIT: Outgoing = {"type": "input_audio_buffer.commit"}


@dataclass(slots=True)
class _Utterance:
    """``start``: its place on the tape; ``id``: the server's."""

    key: str
    start: int
    id: str = ""


class Hearing:
    """``send`` events to the server, which returns the id of the last; ``emit`` what was heard."""

    def __init__(
        self,
        options: OpenAIRealtimeOptions,
        memory: Memory,
        *,
        detects: bool,
        send: Callable[[Iterable[Outgoing]], str],
        emit: Callable[[RealtimeHeard | ProviderError], None],
    ) -> None:
        self.detects = detects
        self._options = options
        self._memory = memory
        self._send = send
        self._emit = emit
        self._tape = Tape(RATE)
        self._open: _Utterance | None = None
        self._due: list[Part] = []
        self._commits: dict[str, Part] = {}
        self._keys: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._count = 0
        self._origin = 0  # the place on the tape that the connection's first sample has
        self._sent = 0  # the place on the tape up to which it was sent
        self._before = 0  # samples that the connection was given before those
        self._away = True
        self._found_again: asyncio.TimerHandle | None = None

    # --- from the session -------------------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        self._tape.push(frame)
        if self.detects or self._open is not None:
            self._stream()

    def start(self, utterance: str, *, at: float) -> None:
        if self.detects:
            return
        if self._open is not None:
            self.end(self._open.key)
        place = self._tape.place(at)
        self._open, self._tape.hold, self._sent = _Utterance(utterance, place), place, place
        self._stream()

    def end(self, utterance: str) -> None:
        if self.detects or self._open is None or self._open.key != utterance:
            return
        audio = self._tape.read(self._open.start, self._tape.end)
        missing = 2 * SHORTEST - len(audio)
        if missing > 0:
            audio += bytes(missing)
            self._send([append(bytes(missing))])
        self._open = self._tape.hold = None
        self._commit(Part("heard", utterance, audio=audio))

    def forget(self) -> None:
        """What was heard and is not in the memory yet is not to be in it."""
        for part in self._due:
            part.kept = False

    def close(self) -> None:
        if self._found_again is not None:
            self._found_again.cancel()

    # --- from the connection ----------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The connection is gone: what comes now is kept for the next one."""
        self._away = True
        if self._tape.hold is None and self.detects:
            self._tape.hold = self._sent - OVERLAP

    def unheard(self) -> list[Part]:
        """The utterances that the server has not taken, for ``hear_again`` on a connection that is new."""
        due, self._due, self._before = [part for part in self._due if part.kept], [], 0
        self._commits.clear()
        self._keys.clear()
        self._words.clear()
        return due

    def hear_again(self, part: Part) -> None:
        """An utterance is told as sound, while the server looks for none itself."""
        part.id = ""
        self._send(_chunks(part.audio))
        self._before += len(part.audio) // 2
        self._commit(part)

    def opened(self) -> None:
        """The server knows the memory: go on where the last connection ended."""
        start = self._sent - OVERLAP
        if self._open is not None:
            start = self._open.start - (self._padding() if self.detects else 0)
        start = max(self._tape.begin, start)
        self._away, self._origin, self._sent = False, start - self._before, start
        self._tape.hold = self._open.start if self._open is not None else None
        if self.detects and self._open is not None:
            self._open.id = ""
            self._found_again = asyncio.get_running_loop().call_later(RECOGNISED, self._lose)
        if self.detects or self._open is not None:
            self._send(_chunks(self._unsent()))

    def voice_started(self, event: VoiceStarted) -> None:
        if not self.detects:
            return
        if self._open is not None:  # it is heard again, on another connection
            self._open.id = event.item_id
            self.close()
            return
        place = self._origin + round(event.audio_start_ms * RATE / 1000)
        self._count += 1
        self._open, self._tape.hold = _Utterance(f"heard_{self._count}", place, event.item_id), place
        self._emit(SpeechStarted(self._open.key, self._tape.time(place + self._padding())))

    def voice_stopped(self, event: VoiceStopped) -> None:
        if self._open is None or not self.detects:
            return
        utterance, end = self._open, self._origin + round(event.audio_end_ms * RATE / 1000)
        self._due.append(Part("heard", utterance.key, event.item_id, audio=self._tape.read(utterance.start, end)))
        self._open = self._tape.hold = None
        silence = self._options.turn_detection.silence if isinstance(self._options.turn_detection, ServerVAD) else 0.0
        last = max(utterance.start, end - round(silence * RATE))
        self._emit(SpeechStopped(utterance.key, self._tape.time(last)))

    def committed(self, event: Committed) -> list[Outgoing]:
        """An utterance has joined the server's memory; what the server is to be told of that."""
        part = next((part for part in self._due if part.id == event.item_id), None)
        part = part or next((part for part in self._due if not part.id), None)
        if part is None:
            log.warning("audio committed that is no utterance", provider=NAME)
            return [{"type": "conversation.item.delete", "item_id": event.item_id}]
        self._due.remove(part)
        part.id = event.item_id
        self._keys[part.id] = part.key
        self._memory.join(part)
        return [] if part.kept else self._memory.forget(part.key)

    def refused(self, event_id: str) -> bool:
        """The server did not take what was sent as this: whether that was an utterance."""
        part = self._commits.pop(event_id, None)
        if part is None or part not in self._due:
            return False
        self._due.remove(part)
        self._wordless(part.key)
        return True

    def transcribing(self, event: TranscriptDelta) -> None:
        key = self._keys.get(event.item_id)
        if key is not None and event.delta:
            words = self._words[event.item_id] = self._words.get(event.item_id, "") + event.delta
            self._emit(Transcript(words.strip(), final=False, utterance=key, language=self._language))

    def transcribed(self, event: TranscriptDone) -> None:
        key, text = self._keys.pop(event.item_id, None), event.transcript.strip()
        self._words.pop(event.item_id, None)
        if key is not None:
            self._memory.worded(event.item_id, text)
            self._emit(Transcript(text, utterance=key, language=self._language))

    def not_transcribed(self, event: TranscriptFailed, error: ProviderError) -> None:
        key = self._keys.pop(event.item_id, None)
        if key is not None:
            self._wordless(key)
            self._emit(error)

    # --- pieces -----------------------------------------------------------------------------------------------------

    @property
    def _language(self) -> str:
        return self._options.transcription.language if self._options.transcription is not None else ""

    def _padding(self) -> int:
        """Samples before a voice that the model's utterances begin with."""
        detection = self._options.turn_detection
        return round(detection.padding * RATE) if isinstance(detection, ServerVAD) else 0

    def _commit(self, part: Part) -> None:
        self._due.append(part)
        self._commits[self._send([dict(COMMIT)])] = part
        while len(self._commits) > len(self._due):
            del self._commits[next(iter(self._commits))]

    def _stream(self) -> None:
        """Send what is on the tape and was not sent."""
        if self._away:
            return
        self._send([append(audio)] if (audio := self._unsent()) else [])

    def _unsent(self) -> bytes:
        start, self._sent = self._sent, self._tape.end
        return self._tape.read(start, self._tape.end)

    def _lose(self) -> None:
        """The model did not find the utterance again that was cut by the connection's end."""
        if self._open is None or self._open.id:
            return
        utterance, self._open, self._tape.hold = self._open, None, None
        self._emit(SpeechStopped(utterance.key, self._tape.time(self._tape.end)))
        self._wordless(utterance.key)

    def _wordless(self, key: str) -> None:
        """Nobody is to wait for the words of an utterance."""
        if self._options.transcription is not None:
            self._emit(Transcript("", utterance=key))


def _chunks(audio: bytes) -> Iterator[Outgoing]:
    """A second each."""
    return (append(audio[start : start + 2 * RATE]) for start in range(0, len(audio), 2 * RATE))
