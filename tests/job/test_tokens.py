"""Tokens made anew: they say what the job's own says, for longer."""

from __future__ import annotations

import time
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.job.tokens import agent_token, api_token, issued, outlives
from greenroom.jobs.ipc import JobInfo
from greenroom.settings import ServerSettings

SERVER = ServerSettings(url="ws://localhost", api_key="key", api_secret="s" * 32)
CLAIMS = {
    "sub": "agent-AJ_1",
    "name": "Host",
    "kind": "agent",
    "metadata": "{}",
    "attributes": {"lk.agent_name": "host"},
    "video": {"room": "hall", "roomJoin": True, "agent": True, "hidden": True},
}
JOB = JobInfo(
    id="AJ_1",
    room="hall",
    room_sid="",
    agent_name="host",
    url="ws://localhost",
    token="",
    identity="agent-AJ_1",
    attributes={"tier": "gold"},
)


def read(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, "s" * 32, algorithms=["HS256"])
    return claims


def own(**claims: Any) -> str:
    return jwt.encode({**CLAIMS, **claims}, "another secret, of another worker", algorithm="HS256")


def test_a_new_token_says_what_the_old_one_said() -> None:
    old = own(iss="other", exp=int(time.time()) - 60, nbf=5, jti="x")
    claims = read(agent_token(msgspec.structs.replace(JOB, token=old), SERVER))
    assert {key: claims[key] for key in CLAIMS} == CLAIMS
    assert set(claims) == {*CLAIMS, "iss", "nbf", "exp"}
    assert claims["iss"] == "key"
    assert claims["exp"] - time.time() == pytest.approx(3600, abs=5)


def test_without_an_old_one_it_is_made_of_what_the_job_says() -> None:
    claims = read(agent_token(JOB, SERVER))
    assert (claims["sub"], claims["kind"], claims["attributes"]) == ("agent-AJ_1", "agent", {"tier": "gold"})
    assert (claims["video"]["room"], claims["video"]["roomJoin"], claims["video"]["agent"]) == ("hall", True, True)


def test_a_token_for_the_api_grants_what_is_asked_for() -> None:
    assert read(api_token(SERVER, {"roomList": True}))["video"] == {"roomList": True}


def test_how_long_a_token_holds() -> None:
    now = int(time.time())
    assert outlives(own(exp=now + 100), 60)
    assert not outlives(own(exp=now + 30), 60)
    assert outlives(own(), 60), "it does not say"
    assert issued(own(nbf=now)) == now
    assert issued(own(nbf=now - 10, iat=now)) == now
    assert issued(own()) is None


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda data: f"a.{data.hex()}.b"))
def test_what_is_no_token_says_nothing(text: str) -> None:
    assert outlives(text, 60)
    assert issued(text) is None
    assert read(agent_token(msgspec.structs.replace(JOB, token=text), SERVER))["sub"] == "agent-AJ_1"
