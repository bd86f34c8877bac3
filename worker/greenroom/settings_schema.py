"""The JSON schema of the settings file, for editors: generated from the models, so that it says the same."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec

from greenroom.settings import Settings
from greenroom.settings_file import SERVER_VARIABLES
from greenroom.settings_shape import NOT_IN_FILE

__all__ = ["encode_schema", "schema"]

_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}


def schema() -> dict[str, Any]:
    """A schema of draft 2020-12.

    It differs from the models where the file does: ``server`` may come from the environment, a provider's options
    stand beside ``plugin``, sections may be empty, and ``${VARIABLE}`` may stand for anything that is no text.
    """
    (reference,), definitions = msgspec.json.schema_components([Settings], ref_template="#/$defs/{name}")
    root = definitions["Settings"]
    for name in NOT_IN_FILE:
        del root["properties"][name]
    root["required"] = ["agents"]
    definitions["ServerSettings"]["required"] = [
        key for key in definitions["ServerSettings"]["required"] if key not in SERVER_VARIABLES
    ]
    provider = definitions["ProviderSettings"]
    del provider["properties"]["options"]
    provider["additionalProperties"] = True
    provider["description"] = "One model: the plugin's name, what every model may have, and the plugin's own options."
    for definition in definitions.values():
        if "description" in definition:  # a docstring, which Python 3.13 and newer dedent themselves
            definition["description"] = cleandoc(definition["description"])
        definition["properties"] = {key: _property(one) for key, one in definition["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "greenroom settings",
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def encode_schema() -> str:
    """The schema as the file ``config/schema.json`` holds it, without its line end."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode()


def _property(described: dict[str, Any]) -> dict[str, Any]:
    """One key: a section or a list may be empty, and a variable may stand where a number or a choice is meant."""
    default = {"default": described.pop("default")} if "default" in described else {}
    if "$ref" in described:
        # Its defaults are those of its keys: repeated here they would be shown twice.
        return {"anyOf": [described, {"type": "null"}]}
    if described.get("type") in ("array", "object"):
        return {"anyOf": [described, {"type": "null"}], **default} if default else described
    if described.get("type") in ("integer", "number", "boolean") or "enum" in described or "pattern" in described:
        return {"anyOf": [described, _VARIABLE], **default}
    if "anyOf" in described and {"type": "null"} in described["anyOf"]:
        kinds = [one for one in described["anyOf"] if one.get("type") in ("integer", "number", "boolean")]
        return {"anyOf": described["anyOf"] + ([_VARIABLE] if kinds else []), **default}
    return {**described, **default}
