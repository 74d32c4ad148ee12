"""What a serving process offers, to whom, and what it refuses before it listens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.app import Process
from bridge.config import Config, read
from bridge.core.errors import ConfigError
from bridge.http_api.admission import Leg
from bridge.http_api.tokens import Caller, Tokens
from bridge.serve import Serving, call_secret, choices, config_of, ice_servers, nobody_may_call, serve_problems

SECRET = "0123456789abcdef0123456789abcdef"
KEYS = {"OPENAI_API_KEY": "sk-1", "GOOGLE_API_KEY": "AIza-1"}
CALLER = Caller("ada", "Ada", "id", 0.0)


def configured(**table: Any) -> Config:
    return read(table, {})


def serving(config: Config, environ: Mapping[str, str] = {}) -> Serving:
    return Serving(config, environ, Process(), tell=lambda _: None)


def test_those_configured_may_be_chosen_and_no_others() -> None:
    assert [choice.name for choice in choices(configured(), KEYS)] == ["scripted"]
    table = {"failover": ["gemini"], "providers": {"openai": {}}}
    found = choices(configured(**table), {"GOOGLE_API_KEY": "AIza-1"})
    assert [(choice.name, choice.ready) for choice in found] == [
        ("scripted", True), ("openai", False), ("gemini", True),
    ]  # fmt: skip
    found = choices(configured(serve={"providers": ["gemini"]}, **table), KEYS)
    assert [choice.name for choice in found] == ["scripted", "gemini"]
    assert all(choice.title and choice.model for choice in found)


def test_a_model_over_webrtc_costs_its_leg() -> None:
    (scripted, openai) = choices(configured(providers={"openai": {"transport": "webrtc"}}), KEYS)
    assert (scripted.legs, openai.legs) == ((), (Leg.MODEL_WEBRTC,))


def test_the_others_stand_in_for_the_one_that_was_chosen() -> None:
    config = configured(provider="openai", failover=["gemini", "scripted"])
    assert config_of(config, "openai").failover == ("gemini", "scripted")
    assert config_of(config, "gemini").failover == ("openai", "scripted")
    alone = config_of(configured(), "openai")
    assert (alone.failover, alone.provider in alone.providers) == ((), True)


def test_a_short_secret_is_refused_and_never_shown() -> None:
    assert call_secret({}) is None
    assert call_secret({"ROOMBRIDGE_CALL_SECRET": SECRET}) == SECRET
    with pytest.raises(ConfigError, match="32 bytes") as refused:
        call_secret({"ROOMBRIDGE_CALL_SECRET": "hunter2hunter2"})
    assert "hunter2" not in str(refused.value)


def test_everything_that_is_wrong_is_found_at_once() -> None:
    config = configured(
        serve={"providers": ["nobody"]},
        webrtc={
            "ice_servers": [{"urls": ["turn:turn.example.com"], "username": "u", "credential_env": "TURN_PASSWORD"}]
        },
    )
    problems = serve_problems(config, {"ROOMBRIDGE_CALL_SECRET": "short"})
    assert [problem.field for problem in problems] == [
        "ROOMBRIDGE_CALL_SECRET", "serve.providers[0]", "webrtc.ice_servers[0].credential_env",
    ]  # fmt: skip
    with pytest.raises(ConfigError) as refused:
        serving(config, {"ROOMBRIDGE_CALL_SECRET": "short"})
    assert len(refused.value.others) == 2


@pytest.mark.parametrize(
    ("server", "field", "value"),
    [
        ({"urls": ["http://turn.example.com"]}, "webrtc.ice_servers[0].urls", "http://turn.example.com"),
        ({"urls": ["turn:turn.example.com"]}, "webrtc.ice_servers[0]", ""),
        ({"urls": []}, "webrtc.ice_servers[0].urls", ""),
    ],
)
def test_an_ice_server_that_is_wrong_is_named(server: dict[str, Any], field: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ice_servers(configured(webrtc={"ice_servers": [server]}), {})
    assert (refused.value.field, refused.value.value) == (field, value)


async def test_browsers_are_told_the_ice_servers_as_they_take_them() -> None:
    relay = {"urls": ["turn:turn.example.com"], "username": "u", "credential_env": "TURN_PASSWORD"}
    table = {"webrtc": {"ice_servers": [{"urls": ["stun:stun.example.com"]}, relay]}}
    config = configured(**table)
    assert list(serving(config, {"TURN_PASSWORD": "secret"}).ice_servers) == [
        {"urls": ["stun:stun.example.com"]},
        {"urls": ["turn:turn.example.com"], "username": "u", "credential": "secret"},
    ]
    assert "TURN_PASSWORD" in config.secret_variables()
    of_provider = configured(providers={"openai": {"transport": "webrtc", "ice_servers": [relay]}})
    assert "TURN_PASSWORD" in of_provider.secret_variables()


async def test_a_token_is_printed_only_where_nobody_could_make_one() -> None:
    config = configured(serve={"port": 0})
    made_up = serving(config).invitation()
    assert "#token=" in made_up
    given = serving(config, {"ROOMBRIDGE_CALL_SECRET": SECRET})
    assert "token=" not in given.invitation() and "roombridge token --page" in given.invitation()
    address, _, token = given.address_with_token().partition("#token=")
    assert address.startswith("http://127.0.0.1:")
    Tokens(SECRET).check_page(token, datetime.now(UTC).timestamp())
    assert "/api/calls" in serving(configured(serve={"page": False})).invitation()


def test_an_api_that_nobody_could_call_is_found() -> None:
    alone = configured(serve={"page": False})
    (problem,) = nobody_may_call(alone, {"ROOMBRIDGE_CALL_SECRET": " "})
    assert problem.field == "ROOMBRIDGE_CALL_SECRET"
    assert not nobody_may_call(alone, {"ROOMBRIDGE_CALL_SECRET": SECRET}) and not nobody_may_call(configured(), {})


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"serve": {"livekit_url": "http://[::1"}}, "serve.livekit_url"),
        ({"serve": {"livekit_url": "rooms.example.com"}}, "serve.livekit_url"),
        ({"webrtc": {"addresses": ["192.0.2.7", "media.example.com"]}}, "webrtc.addresses[1]"),
    ],
)
def test_an_address_that_is_none_is_found_before_anybody_calls(table: dict[str, Any], field: str) -> None:
    (problem,) = serve_problems(configured(**table), {})
    assert problem.field == field


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"), ("0.0.0.0", "http://127.0.0.1:81"), ("::", "http://[::1]:81"),
        ("fd00::1", "http://[fd00::1]:81"), ("bridge.example.com", "http://bridge.example.com:81"),
    ],
)  # fmt: skip
def test_the_address_is_one_that_a_browser_can_open(host: str, address: str) -> None:
    assert configured(serve={"host": host}).serve.address(81) == address


async def test_a_room_for_one_caller_ends_with_him() -> None:
    environ = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "a-secret-of-the-server"}
    config = configured(livekit={"url": "ws://127.0.0.1:1"}, serve={"livekit_url": "wss://rooms.example.com"})
    here = serving(config, environ)
    assert here.livekit and not serving(config).livekit
    started: list[Any] = []
    here._process.start = lambda *given, **more: started.append(given)  # type: ignore[method-assign]
    access = here.begin_room("room-1", CALLER, "scripted", lambda: None)
    assert (access.url, access.room, access.identity) == ("wss://rooms.example.com", "room-1", "ada")
    ((name, room, model, call, _),) = started
    assert (name, model.name, room.settings.room) == ("room-1", "scripted", "room-1")
    assert (call.livekit.close_on, call.livekit.join_timeout_s) == ("participant_left", 60.0)


def test_what_became_of_the_providers_endpoints_is_told_beside_the_rest() -> None:
    assert {"serve.calls", "endpoints.openings"} <= serving(configured())._counters().keys()
