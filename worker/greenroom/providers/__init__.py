"""What a plugin implements: one small abstract class for each kind of model."""

from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
from greenroom.providers.llm import LLM, LLMChunk, TextDelta, ToolCall, ToolChoice, ToolSchema, Usage
from greenroom.providers.plugin import OptionError, Plugin, PluginError
from greenroom.providers.provider import Provider
from greenroom.providers.realtime import RealtimeModel, RealtimeRequest, RealtimeSession
from greenroom.providers.stt import STT, BatchSTT, STTStream, Transcript
from greenroom.providers.tts import TTS, SentenceTTS, SynthesizedAudio
from greenroom.providers.turn import Heard, TurnDetector
from greenroom.providers.vad import VAD, VADStream

__all__ = [
    "LLM",
    "STT",
    "TTS",
    "VAD",
    "BatchSTT",
    "ChatContext",
    "FunctionCall",
    "FunctionCallOutput",
    "Heard",
    "LLMChunk",
    "Message",
    "OptionError",
    "Plugin",
    "PluginError",
    "Provider",
    "RealtimeModel",
    "RealtimeRequest",
    "RealtimeSession",
    "STTStream",
    "SentenceTTS",
    "SynthesizedAudio",
    "TextDelta",
    "ToolCall",
    "ToolChoice",
    "ToolSchema",
    "Transcript",
    "TurnDetector",
    "Usage",
    "VADStream",
]
