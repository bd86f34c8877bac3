"""Models of one kind, in order of preference: their health, what is told of their failures, and their small trials."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

import structlog

from greenroom.errors import ProviderError
from greenroom.machine import Driver
from greenroom.providers.provider import Provider
from greenroom.providers.resilience import health
from greenroom.providers.resilience.rules import Action, Fault, Hedge, Incident, Rules, fault_of
from greenroom.redaction import redact

__all__ = ["Candidate", "Chain", "Resilient", "Watcher"]

P = TypeVar("P", bound=Provider)
Watcher: TypeAlias = Callable[[Incident | Hedge], None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[P]):
    """A model, and how patient one is with it. ``name``: its plugin's."""

    name: str
    provider: P
    rules: Rules = field(default_factory=Rules)


class Chain(Generic[P]):
    """What the requests of one process know of the models they may ask.

    ``attempt`` makes a small request to a model: it returns when the model answers, and raises ``ProviderError``. Of
    one model alone nothing is remembered: there is nobody else to ask.
    """

    def __init__(
        self, kind: str, candidates: Sequence[Candidate[P]], *, attempt: Callable[[P], Awaitable[object]]
    ) -> None:
        if not candidates:
            raise ValueError("a chain of no models; expected at least one")
        self.kind = kind
        self.candidates = tuple(candidates)
        self.names = _distinct([candidate.name for candidate in candidates])
        self._attempt = attempt
        self._health = health.Health(len(candidates))
        self._driver: Driver[health.Event, health.Command] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trials: dict[int, asyncio.Task[None]] = {}
        self._watchers: list[Watcher] = []

    @property
    def first(self) -> P:
        """The preferred one."""
        return self.candidates[0].provider

    @property
    def rules(self) -> tuple[Rules, ...]:
        return tuple(candidate.rules for candidate in self.candidates)

    def order(self) -> tuple[int, ...]:
        """Whom to ask, one after the other."""
        return self._health.order()

    def well(self, number: int) -> bool:
        return self._health.condition(number) is health.Condition.WELL

    def provider(self, number: int) -> P:
        return self.candidates[number].provider

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Have it called with what happens; what it returns ends that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher) if watcher in self._watchers else None

    def answered(self, number: int) -> None:
        if len(self.candidates) > 1:
            self._feed(health.Answered(number))

    def blame(
        self, number: int, fault: Fault, action: Action, error: ProviderError, *, to: int | None = None, spent: bool
    ) -> Incident:
        """A model failed: tell everybody, and remember it if it is done with (``spent``)."""
        incident = Incident(
            self.kind, self.names[number], fault, action, error, to=self.names[to] if to is not None else ""
        )
        log.warning(
            "provider failed",
            kind=self.kind,
            provider=incident.provider,
            fault=fault,
            action=action,
            to=incident.to,
            error=redact(str(error)),
        )
        if spent and len(self.candidates) > 1:
            self._feed(health.Failed(number, error.retry_after or 0.0))
        self._tell(incident)
        return incident

    def pass_on(self, number: int, fault: Fault, error: ProviderError, *, to: int | None) -> Incident:
        """A model is done with, and another one is asked, or nobody: as ``blame``."""
        return self.blame(number, fault, "fell_back" if to is not None else "gave_up", error, to=to, spent=True)

    def hedged(self, hedge: Hedge) -> None:
        log.info("provider hedged", kind=hedge.kind, provider=hedge.provider, to=hedge.to, won=hedge.won)
        self._tell(hedge)

    def load(self) -> None:
        """Load all of them. Raises what the last one raises if none can be loaded."""
        failures: list[Exception] = []
        for candidate in self.candidates:
            try:
                candidate.provider.load()
            except ProviderError as error:
                log.warning("provider not loaded", kind=self.kind, provider=candidate.name, error=redact(str(error)))
                failures.append(error)
        if len(failures) == len(self.candidates):
            raise failures[0]

    async def warm_up(self) -> None:
        """Let all of them open connections. One that cannot, while another can, is not asked first."""
        failures = await asyncio.gather(*(self._warm_up(number) for number in range(len(self.candidates))))
        if all(failures):
            raise failures[0] or ProviderError("cannot be warmed up", provider=self.names[0])
        reached = next(number for number in self.order() if failures[number] is None)
        for number, error in enumerate(failures):
            if error is not None:
                self.pass_on(number, fault_of(error), error, to=reached)

    async def aclose(self) -> None:
        """Let go of everything; asked again, all begins anew."""
        trials = tuple(self._trials.values())
        for trial in trials:
            trial.cancel()
        await asyncio.gather(*trials, return_exceptions=True)
        if self._driver is not None:
            self._driver.close()
        self._driver = self._loop = None
        await asyncio.gather(*(candidate.provider.aclose() for candidate in self.candidates))

    # --- health -------------------------------------------------------------------------------------------------------

    def _feed(self, event: health.Event) -> None:
        loop = asyncio.get_running_loop()
        if self._driver is None or self._loop is not loop:
            self._loop = loop
            self._driver = Driver(self._health, self._perform, clock=loop, tick=health.Tick())
        self._driver.feed(event)

    def _perform(self, command: health.Command) -> None:
        number = command.model
        if isinstance(command, health.Recovered):
            log.info("provider well again", kind=self.kind, provider=self.names[number])
        elif self._loop is not None:
            trial = self._loop.create_task(self._try(number), name=f"trial of {self.names[number]}")
            self._trials[number] = trial
            trial.add_done_callback(lambda _: self._trials.pop(number, None))

    async def _try(self, number: int) -> None:
        candidate = self.candidates[number]
        try:
            async with asyncio.timeout(candidate.rules.timeout):
                await self._attempt(candidate.provider)
        except (ProviderError, TimeoutError) as error:
            said = redact(str(error)) or f"no answer within {candidate.rules.timeout:g} s"
            log.info("provider still ill", kind=self.kind, provider=self.names[number], error=said)
            self._feed(health.TrialFailed(number))
        except Exception:
            log.exception("the trial of a provider failed", kind=self.kind, provider=self.names[number])
            self._feed(health.TrialFailed(number))
        else:
            self._feed(health.Answered(number))

    # --- pieces -------------------------------------------------------------------------------------------------------

    async def _warm_up(self, number: int) -> ProviderError | None:
        candidate = self.candidates[number]
        try:
            async with asyncio.timeout(candidate.rules.timeout):
                await candidate.provider.warm_up()
        except ProviderError as error:
            return error
        except TimeoutError:
            return ProviderError(
                f"no connection within {candidate.rules.timeout:g} s", provider=candidate.name, retryable=True
            )
        return None

    def _tell(self, what: Incident | Hedge) -> None:
        for watcher in tuple(self._watchers):
            watcher(what)


class Resilient(Provider, Generic[P]):
    """What the models have in common that ask others when they fail."""

    chain: Chain[P]

    @property
    def label(self) -> str:
        """The plugin's name of the one that is asked first now."""
        return self.chain.names[self.chain.order()[0]]

    def load(self) -> None:
        self.chain.load()

    async def warm_up(self) -> None:
        await self.chain.warm_up()

    async def aclose(self) -> None:
        await self.chain.aclose()


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The same names with numbers where they repeat: ``openai``, ``openai#2``."""
    seen: dict[str, int] = {}
    told: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        told.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(told)
