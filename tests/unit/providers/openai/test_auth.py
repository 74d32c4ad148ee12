from __future__ import annotations

import json
import pickle

import pytest

from providers.errors import ProviderRejected, ProviderUnavailable
from providers.openai.auth import Credential, credential_problem, find_credential, read_client_secret, secret_request


def test_the_key_comes_from_the_given_environment() -> None:
    credential = find_credential({"OPENAI_API_KEY": " sk-test\n"})
    assert credential is not None
    assert credential.bearer() == "Bearer sk-test"
    assert find_credential({}) is None


def test_a_credential_shows_itself_to_nobody() -> None:
    credential = Credential("sk-very-secret")
    assert "secret" not in f"{credential} {credential!r} {[credential]}"
    with pytest.raises(TypeError):
        pickle.dumps(credential)


def test_a_missing_key_is_refused_with_the_variable_to_set() -> None:
    problem = credential_problem({}, required=True, minting=False)
    assert problem is not None
    assert problem.field == "OPENAI_API_KEY"
    assert "set OPENAI_API_KEY" in problem.mend


def test_a_local_server_needs_no_key() -> None:
    assert credential_problem({}, required=False, minting=False) is None


def test_a_key_that_no_header_can_carry_is_refused_unseen() -> None:
    problem = credential_problem({"OPENAI_API_KEY": "sk-a\r\nX: y"}, required=True, minting=False)
    assert problem is not None
    assert "sk-a" not in str(problem)


def test_a_client_secret_cannot_mint_another() -> None:
    problem = credential_problem({"OPENAI_API_KEY": "ek_1"}, required=True, minting=True)
    assert problem is not None
    assert problem.field == "providers.openai.auth"


def test_a_secret_is_asked_for_one_model_and_a_short_life() -> None:
    assert json.loads(secret_request("gpt-realtime", 60)) == {
        "expires_after": {"anchor": "created_at", "seconds": 60},
        "session": {"type": "realtime", "model": "gpt-realtime"},
    }


def test_the_minted_secret_is_the_bearer() -> None:
    assert read_client_secret(200, b'{"value":"ek_9","expires_at":1,"session":{}}').bearer() == "Bearer ek_9"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_is_not_retried(status: int) -> None:
    with pytest.raises(ProviderRejected, match=str(status)):
        read_client_secret(status, b"{}")


@pytest.mark.parametrize(("status", "body"), [(429, b""), (503, b""), (200, b"<html>"), (200, b"{}")])
def test_a_busy_or_confused_server_is_retried(status: int, body: bytes) -> None:
    with pytest.raises(ProviderUnavailable):
        read_client_secret(status, body)


@pytest.mark.parametrize("value", ["ek_9\\nX: y", "ek_\u20ac", "", "ek 9"])
def test_a_minted_secret_that_fits_no_header_is_refused_unseen(value: str) -> None:
    with pytest.raises(ProviderUnavailable, match="no client secret") as refused:
        read_client_secret(200, f'{{"value":"{value}"}}'.encode())
    assert "ek" not in str(refused.value)
