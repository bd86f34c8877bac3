"""One conversation, async: hears, thinks, speaks.

Knows no media server: it is given its audio and text as protocols.
"""
