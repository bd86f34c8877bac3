"""Speech to text and text to speech by any server of the Wyoming protocol, Home Assistant's open one.

::

    stt: {plugin: wyoming, uri: tcp://127.0.0.1:10300, language: en}
    tts: {plugin: wyoming, uri: tcp://127.0.0.1:10200, voice: en_US-lessac-medium}

There are such servers for Whisper, Vosk, Piper, Kokoro and many more, most of them in a container. The protocol knows
no keys and no encryption: it is for the machine itself and networks that are trusted. What else may stand there
``WyomingSTTOptions`` and ``WyomingTTSOptions`` say.

An utterance is sent while it is spoken, so that a server that can hears as it comes, and its words follow the end at
once; servers that tell words as they find them are shown so. A sentence is spoken at a time.
"""

from greenroom.providers import Plugin
from greenroom_plugins.wyoming.options import WyomingSTTOptions, WyomingTTSOptions

__all__ = ["WyomingSTTOptions", "WyomingTTSOptions", "plugin"]

plugin = Plugin(
    kinds={"stt": "greenroom_plugins.wyoming.stt:WyomingSTT", "tts": "greenroom_plugins.wyoming.tts:WyomingTTS"},
    options={"stt": WyomingSTTOptions, "tts": WyomingTTSOptions},
)
