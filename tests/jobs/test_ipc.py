from __future__ import annotations

import pytest

from greenroom.jobs import ipc
from greenroom.jobs.ipc import BadFrame, ChildMessage, DaemonMessage, Frames
from tests.jobs.greenrooms import job

FROM_CHILD: list[ChildMessage] = [
    ipc.Hello("slot", 7, "0.1", job("hello")),
    ipc.Ready(0.5),
    ipc.BootFailure("why", "where"),
    ipc.Pong(3),
    ipc.Joined(0.1),
    ipc.Leaving("hung up", "late"),
    ipc.Ended(),
]
FROM_DAEMON: list[DaemonMessage] = [
    ipc.Boot(b"\x00settings", "host"),
    ipc.StartJob(job("x" * 500_000)),
    ipc.EndJob("drain", 10.0),
    ipc.MayLeave(),
    ipc.Ping(3),
]


@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_messages_survive_any_cut(size: int) -> None:
    for kind, messages in ((ChildMessage, FROM_CHILD), (DaemonMessage, FROM_DAEMON)):
        wire = b"".join(ipc.encode(message) for message in messages if size > 1 or len(ipc.encode(message)) < 9999)
        frames = Frames(kind)
        found = [one for start in range(0, len(wire), size) for one in frames.feed(wire[start : start + size])]
        assert found == [message for message in messages if size > 1 or len(ipc.encode(message)) < 9999]


@pytest.mark.parametrize(
    "wire", [b"\xff" * 8, b"\x00\x00\x00\x01\xc1", ipc.encode(ipc.Ping(1)), b"\x00\x00\x00\x02\x81\xa1"]
)
def test_what_is_no_message_of_the_child(wire: bytes) -> None:
    with pytest.raises(BadFrame):
        Frames(ChildMessage).feed(wire)


@pytest.mark.parametrize(
    "notice",
    [
        ipc.Preloaded(0.2, {"numpy": "ImportError: no"}),
        ipc.Threaded("numpy"),
        ipc.Forked("slot", 7),
        ipc.ForkFailed("slot", "fork: no memory"),
        ipc.ChildExited(7, -9),
    ],
)
def test_the_fork_servers_words(notice: ipc.ForkNotice) -> None:
    assert ipc.unpack_notice(ipc.pack(notice)) == notice


def test_a_token_is_not_shown() -> None:
    secret = job()
    assert secret.token not in repr(ipc.StartJob(secret))
