"""What was signed is read back; what was not is refused without being quoted."""

from __future__ import annotations

import base64
import json

import jwt as independent
import msgspec
import pytest

from bridge.core.jwt import read_unverified, sign_claims, verified

SECRET = "a secret of thirty-two characters"


class Claims(msgspec.Struct):
    sub: str = ""
    aud: str = ""


def test_an_independent_reader_takes_ours_and_we_take_an_independent_signers() -> None:
    claims = {"sub": "ada", "aud": "roombridge:call"}
    ours = sign_claims(claims, SECRET)
    assert independent.decode(ours, SECRET, algorithms=["HS256"], audience="roombridge:call") == claims
    assert verified(independent.encode(claims, SECRET, "HS256"), SECRET, Claims) == Claims("ada", "roombridge:call")


def test_a_changed_claim_or_another_secret_is_refused() -> None:
    head, body, mac = sign_claims({"sub": "ada"}, SECRET).split(".")
    forged = base64.urlsafe_b64encode(b'{"sub":"bob"}').rstrip(b"=").decode()
    for token in (f"{head}.{forged}.{mac}", f"{head}.{body}.{mac[:-3]}", f"{head}.{body}."):
        with pytest.raises(ValueError, match="signature"):
            verified(token, SECRET, Claims)
    with pytest.raises(ValueError, match="signature"):
        verified(f"{head}.{body}.{mac}", SECRET + "!", Claims)


@pytest.mark.parametrize("alg", ["none", "HS512", "RS256"])
def test_another_algorithm_is_refused_even_where_the_signature_holds(alg: str) -> None:
    def b64(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    import hashlib
    import hmac

    signed = b64({"alg": alg, "typ": "JWT"}) + b"." + b64({"sub": "ada"})
    mac = base64.urlsafe_b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).rstrip(b"=")
    with pytest.raises(ValueError, match="HS256"):
        verified((signed + b"." + mac).decode(), SECRET, Claims)


@pytest.mark.parametrize(
    "junk", ["", ".", "..", "a.b.c", "a.b.!", "\u00e9.b.c", "x" * 9_000, "a.b.c.d", "ä.ö.ü", "a.b.\0"]
)
def test_what_is_no_token_is_refused_without_quoting_it(junk: str) -> None:
    with pytest.raises(ValueError) as refused:
        verified(junk, SECRET, Claims)
    assert len(junk) < 4 or junk not in str(refused.value)


def test_claims_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="claims"):
        verified(sign_claims({"sub": 7}, SECRET), SECRET, Claims)
    assert read_unverified(sign_claims({"sub": "x"}, SECRET), Claims).sub == "x"
