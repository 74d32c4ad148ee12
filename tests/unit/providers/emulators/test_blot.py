"""No credential of a client, and nothing that looks like one, gets into a capture; audio does unchanged."""

from __future__ import annotations

from base64 import b64encode

import msgspec
import pytest

from providers.emulators.blot import BLOTTED, Blotter

KEY = "my-very-own-key-0001"


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": f"Bearer {KEY}"}, {}),
        ({"x-goog-api-key": KEY}, {}),
        ({"api-key": KEY}, {}),
        ({"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{KEY}"}, {}),
        ({}, {"key": KEY}),
        ({}, {"access_token": KEY}),
    ],
)
def test_a_clients_credential_is_blotted_out_wherever_it_comes_up(
    headers: dict[str, str], query: dict[str, str]
) -> None:
    blotter = Blotter()
    blotter.learn(headers, query)
    assert blotter.query({**query, "model": "m", "note": f"<{KEY}>"}).get("note") == f"<{BLOTTED}>"
    said = blotter.message({"error": {"message": f"Incorrect key: {KEY}", KEY: [KEY]}})
    assert KEY not in str(said) and BLOTTED in said["error"]["message"]


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-" + "abcd" * 5,
        "ek_" + "68af" * 8,
        "AIza" + "Sy0" * 12,
        "ya29.a0_" + "by12" * 5,
        "auth_tokens/0001abc",
        ".".join(["eyJ" + "abcd" * 5] * 3),
    ],
)
def test_what_looks_like_a_key_is_blotted_out_though_nobody_named_it(secret: str) -> None:
    assert Blotter().text(f"use {secret}, please") == f"use {BLOTTED}, please"


def test_fields_that_hold_secrets_are_blotted_out_and_schemas_with_such_names_are_not() -> None:
    schema = {"properties": {"token": {"type": "string"}, "password": {"type": "string"}}}
    tool = {
        "authorization": "hush",
        "headers": {"X-Mine": "hush"},
        "parameters": schema,
        "apiKey": "hush",
        "secret": "",
    }
    assert Blotter().message(tool) == {
        "authorization": BLOTTED, "headers": {"X-Mine": BLOTTED}, "parameters": schema, "apiKey": BLOTTED, "secret": "",
    }  # fmt: skip


def test_handles_get_other_names_that_stay_the_same_in_all_connections() -> None:
    blotter = Blotter()
    first = blotter.message({"sessionResumptionUpdate": {"newHandle": "secret-a", "resumable": True}})
    second = blotter.message({"sessionResumptionUpdate": {"newHandle": "secret-b"}})
    resumed = blotter.message({"setup": {"session_resumption": {"handle": "secret-a"}, "handle": "a door's"}})
    assert first["sessionResumptionUpdate"] == {"newHandle": "handle-1", "resumable": True}
    assert second["sessionResumptionUpdate"]["newHandle"] == "handle-2"
    assert resumed["setup"] == {"session_resumption": {"handle": "handle-1"}, "handle": "a door's"}


def test_audio_is_kept_though_chance_spells_a_key_in_it() -> None:
    audio = b64encode(bytes(range(256)) * 4).decode()
    spelt = audio[:400] + "AIza" + "Sy0" * 12 + audio[440:]
    message = {"audio": spelt}
    assert Blotter().message(message) == message


def test_short_words_are_nobodys_credential() -> None:
    blotter = Blotter()
    blotter.learn({"authorization": "Bearer key"}, {"key": "k"})
    assert blotter.text("the key of k") == "the key of k"
    assert blotter.query({"key": "k"}) == {"key": BLOTTED}


def test_what_is_no_text_stays_as_it_is() -> None:
    message = {"a": [1, 2.5, None, True, {"b": "c"}]}
    assert msgspec.json.encode(Blotter().message(message)) == msgspec.json.encode(message)
