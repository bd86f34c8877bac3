"""A voice that begins while its text is still being written, by Cartesia, with the time of every word.

::

    tts: {plugin: cartesia, voice: a0e99841-438c-4a64-b679-ae501e7d6091, speed: 1.1}

The key is ``api_key``, or ``CARTESIA_API_KEY`` of the environment. What else may stand there ``CartesiaOptions`` says.

A speech is one context of Cartesia's, to which its sentences are sent as they are written, so that they sound like one
speech. Its websocket is kept for the next one. Cartesia says when each word begins, and the frames are cut there: when
the agent is interrupted it is known to the word what was heard.
"""

from greenroom.providers import Plugin
from greenroom_plugins.cartesia.options import CartesiaOptions

__all__ = ["CartesiaOptions", "plugin"]

plugin = Plugin(
    kinds={"tts": "greenroom_plugins.cartesia.stream:CartesiaTTS"},
    options={"tts": CartesiaOptions},
    requires=("aiohttp",),
)
