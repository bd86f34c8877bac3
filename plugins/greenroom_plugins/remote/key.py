"""Where a vendor's key is taken from."""

from __future__ import annotations

import os

from greenroom.providers import OptionError

__all__ = ["check_address", "find_key"]


def find_key(written: str, *, variable: str) -> str:
    """The key as written in the YAML, or that of the environment. Raises ``OptionError`` when there is none."""
    key = written or os.environ.get(variable, "")
    if not key:
        raise OptionError(f"a key is required; expected here or in the environment as {variable}", path=("api_key",))
    if not key.isascii() or not key.isprintable() or " " in key:
        raise OptionError("not a key: it holds a space, or what is no plain character", path=("api_key",))
    return key


def check_address(url: str) -> None:
    """Raises ``OptionError`` for what is no address of a web server."""
    if not url.startswith(("https://", "http://", "wss://", "ws://")):
        raise OptionError("no address; expected https://... or wss://...", path=("base_url",))
