"""The room: the only place in a job that speaks to LiveKit's media client.

Modules without ``livekit`` in them (``pacing``, ``capture``, ``caller``) may be imported anywhere.
"""
