"""Every provider of the catalogue is what its entry says, and is imported only when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from providers.catalog import PROVIDERS
from providers.settings import ConnectionSettings, SpeechSettings

ANY_KEY = {secret: "any-key-will-do" for provider in PROVIDERS.values() for secret in provider.secrets}


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_default_model_can_be_made_with_a_key_alone(name: str) -> None:
    provider = PROVIDERS[name]
    own = provider.settings_type()()
    assert provider.problems(SpeechSettings(), own, ANY_KEY) == []
    model = provider.connector(SpeechSettings(), own, ConnectionSettings(), ANY_KEY)
    assert (model.name, provider.name) == (name, name)
    assert model.capabilities == provider.capabilities(SpeechSettings(), own, ANY_KEY)


@pytest.mark.parametrize("name", [name for name, provider in PROVIDERS.items() if provider.secrets])
def test_a_missing_key_is_a_problem_that_names_the_variable(name: str) -> None:
    provider = PROVIDERS[name]
    problems = provider.problems(SpeechSettings(), provider.settings_type()(), {})
    assert any(secret in str(problem) for problem in problems for secret in provider.secrets)


@pytest.mark.parametrize("name", [name for name, provider in PROVIDERS.items() if provider.emulator])
def test_the_emulator_is_of_that_vendor(name: str) -> None:
    assert PROVIDERS[name].emulated().name == name


@pytest.mark.parametrize("name", PROVIDERS)
def test_only_what_needs_the_network_has_an_address(name: str) -> None:
    address = PROVIDERS[name].address(PROVIDERS[name].settings_type()(), {})
    assert address.startswith("wss://") if PROVIDERS[name].secrets else address == ""


@pytest.mark.parametrize("name", PROVIDERS)
def test_one_provider_does_not_load_another(name: str) -> None:
    code = (
        "import sys; from providers.catalog import PROVIDERS\n"
        f"PROVIDERS[{name!r}].settings_type()\n"
        f"print(*[other for other in PROVIDERS if other != {name!r} and f'providers.{{other}}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_settings_may_name_another_variable_for_the_key() -> None:
    kind = PROVIDERS["gemini"].settings_type()
    assert PROVIDERS["gemini"].secrets_for(kind()) == ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    assert PROVIDERS["gemini"].secrets_for(msgspec.convert({"api_key_env": "BAKERY"}, kind)) == ("BAKERY",)
    assert PROVIDERS["openai"].secrets_for(PROVIDERS["openai"].settings_type()()) == ("OPENAI_API_KEY",)


def test_a_call_over_webrtc_begins_with_a_request() -> None:
    own = PROVIDERS["openai"].settings_type()(transport="webrtc")
    assert PROVIDERS["openai"].address(own, {}) == "https://api.openai.com/v1/realtime/calls"
