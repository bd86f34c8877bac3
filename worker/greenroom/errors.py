"""Every error that greenroom raises, grouped by who has to act.

::

    GreenroomError
    ├── SettingsError          the user: a file, a line and a key are wrong
    ├── ServerError            the line to the media server
    │   ├── Rejected           fatal: credentials or registration refused
    │   └── LinkLost           transient: retried with backoff
    ├── ProviderError          a model or vendor failed; ``retryable`` says whether to try again
    ├── JobError               one job's process; never reaches another job
    │   ├── BootFailed         the process did not become ready
    │   ├── Unresponsive       it stopped answering
    │   └── OutOfMemory        it grew past its limit
    └── LocalProtocolError     greenroom's own bug: a machine was fed an event that its state forbids
"""

from __future__ import annotations

__all__ = [
    "BootFailed",
    "GreenroomError",
    "JobError",
    "LinkLost",
    "LocalProtocolError",
    "OutOfMemory",
    "ProviderError",
    "Rejected",
    "ServerError",
    "SettingsError",
    "Unresponsive",
]


class GreenroomError(Exception):
    """The root of greenroom's errors."""


class SettingsError(GreenroomError):
    """Something the user wrote is wrong.

    ``str(error)`` is one line: ``FILE:LINE: KEY: what is wrong, what was expected``.
    """

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "") -> None:
        self.message = message
        self.file = file
        self.line = line
        self.key = key
        place = f"{file}:{line}" if file and line else file
        super().__init__(": ".join(part for part in (place, key, message) if part))


class ServerError(GreenroomError):
    """The line to the media server failed."""


class Rejected(ServerError):
    """The server refused this worker; trying again with the same credentials cannot help."""


class LinkLost(ServerError):
    """The connection ended or went silent; it is made again with backoff."""


class ProviderError(GreenroomError):
    """A speech or language provider failed.

    ``provider`` is the plugin's name as written in the YAML, ``retryable`` says whether the same request may succeed
    when repeated. ``retry_after``: seconds that the vendor asks to wait before, where it does.
    """

    def __init__(
        self, message: str, *, provider: str, retryable: bool = False, retry_after: float | None = None
    ) -> None:
        self.provider = provider
        self.retryable = retryable
        self.retry_after = retry_after
        super().__init__(f"{provider}: {message}")


class JobError(GreenroomError):
    """One job's process failed."""


class BootFailed(JobError):
    """A process did not become ready in time, or said why it could not."""


class Unresponsive(JobError):
    """A process stopped answering pings."""


class OutOfMemory(JobError):
    """A process grew past its memory limit."""


class LocalProtocolError(GreenroomError):
    """A machine was fed an event that is illegal in its state: a bug in greenroom, never in remote input."""
