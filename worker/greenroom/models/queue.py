"""Whose request a shared model works on next.

Pure. Rules:

- At most ``slots`` groups of requests are in work at once; a group is one request, or up to ``batch`` where the model
  takes several in one go.
- Callers take turns: next is a request of the caller that was served longest ago. A caller's own requests keep their
  order.
- Long requests (``size`` above ``long``) leave one slot free for short ones, where there is more than one. A long one
  waits for its turn and is then passed over until a slot may be given to it; no other long one goes before it.
- A request that is asked again, since the host that worked on it died, may be what killed it: it is worked on alone.
  When its turn comes nothing else is begun until it has been, so that it neither waits for ever nor takes others along.
- A batch has short requests only, at most one of each caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["FairQueue", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """``id``: unique; ``caller``: who asks; ``size``: how much work, in the model's own unit; ``again``: see above."""

    id: int
    caller: int
    size: float = 0.0
    again: bool = False


@dataclass(slots=True)
class _Group:
    long: bool
    alone: bool
    open: set[int] = field(default_factory=set)


class FairQueue:
    """One model's. ``long``: the size above which a request is long."""

    def __init__(self, *, slots: int, batch: int = 1, long: float = float("inf")) -> None:
        self.slots = slots
        self.batch = batch
        self._long = long
        self._waiting: dict[int, deque[Request]] = {}  # by caller; in the order in which they are next
        self._groups: dict[int, _Group] = {}  # by request in work

    @property
    def waiting(self) -> int:
        return sum(len(own) for own in self._waiting.values())

    @property
    def working(self) -> int:
        """Requests in work."""
        return len(self._groups)

    def put(self, request: Request) -> None:
        self._waiting.setdefault(request.caller, deque()).append(request)

    def drop(self, request: Request) -> bool:
        """Nobody wants it any more. Whether it was waiting: one that is in work stays until ``done``."""
        own = self._waiting.get(request.caller)
        if own is None or request not in own:
            return False
        own.remove(request)
        if not own:
            del self._waiting[request.caller]
        return True

    def done(self, request_id: int) -> None:
        """Its work has ended, however. Its slot is free once that is so of its whole group."""
        group = self._groups.pop(request_id)
        group.open.discard(request_id)

    def take(self) -> list[list[Request]]:
        """The groups that are to be begun now. Call it after each ``put`` and ``done``."""
        begun = []
        while (group := self._next()) is not None:
            begun.append(group)
        return begun

    def _next(self) -> list[Request] | None:
        groups = self._active()
        if len(groups) >= self.slots or any(group.alone for group in groups):
            return None
        room_for_long = self.slots == 1 or sum(group.long for group in groups) < self.slots - 1
        for request in list(self._heads()):
            if request.again:
                # Its turn has come: it goes alone, or nothing else goes before it.
                return None if groups else self._begin([request])
            if request.size > self._long:
                if room_for_long:
                    return self._begin([request])
                room_for_long = False
                continue
            return self._begin([request, *self._companions(request)])
        return None

    def _companions(self, first: Request) -> Iterator[Request]:
        """Who goes in one batch with it."""
        room = self.batch - 1
        for request in list(self._heads()):
            if room <= 0 or request.again:
                return
            if request is not first and request.size <= self._long:
                room -= 1
                yield request

    def _begin(self, requests: list[Request]) -> list[Request]:
        group = _Group(long=requests[0].size > self._long, alone=requests[0].again)
        for request in requests:
            self._groups[request.id] = group
            group.open.add(request.id)
            own = self._waiting.pop(request.caller)
            own.remove(request)
            if own:
                self._waiting[request.caller] = own  # behind all others
        return requests

    def _heads(self) -> Iterator[Request]:
        return (own[0] for own in self._waiting.values())

    def _active(self) -> list[_Group]:
        return list({id(group): group for group in self._groups.values()}.values())
