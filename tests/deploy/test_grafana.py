"""The dashboard: it shows all that is measured and nothing that is not, and finds its data."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
import yaml

from greenroom.ops.measures import MEASURES
from tests.deploy.programs import DEPLOY
from tests.deploy.promql import problems, selected
from tests.deploy.test_prometheus import ALL

FOLDER = DEPLOY / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboards" / "greenroom.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWING = [panel for panel in PANELS if panel["type"] != "row"]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
ANNOTATIONS: list[dict[str, Any]] = DASHBOARD["annotations"]["list"]
BUILT_IN = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s"}
UNITS = {"short", "s", "bytes", "Bps"}


def filled(expression: str) -> str:
    """An expression as Grafana sends it."""
    for name, value in BUILT_IN.items():
        expression = expression.replace(name, value)
    for variable in VARIABLES:
        expression = re.sub(rf"\$(?:{variable['name']}\b|\{{{variable['name']}\}})", "any", expression)
    return expression


def expressions() -> list[str]:
    return [
        *(target["expr"] for panel in SHOWING for target in panel["targets"]),
        *(annotation["expr"] for annotation in ANNOTATIONS),
    ]


@pytest.mark.parametrize("panel", SHOWING, ids=lambda panel: str(panel["title"]))
def test_a_panel_shows_what_is_measured(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expression = filled(target["expr"])
        assert "$" not in expression
        assert problems(expression) == []
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in target["expr"], f"{target['expr']} keeps no {label}"


@pytest.mark.parametrize("panel", SHOWING, ids=lambda panel: str(panel["title"]))
def test_a_panel_is_whole(panel: dict[str, Any]) -> None:
    assert panel["type"] in {"stat", "timeseries"}
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH")[: len(panel["targets"])]
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_all_that_is_measured_is_shown_or_watched() -> None:
    seen = {
        one.name
        for expression in [*map(filled, expressions()), *(rule["expr"] for rule in ALL)]
        for one in selected(expression)
    }
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in MEASURES else name for name in seen}
    assert set(MEASURES) - plain == set()


def test_variables_and_annotations_ask_for_what_is_measured() -> None:
    for variable in VARIABLES:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found is not None
            assert variable["definition"] == variable["query"]["query"]
            assert problems(f"sum by ({found[2]}) ({filled(found[1])})") == []
    for annotation in ANNOTATIONS:
        assert problems(filled(annotation["expr"])) == []


def test_panels_do_not_cover_each_other() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        fields = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not fields & taken, panel["title"]
        taken |= fields


def test_it_is_provisioned_beside_its_data() -> None:
    (source,) = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
    assert VARIABLES[0]["query"] == source["type"]
    (provider,) = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "greenroom.yaml").read_text())["providers"]
    mounts = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
