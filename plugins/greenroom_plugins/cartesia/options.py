"""The keys beside ``plugin: cartesia``."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from msgspec import Meta, Struct

from greenroom_plugins.remote.key import check_address, find_key

__all__ = ["KEY_VARIABLE", "NAME", "CartesiaOptions"]

NAME = "cartesia"
KEY_VARIABLE = "CARTESIA_API_KEY"


class CartesiaOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: cartesia``.

    ``voice``: its id. ``speed``, ``volume`` and ``emotion``: of models from sonic-3 on. ``pronunciation``: the id of a
    pronunciation dictionary that Cartesia keeps. ``first_clause``: the first sentence may be cut at a comma after so
    many characters, so that it begins sooner; 0 never. ``timestamps``: whether Cartesia is asked when each word begins.
    ``keep``: seconds for which an unused connection is kept for the next speech; Cartesia ends it after 300.
    ``patience``: seconds without a word or a sound from Cartesia, while it owes some, after which it has failed.
    """

    model: Annotated[str, Meta(min_length=1)] = "sonic-3"
    voice: Annotated[str, Meta(min_length=1)] = "a0e99841-438c-4a64-b679-ae501e7d6091"
    language: str = "en"
    api_key: str = ""
    base_url: str = "https://api.cartesia.ai"
    version: str = "2026-03-01"
    sample_rate: Literal[8000, 16000, 22050, 24000, 44100, 48000] = 24000
    speed: Annotated[float, Meta(ge=0.6, le=1.5)] | None = None
    volume: Annotated[float, Meta(ge=0.5, le=2)] | None = None
    emotion: str = ""
    pronunciation: str = ""
    first_clause: Annotated[int, Meta(ge=0, le=1000)] = 0
    timestamps: bool = True
    keep: Annotated[float, Meta(ge=0, le=300)] = 240.0
    patience: Annotated[float, Meta(gt=0, le=60)] = 5.0
    connect_timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0

    def __repr__(self) -> str:
        return f"CartesiaOptions(model={self.model!r}, voice={self.voice!r}, api_key='***')"

    @property
    def key(self) -> str:
        """Raises ``OptionError`` when there is none."""
        return find_key(self.api_key, variable=KEY_VARIABLE)

    @property
    def url(self) -> str:
        return f"{self.base_url.rstrip('/')}/tts/websocket?{urlencode({'cartesia_version': self.version})}"

    @property
    def request(self) -> dict[str, Any]:
        """What every message of a context says alike."""
        asked: dict[str, Any] = {
            "model_id": self.model,
            "voice": {"mode": "id", "id": self.voice},
            "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": self.sample_rate},
            "add_timestamps": self.timestamps,
            "use_normalized_timestamps": False,
            # Whole sentences are sent: nothing is gained by waiting for more.
            "max_buffer_delay_ms": 0,
        }
        if self.language:
            asked["language"] = self.language
        manner = {"speed": self.speed, "volume": self.volume, "emotion": self.emotion or None}
        if any(value is not None for value in manner.values()):
            asked["generation_config"] = {name: value for name, value in manner.items() if value is not None}
        if self.pronunciation:
            asked["pronunciation_dict_id"] = self.pronunciation
        return asked

    def verify(self) -> None:
        """Raises ``OptionError``."""
        check_address(self.base_url)
        find_key(self.api_key, variable=KEY_VARIABLE)
