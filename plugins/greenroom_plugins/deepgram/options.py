"""The keys beside ``plugin: deepgram``."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from msgspec import Meta, Struct

from greenroom_plugins.remote.key import check_address, find_key

__all__ = ["KEY_VARIABLE", "NAME", "DeepgramOptions"]

NAME = "deepgram"
KEY_VARIABLE = "DEEPGRAM_API_KEY"


class DeepgramOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: deepgram``.

    ``utterances``: who says where they are. ``session``: its voice activity does, and only they are sent; ``own``:
    everything is sent, and Deepgram does; ``auto``: Deepgram does until the session has marked one. ``endpointing``:
    seconds of silence after which Deepgram takes a phrase for final, and ``utterance_end`` those without a word after
    which it says that the user has finished; both count where it finds utterances itself. ``keyterms``: words to
    expect, such as names. ``parameters``: whatever else the address of ``/v1/listen`` takes, as it is written there.
    ``patience``: seconds to wait for the last words of an utterance.
    """

    model: Annotated[str, Meta(min_length=1)] = "nova-3"
    language: str = "en"
    api_key: str = ""
    base_url: str = "https://api.deepgram.com"
    sample_rate: Literal[8000, 16000, 24000, 48000] = 16000
    utterances: Literal["auto", "session", "own"] = "auto"
    interim: bool = True
    punctuate: bool = True
    smart_format: bool = False
    numerals: bool = False
    profanity_filter: bool = False
    filler_words: bool = True
    endpointing: Annotated[float, Meta(ge=0.01, le=10)] = 0.3
    utterance_end: Annotated[float, Meta(ge=1, le=5)] = 1.0
    keyterms: tuple[str, ...] = ()
    parameters: dict[str, str] = {}
    patience: Annotated[float, Meta(gt=0, le=60)] = 3.0
    connect_timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0

    def __repr__(self) -> str:
        return f"DeepgramOptions(model={self.model!r}, language={self.language!r}, api_key='***')"

    @property
    def key(self) -> str:
        """Raises ``OptionError`` when there is none."""
        return find_key(self.api_key, variable=KEY_VARIABLE)

    @property
    def url(self) -> str:
        """Of the websocket, with all that Deepgram is asked for."""
        asked: list[tuple[str, str]] = [
            ("model", self.model),
            ("encoding", "linear16"),
            ("sample_rate", str(self.sample_rate)),
            ("channels", "1"),
            ("endpointing", str(round(self.endpointing * 1000))),
        ]
        if self.language:
            asked.append(("language", self.language))
        # The end of an utterance is found in the interim results, so that they are asked for in any case.
        asked += [("interim_results", "true"), ("utterance_end_ms", str(round(self.utterance_end * 1000)))]
        for name in ("punctuate", "smart_format", "numerals", "profanity_filter", "filler_words"):
            asked.append((name, "true" if getattr(self, name) else "false"))
        asked += [("keyterm", term) for term in self.keyterms]
        # What is written under parameters counts before what the other keys make of it.
        asked = [(name, value) for name, value in asked if name not in self.parameters]
        return f"{self.base_url.rstrip('/')}/v1/listen?{urlencode([*asked, *self.parameters.items()])}"

    def verify(self) -> None:
        """Raises ``OptionError``."""
        check_address(self.base_url)
        find_key(self.api_key, variable=KEY_VARIABLE)
