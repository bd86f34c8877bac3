"""What a plugin implements: one small abstract class for each kind of model."""

from greenroom.providers.llm import LLM, LLMChunk, TextDelta, ToolCall, ToolChoice, ToolSchema, Usage
from greenroom.providers.plugin import Plugin
from greenroom.providers.stt import STT, BatchSTT, STTStream, Transcript
from greenroom.providers.tts import TTS, SentenceTTS, SynthesizedAudio
from greenroom.providers.vad import VAD, VADStream

__all__ = [
    "LLM",
    "STT",
    "TTS",
    "VAD",
    "BatchSTT",
    "LLMChunk",
    "Plugin",
    "STTStream",
    "SentenceTTS",
    "SynthesizedAudio",
    "TextDelta",
    "ToolCall",
    "ToolChoice",
    "ToolSchema",
    "Transcript",
    "Usage",
    "VADStream",
]
