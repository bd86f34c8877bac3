"""OpenAI's Realtime protocol over websocket: a model that hears and speaks, theirs or any server's that speaks it.

::

    llm:
      plugin: openai_realtime           # the key in OPENAI_API_KEY
      model: gpt-realtime-1.5
      voice: marin

Without a ``vad`` beside it the model's own voice activity finds the user's utterances; with one only utterances are
sent. The model never answers or stops by itself: the session asks, plays, and says what was heard.
"""

from greenroom.providers import Plugin
from greenroom_plugins.openai_realtime.options import OpenAIRealtimeOptions

__all__ = ["OpenAIRealtimeOptions", "plugin"]

plugin = Plugin(
    kinds={"llm": "greenroom_plugins.openai_realtime.model:OpenAIRealtime"},
    options={"llm": OpenAIRealtimeOptions},
    requires=("aiohttp",),
    extra="openai-realtime",
)
