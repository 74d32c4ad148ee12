from __future__ import annotations

import base64
import json

import jwt
import pytest

from bridge.transports.livekit_room.token import read_claims, sign, sign_agent, sign_participant

KEY, SECRET = "devkey", "a secret of thirty-two characters"


def test_an_independent_reader_accepts_the_signature_and_finds_the_grants() -> None:
    token = sign_agent(KEY, SECRET, room="lobby", identity="agent-1", name="Agent")
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], issuer=KEY)
    assert (claims["sub"], claims["name"], claims["kind"]) == ("agent-1", "Agent", "agent")
    assert claims["video"] == {
        "roomJoin": True,
        "room": "lobby",
        "agent": True,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
        "canUpdateOwnMetadata": True,
    }


def test_livekits_own_verifier_reads_it() -> None:
    from livekit import api

    claims = api.TokenVerifier(KEY, SECRET).verify(sign_participant(KEY, SECRET, room="lobby", identity="ann"))
    assert claims.video is not None
    assert (claims.identity, claims.video.room, claims.video.room_join) == ("ann", "lobby", True)


def test_times_come_from_the_argument() -> None:
    claims = read_claims(sign(KEY, SECRET, grants={}, ttl_s=60, now=1_000_000.0))
    assert (claims.nbf, claims.exp) == (999_990, 1_000_060)


def test_a_changed_token_is_refused_by_the_independent_reader() -> None:
    head, body, mac = sign_participant(KEY, SECRET, room="lobby", identity="ann").split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "bob"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{forged}.{mac}", SECRET, algorithms=["HS256"])


@pytest.mark.parametrize("junk", ["", "abc", "a.b", "a.!!!.c", "a.bm8.c", "a.W10.c", "a.eyJleHAiOiJ4In0.c"])
def test_what_is_no_token_is_said_without_quoting_it(junk: str) -> None:
    with pytest.raises(ValueError, match="not a JWT") as error:
        read_claims(junk)
    assert len(junk) < 4 or junk not in str(error.value)


def test_attributes_and_room_configuration_are_carried() -> None:
    token = sign(
        KEY, SECRET, grants={}, attributes={"a": "b"}, room_config={"agents": [{"agentName": "x"}]}, identity="i"
    )
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert claims["attributes"] == {"a": "b"}
    assert claims["roomConfig"] == {"agents": [{"agentName": "x"}]}
