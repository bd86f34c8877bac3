"""Which endpoint is taken for which, and what is learned from refusals."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom_plugins.openai.profiles import PROFILES, Abilities, Ability, ProfileName, adapted, profile_of, without


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://api.openai.com.example.net/v1", "other"),
        ("https://house.openai.azure.com/openai/v1", "azure"),
        ("https://API.GROQ.com/openai/v1", "groq"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini"),
        ("https://api.x.ai/v1", "xai"),
        ("https://fax.ai/v1", "other"),
        ("http://localhost:11434/v1", "ollama"),
        ("http://10.0.0.5:8000/v1", "vllm"),
        ("http://127.0.0.1:8080/v1", "llama.cpp"),
        ("http://[::1]:1234/v1", "lm-studio"),
        ("https://api.openai.com:8080/v1", "openai"),
        ("http://127.0.0.1:9999/v1", "other"),
    ],
)
def test_an_endpoint_is_known_by_its_address(url: str, name: str) -> None:
    assert profile_of(url).name == name


def test_every_profile_has_a_name_that_options_may_say() -> None:
    assert set(PROFILES) == set(get_args(ProfileName))
    assert all(name == profile.name for name, profile in PROFILES.items())


# The words are those of the vendors, as they are found in reports of such errors.
REFUSALS: list[tuple[int, str, dict[str, object]]] = [
    (
        400,
        "max_tokens Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        {"limits": ("max_completion_tokens",)},
    ),
    (
        400,
        "temperature Unsupported value: 'temperature' does not support 0.2. Only the default (1) value is supported.",
        {"temperature": False},
    ),
    (
        400,
        "Function tools with reasoning_effort are not supported. Use /v1/responses or set reasoning_effort to 'none'.",
        {"reasoning_with_tools": False},
    ),
    (400, "Unrecognized request argument supplied: reasoning_effort", {"reasoning": False}),
    (
        422,
        "{'detail': [{'type': 'extra_forbidden', 'loc': ['body', 'stream_options', 'include_usage']}]}",
        {"usage": False},
    ),
    (400, "Unrecognized request argument supplied: stream_options", {"usage": False}),
    (400, "Unsupported parameter: 'parallel_tool_calls' is not supported with this model.", {"parallel_tool_calls": 0}),
    (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', {"tools": False}),
    (400, "registry.ollama.ai/library/gemma:2b does not support tools", {"tools": False}),
    (500, "tools param requires --jinja flag", {"tools": False}),
    (400, "deepseek-reasoner does not support this tool_choice", {"tool_choice": False}),
    (400, "Conversation roles must alternate user/assistant/user/assistant/...", {"alternating": True}),
    (500, "System message must be at the beginning.", {"alternating": True}),
    (400, "No user query found in messages.", {"alternating": True}),
    (400, "messages[0].role Invalid value: 'developer'. Supported values are: 'system'.", {"instructions": "system"}),
    (
        400,
        "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
        {"short_call_ids": True},
    ),
]


@pytest.mark.parametrize(("status", "said", "changes"), REFUSALS, ids=[said[:40] for _, said, _ in REFUSALS])
def test_a_refusal_takes_away_what_it_names(status: int, said: str, changes: dict[str, object]) -> None:
    before = Abilities(instructions="developer")
    after = adapted(before, status=status, said=said)
    assert after is not None
    assert {
        name: getattr(after, name) for name in Abilities.__slots__ if getattr(after, name) != getattr(before, name)
    } == changes


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "This model's maximum context length is 8192 tokens."),
        (404, "The model `gpt-99` does not exist."),
        (401, "stream_options"),
        (429, "Rate limit reached for temperature"),
        (503, "tools param requires --jinja flag"),
    ],
)
def test_other_errors_are_no_refusal(status: int, said: str) -> None:
    assert adapted(Abilities(), status=status, said=said) is None


@settings(deadline=None)
@given(st.lists(st.sampled_from([said for _, said, _ in REFUSALS]), max_size=40))
def test_learning_comes_to_an_end(words: list[str]) -> None:
    """An endpoint that refuses whatever it is asked is asked a few times: one for each thing to take away."""
    abilities, changes = Abilities(instructions="developer"), 0
    for said in words:
        changed = adapted(abilities, status=400, said=said)
        if changed is not None:
            abilities, changes = changed, changes + 1
    assert changes <= len(Abilities.__slots__) + 1


def test_what_is_taken_away_by_name_is_gone() -> None:
    nothing = without(PROFILES["openai"].abilities, get_args(Ability))
    left = {name: getattr(nothing, name) for name in Abilities.__slots__ if getattr(nothing, name)}
    assert left == {"reasoning_with_tools": True, "reasoning_effort": "none", "instructions": "system"}
