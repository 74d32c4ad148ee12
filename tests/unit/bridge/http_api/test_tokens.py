"""A token serves its purpose, once, until it expires; whatever else is brought is refused by name."""

from __future__ import annotations

import jwt
import pytest
from jwt.types import Options

from bridge.http_api.refusal import Refused
from bridge.http_api.tokens import CALL_AUDIENCE, PAGE_AUDIENCE, Tokens, sign_call, sign_page

SECRET = "0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0


def call_token(**other: object) -> str:
    claims = {"aud": CALL_AUDIENCE, "sub": "ada", "jti": "one", "exp": NOW + 60, **other}
    return jwt.encode({key: value for key, value in claims.items() if value is not None}, SECRET, "HS256")


def test_a_call_token_names_its_caller_and_is_good_for_one_call() -> None:
    tokens = Tokens(SECRET)
    token = tokens.call(identity="ada", name="Ada", ttl_s=60, now=NOW)
    caller = tokens.check_call(token, NOW)
    assert (caller.identity, caller.name) == ("ada", "Ada")
    assert tokens.check_call(token, NOW) == caller, "looking does not use it up"
    tokens.use(caller)
    with pytest.raises(Refused, match="has had its call") as refused:
        tokens.check_call(token, NOW + 59)
    assert (refused.value.status, refused.value.code, tokens.replayed) == (401, "token_used", 1)


def test_a_team_may_sign_call_tokens_with_any_library() -> None:
    assert Tokens(SECRET).check_call(call_token(), NOW).identity == "ada"
    ours, ignored = sign_call(SECRET, identity="ada", ttl_s=60, now=NOW), Options(verify_nbf=False, verify_exp=False)
    assert jwt.decode(ours, SECRET, ["HS256"], audience=CALL_AUDIENCE, options=ignored)["sub"] == "ada"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (call_token(exp=NOW - 11), "token_expired"),
        (call_token(exp=None), "token_expired"),
        (call_token(nbf=NOW + 30), "token_early"),
        (call_token(aud=PAGE_AUDIENCE), "token_audience"),
        (call_token(aud=None), "token_audience"),
        (call_token(jti=None), "token_invalid"),
        (call_token(jti="x" * 200), "token_invalid"),
        (call_token(sub=None), "token_invalid"),
        (call_token(sub="a\nb"), "token_invalid"),
        (call_token(sub="agent"), "token_invalid"),
        (call_token(sub="x" * 200), "token_invalid"),
        (call_token(exp=NOW + 90_000), "token_invalid"),
        (call_token(exp="soon"), "token_invalid"),
        (call_token(aud=["roombridge:call"]), "token_invalid"),
        (sign_page(SECRET, ttl_s=60, now=NOW), "token_audience"),
        (jwt.encode({"aud": CALL_AUDIENCE, "sub": "a"}, "another secret of 32 bytes or so", "HS256"), "token_invalid"),
        (jwt.encode({"aud": CALL_AUDIENCE, "sub": "ada", "exp": NOW + 60}, "", "none"), "token_invalid"),
        ("", "token_invalid"),
        ("x" * 100_000, "token_invalid"),
        ("\0.\0.\0", "token_invalid"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_refused_with_401(token: str, code: str) -> None:
    tokens = Tokens(SECRET)
    with pytest.raises(Refused) as refused:
        tokens.check_call(token, NOW)
    assert (refused.value.status, refused.value.code, tokens.refused) == (401, code, 1)
    assert not token or token not in refused.value.body().decode()


def test_clocks_may_differ_a_little() -> None:
    tokens = Tokens(SECRET)
    assert tokens.check_call(call_token(exp=NOW - 9, nbf=NOW + 9), NOW)


def test_a_page_token_opens_the_page_and_no_call() -> None:
    tokens = Tokens(SECRET)
    page = tokens.page(ttl_s=60, now=NOW)
    for _ in range(2):
        tokens.check_page(page, NOW)
    with pytest.raises(Refused, match="another purpose"):
        tokens.check_page(tokens.call(identity="ada", ttl_s=60, now=NOW), NOW)


def test_used_ids_are_forgotten_once_they_have_expired_and_never_before() -> None:
    tokens = Tokens(SECRET, remembered=3)
    for number in range(3):
        tokens.use(tokens.check_call(call_token(jti=f"id{number}"), NOW))
    with pytest.raises(Refused) as refused:
        tokens.check_call(call_token(jti="one more"), NOW + 2)
    assert (refused.value.status, refused.value.code, tokens.refused_full) == (503, "busy", 1)
    assert refused.value.headers()["Retry-After"] == "60"
    later = NOW + 60 + 11
    assert tokens.check_call(call_token(jti="one more", exp=later + 60), later)
    assert repr(tokens) == "Tokens(used=0)"


def test_a_short_secret_is_no_secret() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Tokens("short")
