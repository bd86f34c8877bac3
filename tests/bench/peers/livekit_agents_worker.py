# mypy: ignore-errors
# livekit-agents lives in an environment of its own, which the type checker does not see.
"""livekit-agents under the benchmark's contract: ``python livekit_agents_worker.py start``.

Its models do what those of ``greenroom.testing.fakes`` do, to the letter of ``README.md``; nothing of greenroom is
imported. All that the contract does not ask for is the framework's own default.
"""

from __future__ import annotations

import asyncio
import json
import math
import os

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, inference, llm, stt, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

STT_DELAY = 0.200
LEVEL = 300.0
SPEECH = 3
LLM_FIRST, LLM_GAP, TOKENS = 0.100, 0.005, 12
TTS_FIRST, TTS_GAP, PIECE, RATE = 0.050, 0.020, 0.100, 24000


class Transcriber(stt.STT):
    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, buffer, *, language=NOT_GIVEN, conn_options):
        raise NotImplementedError

    def stream(self, *, language=NOT_GIVEN, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        return TranscriberStream(stt=self, conn_options=conn_options)


class TranscriberStream(stt.RecognizeStream):
    async def _run(self) -> None:
        self._due, self._voiced, self._turns = None, 0, 0
        async for frame in self._input_ch:
            if isinstance(frame, rtc.AudioFrame):
                self._hear(frame)
        if self._due is not None:
            self._due.cancel()

    def _hear(self, frame: rtc.AudioFrame) -> None:
        loop = asyncio.get_running_loop()
        pcm = np.frombuffer(frame.data, dtype=np.int16).astype(np.float32)
        size = frame.sample_rate // 100
        pieces = pcm[: len(pcm) // size * size].reshape(-1, size)
        voiced = np.flatnonzero(np.sqrt(np.mean(pieces**2, axis=1)) > LEVEL)
        if len(voiced) == 0:
            return
        self._voiced += len(voiced)
        if self._voiced < SPEECH:
            return
        if self._due is None:
            self._emit(stt.SpeechEventType.START_OF_SPEECH)
        else:
            self._due.cancel()
        after = (len(pcm) - (int(voiced[-1]) + 1) * size) / frame.sample_rate
        self._due = loop.call_at(loop.time() - after + STT_DELAY, self._final)

    def _final(self) -> None:
        self._due, self._voiced = None, 0
        self._turns += 1
        words = [stt.SpeechData(language="en", text=f"turn {self._turns}")]
        self._emit(stt.SpeechEventType.FINAL_TRANSCRIPT, words)
        self._emit(stt.SpeechEventType.END_OF_SPEECH)

    def _emit(self, kind: stt.SpeechEventType, words=()) -> None:
        self._event_ch.send_nowait(stt.SpeechEvent(type=kind, alternatives=list(words)))


class Model(llm.LLM):
    def chat(self, *, chat_ctx, tools=None, conn_options=DEFAULT_API_CONNECT_OPTIONS, **_):
        return ModelStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class ModelStream(llm.LLMStream):
    async def _run(self) -> None:
        began = asyncio.get_running_loop().time()
        asked = [item for item in self._chat_ctx.items if item.type == "message" and item.role == "user"]
        said = (asked[-1].text_content or "") if asked else ""
        words = f"reply to {said} with some more words to speak aloud now".split()
        for number, word in enumerate([*words, *["and"] * TOKENS][:TOKENS]):
            await _until(began + LLM_FIRST + number * LLM_GAP)
            delta = llm.ChoiceDelta(role="assistant", content=word if number == 0 else f" {word}")
            self._event_ch.send_nowait(llm.ChatChunk(id="fake", delta=delta))


class Voice(tts.TTS):
    def __init__(self, seconds: float) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=RATE, num_channels=1)
        at = np.arange(round(PIECE * RATE)) / RATE
        self.tone = (12000 * np.sin(2 * math.pi * 440 * at)).astype(np.int16).tobytes()
        self.pieces = round(seconds / PIECE)

    def synthesize(self, text, *, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def stream(self, *, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        return VoiceStream(tts=self, conn_options=conn_options)


class VoiceStream(tts.SynthesizeStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id="fake", sample_rate=RATE, num_channels=1, mime_type="audio/pcm", stream=True
        )
        speaking: asyncio.Task[None] | None = None
        try:
            async for item in self._input_ch:
                if isinstance(item, str) and speaking is None:
                    self._mark_started()
                    speaking = asyncio.create_task(self._speak(output_emitter, asyncio.get_running_loop().time()))
            if speaking is not None:
                await speaking
        finally:
            if speaking is not None:
                speaking.cancel()

    async def _speak(self, output_emitter: tts.AudioEmitter, began: float) -> None:
        output_emitter.start_segment(segment_id="fake")
        for number in range(self._tts.pieces):
            await _until(began + TTS_FIRST + number * TTS_GAP)
            output_emitter.push(self._tts.tone)


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


server = AgentServer(
    num_idle_processes=int(os.environ.get("BENCH_IDLE", "4")),
    load_threshold=math.inf,
    load_fnc=lambda server: min(0.5, len(server.active_jobs) / 100),  # not the processor's: no job is refused for it
    port=0,
)


@server.rtc_session(agent_name=os.environ.get("BENCH_AGENT_NAME", "bench"))
async def entrypoint(ctx: JobContext) -> None:
    knobs = json.loads(ctx.job.metadata or "{}")
    session = AgentSession(
        stt=Transcriber(),
        llm=Model(),
        tts=Voice(knobs.get("reply_s", 2.0)),
        vad=inference.VAD(model="silero", min_silence_duration=knobs.get("vad_silence", 0.25)),
        turn_handling={
            "turn_detection": "vad",
            "endpointing": {"mode": "fixed", "min_delay": knobs.get("endpointing", 0.3), "max_delay": 3.0},
            "interruption": {"mode": "vad", "min_duration": knobs.get("interrupt_min", 0.5)},
            "preemptive_generation": {"enabled": knobs.get("preemptive", False)},
        },
        aec_warmup_duration=None,
    )
    await session.start(agent=Agent(instructions="bench"), room=ctx.room)
    if knobs.get("greet"):
        session.say("hello there")


if __name__ == "__main__":
    cli.run_app(server)
