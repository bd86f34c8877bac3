"""How a provider is registered for the contract suite and for the table of faults."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, get_args

from greenroom.providers import Provider
from greenroom.testing.contract import Speech

__all__ = ["FAULTS", "SECRET", "Case", "Fault", "Kind", "VendorServer"]

Kind: TypeAlias = Literal["vad", "stt", "llm", "tts", "turn", "realtime"]

Fault: TypeAlias = Literal[
    "401", "403", "404", "429", "500", "503", "stall", "cut", "silence", "malformed", "expired_key"
]
"""What can be wrong with a vendor.

Statuses: of the request, or of the handshake of a websocket. ``stall``: after the headers or the handshake nothing
more comes, and nothing is closed. ``cut``: the connection breaks after the first output (words, sound). ``silence``:
all is well-formed, and there are no words or no sound in it. ``malformed``: something that is not the protocol.
``expired_key``: the key was right and is no more; the vendor's own words for that.
"""
FAULTS: tuple[Fault, ...] = get_args(Fault)


class VendorServer(Protocol):
    """A small local server that speaks a vendor's documented protocol."""

    @property
    def url(self) -> str:
        """What the provider's ``base_url``, or what it calls it, is set to."""
        ...

    @property
    def under_way(self) -> int:
        """Requests and streams that it is working on now. 0 soon after a client has cancelled or closed."""
        ...

    def order(self, fault: Fault | Literal[""], *, times: int = 1) -> None:
        """The next so many requests (handshakes, of websockets) suffer this; ``""``: all goes well again."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One provider under test. ``name``: of the test: plugin, and what is special.

    ``make``: the provider, with the ``SECRET`` as its key where it has one; given the address of its server, ``""``
    without one. ``serve``: its server, started and stopped as a context manager. ``faults``: those that the server can
    play. ``failing``: a provider that cannot work. ``speech``: makes a recording with words that the transcriber finds.
    ``models``: it needs the local models. ``patience``: seconds that an answer may take, and ``promptness`` that
    stopping may.
    """

    name: str
    kind: Kind
    make: Callable[[str], Provider]
    serve: Callable[[], AbstractAsyncContextManager[VendorServer]] | None = None
    faults: frozenset[Fault] = field(default=frozenset())
    failing: Callable[[str], Provider] | None = None
    speech: Callable[[], Speech] | None = None
    labelled: bool = True
    """Of a voice: it says which words begin with a piece of audio."""
    models: bool = False
    patience: float = 20.0
    promptness: float = 0.25


SECRET = "sk-greenroom-contract-0123456789"
"""The key that providers under test are given: no error may hold it."""
