"""In the host: the models that are loaded, who uses them, and what is asked of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, Literal, TypeAlias

import msgspec
import structlog

from greenroom.errors import GreenroomError, ProviderError
from greenroom.models.queue import FairQueue, Request
from greenroom.models.wire import Held, Item, Task, Use
from greenroom.models.work import LONG, Shareable, load, perform, perform_batch, size_of
from greenroom.providers.parallel import BatchRecognizer

__all__ = ["BEGUN", "Model", "NotLoaded", "Result", "Shelf", "Tally", "Work"]

UNLOAD_AFTER = 30.0
"""Seconds for which a model that nobody uses, and that is not to be kept, stays."""

BEGUN: Final = "begun"
Result: TypeAlias = Item | ProviderError | Literal["begun"] | None
"""That it has had its turn, a piece of an answer, why there is none, or ``None`` for its end."""

log = structlog.get_logger(__name__)


class NotLoaded(ProviderError):
    """The model is not there."""


@dataclass(eq=False, slots=True)
class Work:
    """One request. ``tell`` is called with each piece and the end, unless the work is dropped before."""

    request: Request
    task: Task
    tell: Callable[[Result], None]
    asked: float
    dropped: bool = False


class Tally:
    """What has been done, for the daemon's metrics."""

    MOST = 2_000

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}
        self.seconds: list[tuple[str, str, str, float]] = []

    def count(self, kind: str, plugin: str, outcome: str) -> None:
        key = (kind, plugin, outcome)
        self.requests[key] = self.requests.get(key, 0) + 1

    def time(self, kind: str, plugin: str, what: str, seconds: float) -> None:
        if len(self.seconds) < self.MOST:
            self.seconds.append((kind, plugin, what, seconds))


class Model:
    """One model, and the requests for it."""

    def __init__(self, use: Use, *, threads: int, tally: Tally) -> None:
        self.use = use
        self.kept = False
        self.users: set[object] = set()
        self.seconds = 0.0
        self.loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.loaded.add_done_callback(_seen)
        self._threads = threads
        self._tally = tally
        self._provider: Shareable | None = None
        self._queue = FairQueue(slots=1, long=LONG[use.kind])
        self._works: dict[int, Work] = {}
        self._groups: dict[int, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Raises nothing: ``loaded`` tells what became of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._provider, slots, batch = await asyncio.to_thread(load, self.use, threads=self._threads)
        except GreenroomError as error:
            retryable = isinstance(error, ProviderError) and error.retryable
            self.loaded.set_exception(_not_loaded(self.use, str(error), retryable=retryable))
        except Exception as error:  # a plugin's load
            log.exception("model failed to load", kind=self.use.kind, provider=self.use.plugin)
            self.loaded.set_exception(_not_loaded(self.use, f"{type(error).__name__}: {error}"))
        else:
            self.seconds = loop.time() - began
            self._queue.slots, self._queue.batch = slots, batch
            log.info(
                "model loaded",
                kind=self.use.kind,
                provider=self.use.plugin,
                seconds=round(self.seconds, 3),
                parallel=slots,
                batch=batch,
            )
            self.loaded.set_result(None)
            self._begin()

    def put(self, work: Work) -> None:
        """Ask for something; before the model is loaded it waits."""
        self._works[work.request.id] = work
        self._queue.put(work.request)
        self._begin()

    def drop(self, work: Work) -> None:
        """Nobody wants it any more: it is not begun, or given up."""
        work.dropped = True
        if self._queue.drop(work.request):
            del self._works[work.request.id]
            self._tally.count(self.use.kind, self.use.plugin, "cancelled")
            self._begin()  # those that it stood before
            return
        task = self._groups.get(work.request.id)
        if task is not None and all(
            self._works[one].dropped for one, other in self._groups.items() if other is task and one in self._works
        ):
            task.cancel()

    async def aclose(self) -> None:
        """Let go of it; nothing is under way."""
        if self._provider is not None:
            await self._provider.aclose()
            self._provider = None

    # --- working ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._provider is None:
            return
        now = asyncio.get_running_loop().time()
        for group in self._queue.take():
            works = [self._works[request.id] for request in group]
            for work in works:
                self._tally.time(self.use.kind, self.use.plugin, "wait", now - work.asked)
                work.tell(BEGUN)
            task = asyncio.create_task(self._run(works, self._provider), name=f"{self.use.kind} {self.use.plugin}")
            self._groups |= dict.fromkeys((work.request.id for work in works), task)
            task.add_done_callback(partial(self._ended, works=works, began=now))

    async def _run(self, works: list[Work], provider: Shareable) -> None:
        if len(works) == 1 or not isinstance(provider, BatchRecognizer):
            for work in works:
                async for item in perform(provider, work.task):
                    work.tell(item)
        else:
            items = await perform_batch(provider, [work.task for work in works])
            for work, item in zip(works, items, strict=True):
                if not work.dropped:
                    work.tell(item)

    def _ended(self, task: asyncio.Task[None], *, works: list[Work], began: float) -> None:
        seconds = asyncio.get_running_loop().time() - began
        error = None if task.cancelled() else task.exception()
        end = _told(error, self.use)
        for work in works:
            del self._groups[work.request.id], self._works[work.request.id]
            self._queue.done(work.request.id)
            outcome = "cancelled" if work.dropped else "done" if end is None else "failed"
            self._tally.count(self.use.kind, self.use.plugin, outcome)
            if outcome == "done":
                self._tally.time(self.use.kind, self.use.plugin, "work", seconds)
            if not work.dropped:
                work.tell(end)
        self._begin()


class Shelf:
    """All models of a host. ``changed`` is called whenever others are there, or used by others."""

    def __init__(self, *, changed: Callable[[], None]) -> None:
        self.tally = Tally()
        self.threads = 1
        self._changed = changed
        self._models: dict[bytes, Model] = {}
        self._one_at_a_time = asyncio.Lock()  # a load takes all of a core: two would both come later
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)

    def keep(self, uses: Iterable[Use]) -> None:
        """Hold these from now on, and of the others only what is used."""
        wanted = {_key(use): use for use in uses}
        for key, use in wanted.items():
            self._model(key, use).kept = True
        for key, model in list(self._models.items()):
            if key not in wanted:
                model.kept = False
                self._spare(key, model)
        self._changed()

    def use(self, use: Use, *, user: object) -> Model:
        """Have a model, loaded or on its way. Raises ``NotLoaded`` for one that cannot be shared."""
        if use.kind not in LONG:
            raise _not_loaded(use, f"a {use.kind} cannot be shared")
        model = self._model(_key(use), use)
        model.users.add(user)
        self._changed()
        return model

    def leave(self, user: object) -> None:
        """It uses none any more."""
        for key, model in list(self._models.items()):
            if user in model.users:
                model.users.discard(user)
                self._spare(key, model)
        self._changed()

    def work(self, task: Task, *, caller: int, again: bool, tell: Callable[[Result], None]) -> Work:
        """A request, to be ``put``."""
        request = Request(next(self._numbers), caller, size_of(task), again)
        return Work(request, task, tell, asyncio.get_running_loop().time())

    def held(self) -> tuple[Held, ...]:
        """What is loaded."""
        return tuple(
            Held(model.use.kind, model.use.plugin, len(model.users), round(model.seconds, 3))
            for model in self._models.values()
            if model.loaded.done()
        )

    @property
    def ready(self) -> bool:
        """All that is kept is there."""
        return all(model.loaded.done() for model in self._models.values() if model.kept)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _model(self, key: bytes, use: Use) -> Model:
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = Model(use, threads=self.threads, tally=self.tally)
            self._spawn(self._load(key, model))
        return model

    async def _load(self, key: bytes, model: Model) -> None:
        async with self._one_at_a_time:
            await model.load()
        if model.loaded.exception() is not None:
            # Whoever wants it next has it tried again.
            self._models.pop(key, None)
        self._changed()

    def _spare(self, key: bytes, model: Model) -> None:
        if not model.users and not model.kept:
            self._spawn(self._unload(key, model))

    async def _unload(self, key: bytes, model: Model) -> None:
        await asyncio.sleep(UNLOAD_AFTER)
        if model.users or model.kept or self._models.get(key) is not model:
            return
        del self._models[key]
        await model.aclose()
        log.info("model unloaded", kind=model.use.kind, provider=model.use.plugin)
        self._changed()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key(use: Use) -> bytes:
    return msgspec.msgpack.encode((use.kind, use.plugin, use.options), order="deterministic")


def _not_loaded(use: Use, error: str, *, retryable: bool = False) -> NotLoaded:
    return NotLoaded(_without(use.plugin, error), provider=use.plugin, retryable=retryable)


def _told(error: BaseException | None, use: Use) -> ProviderError | None:
    """What the caller is told of how its request ended."""
    if error is None:
        return None
    if isinstance(error, ProviderError):
        return error
    log.error("request failed", kind=use.kind, provider=use.plugin, exc_info=error)
    return ProviderError(f"{type(error).__name__}: {error}", provider=use.plugin)


def _without(plugin: str, error: str) -> str:
    """``ProviderError`` puts the provider's name before its words."""
    return error.removeprefix(f"{plugin}: ")


def _seen(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
