"""What every model has beside its work: loading, warming up, closing, and a name. All of it is optional."""

from __future__ import annotations

from abc import ABC

__all__ = ["Provider"]


class Provider(ABC):  # noqa: B024  # the kinds of models have the abstract methods
    """A model or vendor of any kind. One object serves all calls of its process."""

    @property
    def label(self) -> str:
        """What metrics call it."""
        return type(self).__name__

    def load(self) -> None:  # noqa: B027  # loading early is optional
        """Load the model; called once in a warm process, before a job. Blocks. Idempotent."""

    async def warm_up(self) -> None:  # noqa: B027  # as above
        """Open connections, so that the first request need not.

        Called in the background once the call has begun, while requests may come already. Raises ``ProviderError``;
        what fails here is tried again by the first request.
        """

    async def aclose(self) -> None:  # noqa: B027  # as above
        """Let go of connections and tasks. Idempotent; asked again, also on another loop, it opens them again."""
