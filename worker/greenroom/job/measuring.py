"""Counts and times what happens in one call, for the daemon's metrics: told by session, dialog, journal and room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.errors import ProviderError
from greenroom.ops import measures as m
from greenroom.session.hooks import ErrorEvent, MetricsCollectedEvent
from greenroom.session.metrics import HedgeMetrics, LLMMetrics, STTMetrics, TTSMetrics, TurnMetrics

if TYPE_CHECKING:
    from greenroom.jobs.ipc import Measured, Resume
    from greenroom.room.room import PreconnectReport, RoomState
    from greenroom.session.session import AgentSession

__all__ = ["CallMeasures"]

INTERVAL = 1.0
"""Seconds between two messages to the daemon."""
PROVIDERS = frozenset({"stt", "llm", "tts", "turn", "vad"})
"""Sources of errors that are models."""


@dataclass(slots=True)
class _Early:
    """What an answer has cost that was begun before its turn was over."""

    pieces: float = 0.0
    tokens: float = 0.0
    characters: float = 0.0


class CallMeasures:
    """One call's. ``send`` is given what there is, at most once in ``INTERVAL`` seconds, and at ``close``."""

    def __init__(self, send: Callable[[Measured], None], *, resume: Resume | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._send = send
        self._measures = m.Measures()
        self._began = loop.time()
        self._resume = resume
        self._heard = False
        self._asked = False
        self._sounding: set[str] = set()
        self._halted: set[str] = set()
        self._sources: dict[str, str] = {}
        self._early: dict[str, _Early] = {}
        self._wasted: set[str] = set()
        self._tools: set[str] = set()
        self._away: tuple[str, float] | None = None
        self._bytes = 0
        self._timer = loop.call_later(INTERVAL, self._tick)
        self._on: dict[type[Any], Callable[[Any], None]] = {
            ev.Played: self._played,
            ev.ToolFinished: self._tool_finished,
            do.Generate: self._generate,
            do.Stop: self._stopped,
            do.RunTool: lambda command: self._tools.add(command.call.call_id),
            do.CancelTool: self._tool_cancelled,
            news.SpeechCreated: self._created,
            news.SpeechEnded: self._ended,
            news.EarlyReplyDiscarded: self._discarded,
            news.FalseInterruption: lambda notice: self._measures.count(m.INTERRUPTIONS, kind="false"),
            news.Backchannel: self._backchannel,
            news.DeadAir: lambda notice: self._measures.count(m.DEAD_AIR, step=notice.step),
        }
        self._of: dict[type[Any], Callable[[Any], None]] = {
            TurnMetrics: self._turn,
            HedgeMetrics: self._hedge,
            LLMMetrics: self._llm,
            TTSMetrics: self._tts,
            STTMetrics: self._stt,
        }

    def close(self) -> None:
        """The call is over: send the rest. Safe to call twice."""
        self._timer.cancel()
        self.flush()

    # --- from the session ---------------------------------------------------------------------------------------------

    def follow(self, session: AgentSession) -> None:
        session.on("metrics_collected", self._collected)
        session.on("error", self._failed)
        session.watch(self.command)

    def event(self, event: ev.Event) -> None:
        """Before the dialog handles it."""
        self._asked = isinstance(event, ev.InterruptAsked)
        self._see(event)

    def command(self, command: do.Command) -> None:
        """Before it is performed."""
        self._see(command.notice if isinstance(command, do.Announce) else command)

    def unknown_tools(self, count: int) -> None:
        """Had begun when an earlier process of the call died."""
        self._measures.count(m.TOOL_CALLS, count, outcome="unknown")

    def _see(self, what: object) -> None:
        if (follow := self._on.get(type(what))) is not None:
            follow(what)

    def _collected(self, event: MetricsCollectedEvent) -> None:
        self._of[type(event.metrics)](event.metrics)

    def _failed(self, event: ErrorEvent) -> None:
        if (incident := event.incident) is not None:
            self._measures.count(
                m.PROVIDER_FAULTS,
                kind=incident.kind,
                provider=incident.provider,
                fault=incident.fault,
                action=incident.action,
            )
            if incident.action != "gave_up":
                return
        if event.source in PROVIDERS:
            error = event.error
            provider = error.provider if isinstance(error, ProviderError) else type(error).__name__
            self._measures.count(m.PROVIDER_ERRORS, kind=event.source, provider=provider)

    # --- speeches -----------------------------------------------------------------------------------------------------

    def _played(self, event: ev.Played) -> None:
        if event.what != "started":
            return
        self._sounding.add(event.speech)
        if self._heard:
            return
        self._heard = True
        if self._resume is None:
            self._measures.observe(m.DISPATCH_SECONDS, event.at - self._began, stage="first_audio")
        elif self._resume.at:
            self._measures.observe(m.RECOVERY_SECONDS, event.at - self._resume.at, stage="first_audio")

    def _created(self, notice: news.SpeechCreated) -> None:
        self._sources[notice.speech] = notice.source
        if self._early.pop(notice.speech, None) is not None:
            self._measures.count(m.EARLY_REPLIES, outcome="used")

    def _ended(self, notice: news.SpeechEnded) -> None:
        source = self._sources.pop(notice.speech, "say")
        self._measures.count(m.SPEECHES, source=source, outcome=str(notice.reason))
        by_user = notice.speech in self._sounding and notice.speech not in self._halted
        self._sounding.discard(notice.speech)
        self._halted.discard(notice.speech)
        if by_user and notice.reason is ev.EndReason.INTERRUPTED:
            self._measures.count(m.INTERRUPTIONS, kind="real")

    def _stopped(self, command: do.Stop) -> None:
        if self._asked:  # by the program
            self._halted.add(command.speech)

    def _backchannel(self, notice: news.Backchannel) -> None:
        self._measures.count(m.INTERRUPTIONS, kind="backchannel")

    def _generate(self, command: do.Generate) -> None:
        if command.user_text:
            self._early[command.speech] = _Early()

    def _discarded(self, notice: news.EarlyReplyDiscarded) -> None:
        self._measures.count(m.EARLY_REPLIES, outcome="discarded")
        self._wasted.add(notice.speech)
        if (cost := self._early.pop(notice.speech, None)) is not None:
            self._waste(cost)

    def _waste(self, cost: _Early) -> None:
        for unit in ("pieces", "tokens", "characters"):
            self._measures.count(m.EARLY_REPLY_WASTE, getattr(cost, unit), unit=unit)

    def _cost(self, speech: str, cost: _Early) -> None:
        """What an early answer has cost more: known late of one that was cut short, since that ends in its own time."""
        if speech in self._wasted:
            self._waste(cost)
        elif (early := self._early.get(speech)) is not None:
            early.pieces += cost.pieces
            early.tokens += cost.tokens
            early.characters += cost.characters

    # --- tools --------------------------------------------------------------------------------------------------------

    def _tool_finished(self, event: ev.ToolFinished) -> None:
        if event.call_id in self._tools:
            self._tools.discard(event.call_id)
            self._measures.count(m.TOOL_CALLS, outcome="failed" if event.is_error else "done")

    def _tool_cancelled(self, command: do.CancelTool) -> None:
        self._tools.discard(command.call_id)
        self._measures.count(m.TOOL_CALLS, outcome="cancelled")

    # --- models -------------------------------------------------------------------------------------------------------

    def _turn(self, turn: TurnMetrics) -> None:
        self._measures.count(m.TURNS)
        voice = turn.tts_ttfb
        if voice is not None and turn.sentence is not None:
            voice -= turn.sentence
        segments = {
            "end_of_turn": turn.end_of_turn_delay,
            "transcript": turn.transcription_delay,
            "hook": turn.hook,
            "model": turn.llm_ttft,
            "sentence": turn.sentence,
            "voice": voice,
            "response": turn.response,
        }
        for segment, seconds in segments.items():
            if seconds is not None:
                self._measures.observe(m.TURN_SECONDS, seconds, segment=segment)

    def _llm(self, llm: LLMMetrics) -> None:
        self._took("llm", llm.label, first=llm.ttft, whole=None if llm.cancelled else llm.duration)
        tokens = {"prompt_tokens": llm.prompt_tokens or 0, "completion_tokens": llm.completion_tokens or 0}
        self._used("llm", llm.label, **tokens)
        self._cost(llm.speech_id, _Early(pieces=llm.pieces, tokens=sum(tokens.values())))

    def _hedge(self, hedge: HedgeMetrics) -> None:
        kind, provider, outcome = hedge.kind, hedge.provider, "won" if hedge.won else "lost"
        self._measures.count(m.PROVIDER_HEDGES, kind=kind, provider=provider, outcome=outcome)
        self._measures.count(m.PROVIDER_HEDGE_WASTE, hedge.tokens, kind=kind, provider=provider, unit="tokens")

    def _tts(self, tts: TTSMetrics) -> None:
        asked = tts.characters - tts.cached_characters
        if tts.cached_characters:
            self._used("tts", tts.label, cached_characters=tts.cached_characters)
        if asked:
            self._took("tts", tts.label, first=tts.ttfb, whole=None if tts.cancelled else tts.duration)
            self._used("tts", tts.label, characters=asked, audio_seconds=tts.audio_seconds)
        self._cost(tts.speech_id, _Early(characters=asked))

    def _stt(self, stt: STTMetrics) -> None:
        self._took("stt", stt.label, first=stt.delay)
        self._used("stt", stt.label, audio_seconds=stt.audio_seconds)

    def _took(self, kind: str, provider: str, *, first: float | None, whole: float | None = None) -> None:
        for stage, seconds in (("first", first), ("whole", whole)):
            if seconds is not None:
                self._measures.observe(m.PROVIDER_SECONDS, seconds, kind=kind, provider=provider, stage=stage)

    def _used(self, kind: str, provider: str, **units: float) -> None:
        for unit, amount in units.items():
            self._measures.count(m.PROVIDER_UNITS, amount, kind=kind, provider=provider, unit=unit)

    # --- from journal and room ----------------------------------------------------------------------------------------

    def journal(self, size: int, *, stopped: bool) -> None:
        """So large it is at its end, and whether that came before the call's."""
        self.written(size)
        if stopped:
            self._measures.count(m.JOURNALS_STOPPED)

    def written(self, size: int) -> None:
        """The journal has grown to so many bytes."""
        self._measures.count(m.JOURNAL_BYTES, size - self._bytes)
        self._bytes = size

    def recording(self, report: PreconnectReport) -> None:
        """What became of what the user had said before."""
        self._measures.count(m.RECORDINGS, outcome=report.outcome)
        if report.seconds:
            self._measures.observe(m.FIRST_WORD_LOSS_SECONDS, report.first_word_loss)

    def room_changed(self, state: RoomState) -> None:
        now = self._loop.time()
        if state != "connected":
            self._away = (state, self._away[1] if self._away is not None else now)
        elif self._away is not None:
            outcome = "rejoined" if self._away[0] == "rejoining" else "reconnected"
            self._measures.observe(m.ROOM_AWAY_SECONDS, now - self._away[1], outcome=outcome)
            self._away = None

    def room_ended(self) -> None:
        if self._away is not None:
            self._measures.observe(m.ROOM_AWAY_SECONDS, self._loop.time() - self._away[1], outcome="lost")
            self._away = None

    # --- to the daemon ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what there is."""
        if (measured := self._measures.take()) is not None:
            self._send(measured)

    def _tick(self) -> None:
        self.flush()
        self._timer = self._loop.call_later(INTERVAL, self._tick)
