"""Connections that send at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from greenroom.room import promptness
from greenroom.room.promptness import hasten


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connected(stack: ExitStack, family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, int]:
    """A connection, and the port that it leads to."""
    server = stack.enter_context(socket.create_server(("", 0), family=family))
    port = server.getsockname()[1]
    connection = stack.enter_context(
        socket.create_connection(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
    )
    return connection, port


def prompt(connection: socket.socket) -> bool:
    return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_connections_to_the_server_send_at_once(stack: ExitStack, family: socket.AddressFamily) -> None:
    one, port = connected(stack, family)
    assert not prompt(one)
    assert hasten(f"ws://127.0.0.1:{port}") == 1
    assert prompt(one)
    assert hasten(f"ws://127.0.0.1:{port}") == 0


def test_connections_to_others_are_left_alone(stack: ExitStack) -> None:
    _, port = connected(stack)
    other, _ = connected(stack)
    stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).connect(("127.0.0.1", port))
    stack.enter_context(socket.socket())  # leads nowhere
    assert hasten(f"ws://127.0.0.1:{port}/path") == 1
    assert not prompt(other)


@pytest.mark.parametrize("address", ["wss://example.com", "ws://example.com", "https://example.com", "nonsense", ""])
def test_an_address_without_a_port_has_its_schemes(address: str) -> None:
    assert hasten(address) == 0


def test_where_a_process_cannot_see_its_files_all_stays_as_it_is(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, port = connected(stack)
    monkeypatch.setattr(promptness, "DESCRIPTORS", str(tmp_path / "none"))
    assert hasten(f"ws://127.0.0.1:{port}") == 0
    assert not prompt(one)
