"""Instant connect: what the user said before the agent was there, recorded and sent by LiveKit's clients.

The clients send it as a byte stream. ``watch`` decides which stream is the user's and how long it is waited for,
``intake`` receives it, ``decoder`` makes audio of it, and ``seam`` joins that to the live audio.

Everything but ``intake`` is without ``livekit`` and may be imported anywhere. PyAV is loaded when it is needed.
"""
