"""Speech to text as it is spoken, by Deepgram.

::

    stt: {plugin: deepgram, model: nova-3, language: en}

The key is ``api_key``, or ``DEEPGRAM_API_KEY`` of the environment. What else may stand there ``DeepgramOptions`` says.

The stream has one websocket, opened when the call begins. The session's voice activity says where utterances are:
their audio is sent, silence is not, and costs neither bandwidth nor money; while nobody speaks the connection is kept
by a message of 20 bytes every 4 seconds. When an utterance ends Deepgram is told to finish it at once, and is not
waited for to notice the silence. Where the session has no voice activity everything is sent and Deepgram finds the
utterances.

A connection that breaks is made again, and the audio of which no final words have come is sent once more: words are
late, and neither lost nor doubled.
"""

from greenroom.providers import Plugin
from greenroom_plugins.deepgram.options import DeepgramOptions

__all__ = ["DeepgramOptions", "plugin"]

plugin = Plugin(
    kinds={"stt": "greenroom_plugins.deepgram.stream:DeepgramSTT"},
    options={"stt": DeepgramOptions},
    requires=("aiohttp",),
)
