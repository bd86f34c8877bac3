"""A settings file checked all the way: the plugins it names are there, their options right, the user's classes agents.

Imports providers and runs the user's modules, so never in the daemon: ``greenroom start`` does this in a process of
its own, which is gone before the daemon begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from greenroom import settings_file
from greenroom.models.sharing import refusal
from greenroom.models.work import SHAREABLE
from greenroom.providers import RealtimeModel, registry
from greenroom.providers.plugin import PluginError
from greenroom.reference import BadReference, resolve
from greenroom.session.agent import Agent
from greenroom.settings import Settings
from greenroom.wording import suggestion

__all__ = ["check"]


def check(file: Path, *, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in the file. Raises ``InvalidSettings`` with every mistake in it."""

    def check_agent(reference: str) -> str | None:
        try:
            resolve(reference, kind=Agent, beside=file)
        except BadReference as error:
            return str(error)
        return None

    return settings_file.load(
        file, environ=environ, check_plugin=_check_plugin, check_model=_check_model, check_agent=check_agent
    )


def _check_plugin(kind: str, name: str, options: Mapping[str, Any]) -> tuple[tuple[str | int, ...], str] | None:
    wanted = cast("registry.Kind", kind)
    try:
        registry.check(wanted, name, options)
    except registry.UnknownPlugin as error:
        hint = suggestion(name, registry.names())
        return error.path, f"no plugin `{name}` is installed; expected one for {kind}: {_offering(wanted)}{hint}"
    except registry.UnsupportedKind as error:
        offered = ", ".join(registry.load_plugin(name).kinds)
        return error.path, f"plugin `{name}` offers {offered}; expected one for {kind}: {_offering(wanted)}"
    except PluginError as error:
        return error.path, error.message
    return None


def _check_model(kind: str, name: str, demand: settings_file.Demand) -> str | None:
    if demand == "shared" and kind not in SHAREABLE:
        return refusal(kind, name)
    try:
        offered = registry.offered(cast("registry.Kind", kind), name)
    except PluginError as error:
        return error.message
    if demand == "shared":
        return None if issubclass(offered, SHAREABLE[kind]) else refusal(kind, name)
    if issubclass(offered, RealtimeModel):
        return None
    return f"plugin `{name}`: its {kind} is no realtime model; expected realtime beside one, such as openai_realtime"


def _offering(kind: registry.Kind) -> str:
    return ", ".join(registry.offering(kind)) or "none is installed"
