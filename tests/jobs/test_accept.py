"""Which jobs an agent takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.errors import SettingsError
from greenroom.jobs.accept import AcceptRules
from greenroom.settings import AcceptRule

VIP = AcceptRule(metadata='.*"tier": *"gold".*', attributes={"language": "de|fr"})
LOBBY = AcceptRule(room="lobby-[0-9]+")


def takes(*rules: AcceptRule, room: str = "", metadata: str = "", **attributes: str) -> bool:
    return AcceptRules(rules).takes(room=room, metadata=metadata, attributes=attributes)


def test_without_a_rule_every_job_is_taken() -> None:
    assert takes()
    assert takes(room="lobby", metadata="{}", language="de")


def test_a_rule_that_asks_for_nothing_takes_every_job() -> None:
    assert takes(AcceptRule(), room="lobby", metadata="{}", language="de")
    assert takes(AcceptRule(attributes={"language": ""}), room="lobby")


@pytest.mark.parametrize(
    ("room", "taken"), [("lobby-1", True), ("lobby-", False), ("the lobby-1", False), ("lobby-1\n", False), ("", False)]
)
def test_an_expression_matches_the_whole_of_a_name(room: str, taken: bool) -> None:
    assert takes(LOBBY, room=room) is taken


def test_all_of_a_rule_has_to_match() -> None:
    gold = '{\n  "tier": "gold",\n  "id": 7\n}'
    assert takes(VIP, metadata=gold, language="de", floor="2")
    assert not takes(VIP, metadata=gold, language="en")
    assert not takes(VIP, metadata=gold)
    assert not takes(VIP, metadata='{"tier": "tin"}', language="de")


def test_one_rule_is_enough() -> None:
    assert takes(VIP, LOBBY, room="lobby-7")
    assert takes(VIP, LOBBY, room="kitchen", metadata='{"tier": "gold"}', language="fr")
    assert not takes(VIP, LOBBY, room="kitchen")


def test_an_attribute_that_is_not_there_is_an_empty_text() -> None:
    assert takes(AcceptRule(attributes={"language": "(de)?"}))
    assert not takes(AcceptRule(attributes={"language": ".+"}))


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        (AcceptRule(room="lobby["), "agents[2].accept[1].room"),
        (AcceptRule(metadata="*"), "agents[2].accept[1].metadata"),
        (AcceptRule(attributes={"fine": ".*", "language": "(?P<"}), "agents[2].accept[1].attributes.language"),
        (AcceptRule(room="(" * 20_000 + ")" * 20_000), "agents[2].accept[1].room"),
    ],
)
def test_an_expression_that_cannot_be_read_is_named(rule: AcceptRule, place: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{re.escape(place)}: .*; expected a regular expression") as caught:
        AcceptRules([LOBBY, rule], key="agents[2].accept")
    assert caught.value.key == place
    assert len(str(caught.value)) < 300


@given(room=st.text(), metadata=st.text(), attributes=st.dictionaries(st.text(min_size=1), st.text()))
def test_a_rule_made_of_a_jobs_own_texts_takes_that_job(room: str, metadata: str, attributes: dict[str, str]) -> None:
    own = AcceptRule(
        room=re.escape(room),
        metadata=re.escape(metadata),
        attributes={name: re.escape(value) for name, value in attributes.items()},
    )
    assert AcceptRules([own]).takes(room=room, metadata=metadata, attributes=attributes)
    if room:
        assert not AcceptRules([own]).takes(room=room + "x", metadata=metadata, attributes=attributes)
