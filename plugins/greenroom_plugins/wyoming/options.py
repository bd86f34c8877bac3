"""The keys beside ``plugin: wyoming``."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from greenroom.providers import OptionError

__all__ = ["NAME", "WyomingSTTOptions", "WyomingTTSOptions", "place"]

NAME = "wyoming"


class WyomingSTTOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``stt: {plugin: wyoming}``.

    ``uri``: ``tcp://HOST:PORT`` or ``unix:///PATH``. ``model`` and ``language``: empty leaves them to the server.
    ``patience``: seconds to wait for the words of an utterance that is over. ``connect_timeout``: seconds.
    """

    uri: str = "tcp://127.0.0.1:10300"
    model: str = ""
    language: str = ""
    patience: Annotated[float, Meta(gt=0, le=120)] = 10.0
    connect_timeout: Annotated[float, Meta(gt=0, le=60)] = 3.0

    def __post_init__(self) -> None:
        place(self.uri)


class WyomingTTSOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``tts: {plugin: wyoming}``.

    ``uri``: as above. ``voice``, ``speaker`` and ``language``: empty leaves them to the server. ``sample_rate``: of the
    audio that comes out; what the server makes at another rate is resampled. ``first_clause``: the first sentence may
    be cut at a comma after so many characters, so that it begins sooner; 0 never. ``patience``: seconds in
    mid-sentence without a sound or any other sign of the server.
    """

    uri: str = "tcp://127.0.0.1:10200"
    voice: str = ""
    speaker: str = ""
    language: str = ""
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)] = 22050
    first_clause: Annotated[int, Meta(ge=0, le=1000)] = 30
    patience: Annotated[float, Meta(gt=0, le=120)] = 10.0
    connect_timeout: Annotated[float, Meta(gt=0, le=60)] = 3.0

    def __post_init__(self) -> None:
        place(self.uri)


def place(uri: str) -> tuple[str, int] | str:
    """Host and port, or the path of a socket. Raises ``OptionError``."""
    try:
        parts = urlsplit(uri)
        if parts.scheme == "tcp" and parts.hostname and parts.port and not parts.path.strip("/"):
            return parts.hostname, parts.port
        if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
            return parts.path
    except ValueError:
        pass  # the port is no number
    raise OptionError("no address; expected tcp://HOST:PORT or unix:///PATH", path=("uri",))
