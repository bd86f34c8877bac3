"""What a plugin implements: one small abstract class for each kind of model."""

from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
from greenroom.providers.llm import LLM, LLMChunk, TextDelta, ToolCall, ToolChoice, ToolSchema, Usage
from greenroom.providers.plugin import OptionError, Plugin, PluginError
from greenroom.providers.stt import STT, BatchSTT, STTStream, Transcript
from greenroom.providers.tts import TTS, SentenceTTS, SynthesizedAudio
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
    "LLMChunk",
    "Message",
    "OptionError",
    "Plugin",
    "PluginError",
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
