"""Where the session is opened: Developer API, Vertex (regional, global, multi-region, express) or another address."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from providers.errors import SettingRefused
from providers.gemini.rules import Backend
from providers.gemini.settings import GeminiSettings

__all__ = ["DEFAULT_LOCATION", "Endpoint", "chosen_backend", "endpoint", "vertex_place"]

DEFAULT_LOCATION = "us-central1"
_DEVELOPER_HOST = "wss://generativelanguage.googleapis.com"
_DEVELOPER_VERSION = "v1beta"  # the SDK defaults to v1; v1beta is what the current models were measured on
_VERTEX_VERSION = "v1beta1"
_MULTI_REGIONS = frozenset({"us", "eu"})
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_TRUE = frozenset({"1", "true"})


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One place to open sessions at. Holds no secret."""

    backend: Backend
    version: str
    url: str
    model_path: str
    """What `setup.model` says."""


def chosen_backend(own: GeminiSettings, environ: Mapping[str, str]) -> Backend:
    """The configured backend; `auto` asks the environment as Google's own SDK does."""
    if own.backend != "auto":
        return Backend(own.backend)
    for name in ("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI"):
        if name in environ:
            return Backend.VERTEX if environ[name].strip().lower() in _TRUE else Backend.DEVELOPER
    return Backend.DEVELOPER


def vertex_place(own: GeminiSettings, environ: Mapping[str, str]) -> tuple[str, str]:
    """Project (may be empty) and location on Vertex."""
    project = own.project or environ.get("GOOGLE_CLOUD_PROJECT", "")
    return project, own.location or environ.get("GOOGLE_CLOUD_LOCATION", "") or DEFAULT_LOCATION


def endpoint(
    own: GeminiSettings, environ: Mapping[str, str], *, ephemeral: bool = False, express: bool = False
) -> Endpoint:
    """Address and model path for these settings.

    `ephemeral`: the credential is an `auth_tokens/...`, which has a method of its own. `express`: an API key on
    Vertex, without project and location. Raises `SettingRefused` for an address that is no URL, or ephemeral on Vertex.
    """
    backend = chosen_backend(own, environ)
    base, base_field = _override(own, environ, backend)
    if base:
        base = _websocket_address(base, base_field)
    if backend is Backend.DEVELOPER:
        version = own.api_version or _DEVELOPER_VERSION
        method = "BidiGenerateContentConstrained" if ephemeral else "BidiGenerateContent"
        path = f"/ws/google.ai.generativelanguage.{version}.GenerativeService.{method}"
        url = (base or _DEVELOPER_HOST) + path
        return Endpoint(backend=backend, version=version, url=url, model_path=_developer_model(own.model))
    if ephemeral:
        raise SettingRefused("providers.gemini.backend", "vertex", "ephemeral tokens exist on the Developer API only")
    version = own.api_version or _VERTEX_VERSION
    project, location = vertex_place(own, environ)
    url = (base or _vertex_host("global" if express else location)) + (
        f"/ws/google.cloud.aiplatform.{version}.LlmBidiService/BidiGenerateContent"
    )
    model_path = _vertex_model(own.model, "" if express else project, location)
    return Endpoint(backend=backend, version=version, url=url, model_path=model_path)


def _override(own: GeminiSettings, environ: Mapping[str, str], backend: Backend) -> tuple[str, str]:
    if own.base_url:
        return own.base_url, "providers.gemini.base_url"
    names = ("GOOGLE_VERTEX_BASE_URL",) if backend is Backend.VERTEX else ()
    for name in (*names, "GOOGLE_GEMINI_BASE_URL"):
        if environ.get(name):
            return environ[name], name
    return "", ""


def _websocket_address(base: str, field: str) -> str:
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        # The value stays out of the message: what cannot be read may hold a password.
        raise SettingRefused(
            field, "(hidden)", f"not an address ({error}): write one such as wss://host:port"
        ) from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not host:
        raise SettingRefused(field, base, "write an address such as wss://host:port or http://127.0.0.1:8080")
    if parts.query or parts.username:
        # A key in an address ends up in logs; the value stays out of the message for the same reason.
        raise SettingRefused(field, f"{parts.scheme}://{parts.hostname}/...", "leave credentials and query out of it")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _vertex_host(location: str) -> str:
    if location == "global":
        return "wss://aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"wss://aiplatform.{location}.rep.googleapis.com"
    return f"wss://{location}-aiplatform.googleapis.com"


def _developer_model(model: str) -> str:
    return model if "/" in model else f"models/{model}"


def _vertex_model(model: str, project: str, location: str) -> str:
    if model.startswith("projects/"):
        return model
    bare = model.rsplit("/", 1)[-1]
    publishers = model if model.startswith("publishers/") else f"publishers/google/models/{bare}"
    return f"projects/{project}/locations/{location}/{publishers}" if project else publishers
