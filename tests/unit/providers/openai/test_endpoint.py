from __future__ import annotations

import pytest

from providers.openai.auth import Credential
from providers.openai.endpoint import (
    base_url_problem,
    calls_url,
    find_base_url,
    hangup_url,
    headers,
    is_official,
    secret_url,
    sideband_url,
    websocket_url,
)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://api.openai.com/v1", "wss://api.openai.com/v1/realtime?model=gpt-realtime"),
        ("https://eu.api.openai.com/v1/", "wss://eu.api.openai.com/v1/realtime?model=gpt-realtime"),
        ("http://127.0.0.1:8080/v1", "ws://127.0.0.1:8080/v1/realtime?model=gpt-realtime"),
        ("ws://127.0.0.1:8080/v1", "ws://127.0.0.1:8080/v1/realtime?model=gpt-realtime"),
        ("wss://api.x.ai/v1/realtime", "wss://api.x.ai/v1/realtime?model=gpt-realtime"),
        ("wss://host/openai/v1?api-version=1", "wss://host/openai/v1/realtime?api-version=1&model=gpt-realtime"),
        ("wss://host/v1/realtime?model=other", "wss://host/v1/realtime?model=other"),
    ],
)
def test_the_session_is_opened_where_the_base_url_says(base: str, url: str) -> None:
    assert websocket_url(base, "gpt-realtime") == url


def test_a_model_name_cannot_add_a_query_of_its_own() -> None:
    assert websocket_url("wss://host/v1", "a&call_id=b c") == "wss://host/v1/realtime?model=a%26call_id%3Db%20c"


def test_secrets_are_minted_over_http_beside_the_websocket() -> None:
    assert secret_url("wss://host/v1") == "https://host/v1/realtime/client_secrets"


def test_the_settings_outrank_the_environment_and_both_outrank_the_default() -> None:
    environ = {"OPENAI_BASE_URL": "http://other/v1"}
    assert find_base_url("wss://mine/v1", environ) == "wss://mine/v1"
    assert find_base_url(None, environ) == "http://other/v1"
    assert find_base_url(None, {}) == "https://api.openai.com/v1"


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "https://", "https://host:port/v1", "https://[::1/v1"])
def test_an_address_that_cannot_be_dialled_is_refused(url: str) -> None:
    problem = base_url_problem(url, {})
    assert problem is not None
    assert problem.field == "providers.openai.base_url"


@pytest.mark.parametrize("url", ["https://user:sk-secret@host/v1", "https://host/v1?api_key=sk-secret"])
def test_a_key_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    problem = base_url_problem(None, {"OPENAI_BASE_URL": url})
    assert problem is not None
    assert problem.field == "OPENAI_BASE_URL"
    assert "sk-secret" not in str(problem)


def test_only_openai_itself_counts_as_openai() -> None:
    assert is_official("https://eu.api.openai.com/v1")
    assert not is_official("https://api.openai.com.example.net/v1")


def test_the_headers_name_key_organization_project_and_user_and_never_the_beta() -> None:
    assert headers(Credential("sk-1"), organization="org", project="proj", safety_identifier="hash") == {
        "Authorization": "Bearer sk-1",
        "OpenAI-Organization": "org",
        "OpenAI-Project": "proj",
        "OpenAI-Safety-Identifier": "hash",
    }
    assert headers(None) == {}


def test_a_call_is_made_ended_and_joined_beside_the_websocket() -> None:
    base = "wss://host/v1?x=1"
    assert calls_url(base) == "https://host/v1/realtime/calls?x=1"
    assert hangup_url(base, "rtc_1") == "https://host/v1/realtime/calls/rtc_1/hangup?x=1"
    assert sideband_url(base, "rtc_1") == "wss://host/v1/realtime?x=1&call_id=rtc_1"
    assert sideband_url("http://host/v1/realtime?model=m", "rtc_1") == "ws://host/v1/realtime?call_id=rtc_1"
