"""What the endpoints that speak OpenAI's protocol can do, and what is learned when one refuses a part of a request.

An endpoint is recognised by its address; one that is not is taken for a careful one (``other``). What a profile says is
where a provider begins: a refusal that names what it does not take changes it, and the same request is made again
without. Each change takes something away, so that this comes to an end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

__all__ = ["PROFILES", "Abilities", "Ability", "Profile", "ProfileName", "adapted", "profile_of", "without"]

ProfileName: TypeAlias = Literal[
    "openai",
    "azure",
    "cerebras",
    "deepseek",
    "fireworks",
    "gemini",
    "groq",
    "mistral",
    "openrouter",
    "together",
    "xai",
    "llama.cpp",
    "lm-studio",
    "ollama",
    "vllm",
    "other",
]

Ability: TypeAlias = Literal[
    "usage", "tools", "tool_choice", "parallel_tool_calls", "temperature", "max_tokens", "reasoning_effort", "developer"
]
"""What can be taken away from a profile by name."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a request for an answer may hold.

    ``usage``: tokens are counted on demand (``stream_options``). ``limits``: names of the option that limits the
    answer's tokens, the one to try first. ``reasoning``: the effort may be set; ``reasoning_with_tools``: to another
    than ``none`` also where there are tools. ``instructions``: the role of instructions. ``alternating``: instructions
    come first only, and then user and agent in turn, the user first, as the templates of many open models demand.
    ``short_call_ids``: calls are named by nine letters or digits. ``reasoning_effort``: what is asked of a model that
    reasons, where the options say nothing. ``thoughts``: a model's thoughts may come in its words, between tags.
    """

    usage: bool = True
    tools: bool = True
    tool_choice: bool = True
    parallel_tool_calls: bool = True
    temperature: bool = True
    reasoning: bool = True
    reasoning_with_tools: bool = True
    reasoning_effort: str = ""
    limits: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    instructions: Literal["system", "developer"] = "system"
    alternating: bool = False
    short_call_ids: bool = False
    thoughts: bool = True


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of endpoint.

    ``hosts``: it is at these, or below them. ``port``: it listens there by default, on any host that nobody else has.
    ``key_variable``: the variable of the environment that holds its key. ``needs_key``: it answers nobody without one.
    """

    name: ProfileName
    hosts: tuple[str, ...] = ()
    port: int = 0
    key_variable: str = ""
    needs_key: bool = False
    abilities: Abilities = field(default_factory=Abilities)


_NEW_LIMITS = ("max_completion_tokens", "max_tokens")
_OPENAI = Abilities(
    limits=_NEW_LIMITS,
    instructions="developer",
    # A voice cannot wait for thoughts; and with any, the newer models take no tools on this interface.
    reasoning_effort="none",
    thoughts=False,
)
_CAREFUL = Abilities(alternating=True)

PROFILES: dict[ProfileName, Profile] = {
    profile.name: profile
    for profile in (
        Profile("openai", ("api.openai.com",), 0, "OPENAI_API_KEY", True, _OPENAI),
        Profile(
            "azure",
            ("openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com"),
            key_variable="AZURE_OPENAI_API_KEY",
            needs_key=True,
            abilities=_OPENAI,
        ),
        Profile("cerebras", ("cerebras.ai",), 0, "CEREBRAS_API_KEY", True, Abilities(limits=_NEW_LIMITS)),
        Profile("deepseek", ("deepseek.com",), 0, "DEEPSEEK_API_KEY", True),
        Profile("fireworks", ("fireworks.ai",), 0, "FIREWORKS_API_KEY", True),
        Profile("gemini", ("generativelanguage.googleapis.com",), 0, "GEMINI_API_KEY", True, _CAREFUL),
        Profile("groq", ("groq.com",), 0, "GROQ_API_KEY", True, Abilities(limits=_NEW_LIMITS)),
        Profile(
            "mistral",
            ("mistral.ai",),
            key_variable="MISTRAL_API_KEY",
            needs_key=True,
            # It counts tokens without being asked, and refuses to be.
            abilities=replace(_CAREFUL, usage=False, limits=("max_tokens",), short_call_ids=True),
        ),
        Profile("openrouter", ("openrouter.ai",), 0, "OPENROUTER_API_KEY", True),
        Profile("together", ("together.xyz", "together.ai"), 0, "TOGETHER_API_KEY", True),
        Profile("xai", ("x.ai",), 0, "XAI_API_KEY", True, Abilities(limits=_NEW_LIMITS)),
        Profile("llama.cpp", port=8080, abilities=_CAREFUL),
        Profile("lm-studio", port=1234, abilities=_CAREFUL),
        # It reads no tool_choice.
        Profile("ollama", port=11434, abilities=replace(_CAREFUL, tool_choice=False)),
        Profile("vllm", port=8000, abilities=_CAREFUL),
        Profile("other", abilities=_CAREFUL),
    )
}


def profile_of(url: str) -> Profile:
    """The profile of the endpoint at this address."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    for profile in PROFILES.values():
        if any(host == one or host.endswith(f".{one}") for one in profile.hosts):
            return profile
    port = parts.port
    return next((profile for profile in PROFILES.values() if port and profile.port == port), PROFILES["other"])


_TAKEN_AWAY: dict[Ability, Callable[[Abilities], Abilities]] = {
    "usage": lambda has: replace(has, usage=False),
    "tools": lambda has: replace(has, tools=False),
    "tool_choice": lambda has: replace(has, tool_choice=False),
    "parallel_tool_calls": lambda has: replace(has, parallel_tool_calls=False),
    "temperature": lambda has: replace(has, temperature=False),
    "max_tokens": lambda has: replace(has, limits=has.limits[1:]),
    "reasoning_effort": lambda has: replace(has, reasoning=False),
    "developer": lambda has: replace(has, instructions="system"),
}


def without(abilities: Abilities, taken: tuple[Ability, ...]) -> Abilities:
    """The abilities less these."""
    for one in taken:
        abilities = replace(abilities, limits=()) if one == "max_tokens" else _TAKEN_AWAY[one](abilities)
    return abilities


def _alternate(has: Abilities) -> Abilities:
    return replace(has, alternating=True)


# The first that is found in what the endpoint says decides, so the special comes before the general.
_REFUSALS: tuple[tuple[re.Pattern[str], Callable[[Abilities], Abilities]], ...] = tuple(
    (re.compile(pattern), change)
    for pattern, change in (
        (r"reasoning_effort\b.*\bto ['\"`]?none\b", lambda has: replace(has, reasoning_with_tools=False)),
        (r"reasoning[_.]effort", _TAKEN_AWAY["reasoning_effort"]),
        (r"tool call id\b.*\blength", lambda has: replace(has, short_call_ids=True)),
        (r"--jinja|tool[ _-]choice\b.*\brequires|not support (?:\w+ )?tools\b", _TAKEN_AWAY["tools"]),
        (r"parallel_tool_calls", _TAKEN_AWAY["parallel_tool_calls"]),
        (r"tool_choice", _TAKEN_AWAY["tool_choice"]),
        (r"stream_options|include_usage", _TAKEN_AWAY["usage"]),
        (r"max(?:_completion)?_tokens", _TAKEN_AWAY["max_tokens"]),
        (r"temperature", _TAKEN_AWAY["temperature"]),
        (r"roles? must alternate|system messages? (?:must|should|can only)|must be at the beginning", _alternate),
        (r"no user (?:query|message)|contents (?:is|are) not specified|must start with a user", _alternate),
        (r"\bdeveloper\b|messages\[\d+\]\.role|messages\.\d+\.role", _TAKEN_AWAY["developer"]),
        (r"\btools\b.*(?:not (?:supported|permitted|allowed)|unsupported|extra_forbidden)", _TAKEN_AWAY["tools"]),
    )
)
_REFUSING = frozenset({400, 404, 422, 500, 501})
"""Statuses that refusals come with: 500 is llama.cpp's."""


def adapted(abilities: Abilities, *, status: int, said: str) -> Abilities | None:
    """The abilities after a refusal, or ``None`` where it is about something else.

    ``said``: the parameter that the endpoint names, and its words.
    """
    if status not in _REFUSING:
        return None
    words = " ".join(said.lower().split())
    for pattern, change in _REFUSALS:
        if pattern.search(words) and (changed := change(abilities)) != abilities:
            return changed
    return None
