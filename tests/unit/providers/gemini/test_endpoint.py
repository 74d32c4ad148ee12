from __future__ import annotations

from typing import Any

import pytest

from providers.errors import SettingRefused
from providers.gemini.endpoint import endpoint
from providers.gemini.settings import GeminiSettings

DEV = "/ws/google.ai.generativelanguage.{}.GenerativeService.{}"
VERTEX = "/ws/google.cloud.aiplatform.{}.LlmBidiService/BidiGenerateContent"
GOOGLE = "wss://generativelanguage.googleapis.com"
MODEL = "gemini-3.8-live"
PLACE = "projects/p/locations/{}/publishers/google/models/gemini-3.8-live"


@pytest.mark.parametrize(
    ("own", "environ", "flags", "url", "model"),
    [
        ({}, {}, {}, GOOGLE + DEV.format("v1beta", "BidiGenerateContent"), f"models/{MODEL}"),
        (
            {"api_version": "v1alpha"},
            {},
            {"ephemeral": True},
            GOOGLE + DEV.format("v1alpha", "BidiGenerateContentConstrained"),
            f"models/{MODEL}",
        ),
        (
            {"backend": "vertex", "project": "p"},
            {},
            {},
            "wss://us-central1-aiplatform.googleapis.com" + VERTEX.format("v1beta1"),
            PLACE.format("us-central1"),
        ),
        (
            {},
            {
                "GOOGLE_GENAI_USE_VERTEXAI": "TRUE",
                "GOOGLE_CLOUD_PROJECT": "p",
                "GOOGLE_CLOUD_LOCATION": "global",
            },
            {},
            "wss://aiplatform.googleapis.com" + VERTEX.format("v1beta1"),
            PLACE.format("global"),
        ),
        (
            {"backend": "vertex", "project": "p", "location": "eu", "api_version": "v1"},
            {},
            {},
            "wss://aiplatform.eu.rep.googleapis.com" + VERTEX.format("v1"),
            PLACE.format("eu"),
        ),
        (
            {"backend": "vertex"},
            {},
            {"express": True},
            "wss://aiplatform.googleapis.com" + VERTEX.format("v1beta1"),
            f"publishers/google/models/{MODEL}",
        ),
        (
            {"base_url": "http://127.0.0.1:8080/x/"},
            {"GOOGLE_GEMINI_BASE_URL": "ws://elsewhere"},
            {},
            "ws://127.0.0.1:8080/x" + DEV.format("v1beta", "BidiGenerateContent"),
            f"models/{MODEL}",
        ),
        (
            {"model": "models/own"},
            {"GOOGLE_GEMINI_BASE_URL": "wss://proxy"},
            {},
            "wss://proxy" + DEV.format("v1beta", "BidiGenerateContent"),
            "models/own",
        ),
    ],
)
def test_where_a_session_is_opened(
    own: dict[str, Any], environ: dict[str, str], flags: dict[str, bool], url: str, model: str
) -> None:
    place = endpoint(GeminiSettings(**own), environ, **flags)
    assert (place.url, place.model_path) == (url, model)


def test_the_newer_variable_wins() -> None:
    environ = {"GOOGLE_GENAI_USE_ENTERPRISE": "false", "GOOGLE_GENAI_USE_VERTEXAI": "true"}
    assert "generativelanguage" in endpoint(GeminiSettings(), environ).url


@pytest.mark.parametrize(
    "base", ["ftp://x", "127.0.0.1:80", "wss://", "ws://host:99999", "ws://host:port", "http://[::1"]
)
def test_what_is_no_address_is_refused(base: str) -> None:
    with pytest.raises(SettingRefused, match="GOOGLE_GEMINI_BASE_URL"):
        endpoint(GeminiSettings(), {"GOOGLE_GEMINI_BASE_URL": base})


def test_a_key_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingRefused) as refusal:
        endpoint(GeminiSettings(base_url="wss://host/?key=topsecret"), {})
    assert "topsecret" not in str(refusal.value)
