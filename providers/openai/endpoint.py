"""Where a session is opened, and the headers that go with it. The key is never part of a URL."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from providers.errors import SettingRefused
from providers.openai.auth import Credential

__all__ = [
    "BASE_URL_VARIABLE",
    "DEFAULT_BASE_URL",
    "base_url_problem",
    "calls_url",
    "find_base_url",
    "hangup_url",
    "headers",
    "is_official",
    "secret_url",
    "sideband_url",
    "websocket_url",
]

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
DEFAULT_BASE_URL = "https://api.openai.com/v1"
_SCHEMES = {"http": ("http", "ws"), "ws": ("http", "ws"), "https": ("https", "wss"), "wss": ("https", "wss")}
_KEY_PARAMETERS = frozenset({"key", "api_key", "api-key", "apikey", "token", "access_token"})


def find_base_url(configured: str | None, environ: Mapping[str, str]) -> str:
    """The configured address, else OPENAI_BASE_URL, else OpenAI's own."""
    return configured or environ.get(BASE_URL_VARIABLE, "").strip() or DEFAULT_BASE_URL


def base_url_problem(configured: str | None, environ: Mapping[str, str]) -> SettingRefused | None:
    """What is wrong with the address, before anything is opened. A secret inside it is not repeated."""
    field = "providers.openai.base_url" if configured else BASE_URL_VARIABLE
    url = find_base_url(configured, environ)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return SettingRefused(field, "(hidden)", f"not a URL ({error}): write one like {DEFAULT_BASE_URL}")
    if parts.username or parts.password or _KEY_PARAMETERS & {name.lower() for name, _ in parse_qsl(parts.query)}:
        return SettingRefused(field, "(hidden)", "holds a key: set OPENAI_API_KEY instead; URLs end up in logs")
    if parts.scheme not in _SCHEMES or not host:
        return SettingRefused(field, url, "must begin with https://, http://, wss:// or ws:// and name a host")
    return None


def is_official(url: str) -> bool:
    """OpenAI itself, whose rules are known; anything else is a compatible server."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False  # no address at all: `base_url_problem` says so
    return host == "openai.com" or host.endswith(".openai.com")


def websocket_url(base_url: str, model: str) -> str:
    """`wss://host/v1/realtime?model=...`: the path gets `/realtime` unless it ends so; a query of its own stays."""
    parts = urlsplit(base_url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not any(name == "model" for name, _ in query):
        query.append(("model", model))
    return _build(parts, _SCHEMES[parts.scheme][1], _realtime_path(parts), urlencode(query, quote_via=quote))


def secret_url(base_url: str) -> str:
    """Where client secrets are minted: `https://host/v1/realtime/client_secrets`."""
    parts = urlsplit(base_url)
    return _build(parts, _SCHEMES[parts.scheme][0], f"{_realtime_path(parts)}/client_secrets", parts.query)


def calls_url(base_url: str) -> str:
    """Where a WebRTC call is made: `https://host/v1/realtime/calls`."""
    parts = urlsplit(base_url)
    return _build(parts, _SCHEMES[parts.scheme][0], f"{_realtime_path(parts)}/calls", parts.query)


def hangup_url(base_url: str, call_id: str) -> str:
    """Where that call is ended: `https://host/v1/realtime/calls/rtc_.../hangup`."""
    parts = urlsplit(base_url)
    path = f"{_realtime_path(parts)}/calls/{quote(call_id, safe='')}/hangup"
    return _build(parts, _SCHEMES[parts.scheme][0], path, parts.query)


def sideband_url(base_url: str, call_id: str) -> str:
    """A WebSocket that joins that call: `wss://host/v1/realtime?call_id=rtc_...`. The model is known already."""
    parts = urlsplit(base_url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "model"]
    query = urlencode([*kept, ("call_id", call_id)], quote_via=quote)
    return _build(parts, _SCHEMES[parts.scheme][1], _realtime_path(parts), query)


def headers(
    credential: Credential | None,
    *,
    organization: str | None = None,
    project: str | None = None,
    safety_identifier: str | None = None,
) -> dict[str, str]:
    """What goes with the upgrade request. No `OpenAI-Beta`: the GA service refuses the beta shape."""
    named = {
        "Authorization": credential.bearer() if credential else None,
        "OpenAI-Organization": organization,
        "OpenAI-Project": project,
        "OpenAI-Safety-Identifier": safety_identifier,
    }
    return {name: value for name, value in named.items() if value}


def _realtime_path(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    return path if path.endswith("/realtime") else f"{path}/realtime"


def _build(parts: SplitResult, scheme: str, path: str, query: str) -> str:
    return urlunsplit((scheme, parts.netloc, path, query, ""))
