"""OpenAI's interface, by the official client: language models, speech to text and text to speech.

Whatever speaks it will do: OpenAI itself, Azure, Groq, and programs on one's own machine such as Ollama, vLLM or
llama.cpp. docs/plugins.md has the options.
"""

from __future__ import annotations

from greenroom.providers import Plugin
from greenroom_plugins.openai.options import LLMOptions, STTOptions, TTSOptions

__all__ = ["LLMOptions", "STTOptions", "TTSOptions", "plugin"]

plugin = Plugin(
    kinds={
        "llm": "greenroom_plugins.openai.llm:OpenAILLM",
        "stt": "greenroom_plugins.openai.stt:OpenAISTT",
        "tts": "greenroom_plugins.openai.tts:OpenAITTS",
    },
    options={"llm": LLMOptions, "stt": STTOptions, "tts": TTSOptions},
    requires=("openai", "httpx2"),
    extra="openai",
    # Half a second and 40 MB, once for all calls.
    preload=("openai", "openai.resources.chat", "openai.resources.audio"),
)
