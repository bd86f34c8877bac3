"""A conversation never blocks the loop that carries its audio: a blocking call in our code fails the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    with blockbuster_ctx(["greenroom.session", "greenroom.dialog", "greenroom.machine", "greenroom.providers"]):
        yield
