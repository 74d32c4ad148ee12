"""Secrets out of captures: a client's credentials, whatever looks like a key, resumption handles by other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["BLOTTED", "Blotter"]

BLOTTED = "[redacted]"

_HEADERS = ("authorization", "x-goog-api-key", "api-key", "cookie", "proxy-authorization", "sec-websocket-protocol")
_QUERY = frozenset({"key", "access_token", "api-key", "api_key", "token"})
_FIELDS = frozenset(
    {
        "authorization",
        "apikey",
        "accesstoken",
        "clientsecret",
        "refreshtoken",
        "secret",
        "password",
        "token",
        "bearertoken",
    }
)
"""Without case, hyphens and underscores. Only where the value is a string: a schema may have a property so named."""
_PATTERNS = re.compile(
    r"sk-[\w-]{16,}|ek_\w{16,}|AIza[\w-]{30,}|ya29\.[\w.-]{16,}|auth_tokens/[\w.-]+|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|(?<=Bearer )[\w.~+/=-]{8,}"
)
_MEDIA = re.compile(r"[A-Za-z0-9+/]{256,}={0,2}")
"""Audio and images are kept as they are: chance may spell the beginning of a key in them."""
_SHORTEST = 8
"""A shorter credential is nobody's real one, and would blot out words."""


class Blotter:
    """One for a recording: a handle has the same other name in all its connections."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._handles: dict[str, str] = {}

    def learn(self, headers: Mapping[str, str], query: Mapping[str, str]) -> None:
        """Remember the credentials of one client. Args: names of headers in lower case."""
        for name in _HEADERS:
            for part in re.split(r"[,;\s]+", headers.get(name, "")):
                self._remember(part.removeprefix("openai-insecure-api-key."))
        for name, value in query.items():
            if name.lower() in _QUERY:
                self._remember(value)

    def _remember(self, secret: str) -> None:
        if len(secret) >= _SHORTEST:
            self._secrets.add(secret)

    def query(self, query: Mapping[str, str]) -> dict[str, str]:
        """A client's query without its credentials."""
        return {name: BLOTTED if name.lower() in _QUERY else self.text(value) for name, value in query.items()}

    def text(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, BLOTTED)
        return text if _MEDIA.fullmatch(text) else _PATTERNS.sub(BLOTTED, text)

    def message(self, value: Any, name: str = "", inside: str = "") -> Any:
        """A decoded message without secrets. Args: name of the field that holds the value, and of the one around it."""
        plain = _plain(name)
        match value:
            case dict():
                if plain == "headers":
                    return {key: BLOTTED for key in value}
                return {self.text(key): self.message(held, key, name) for key, held in value.items()}
            case list():
                return [self.message(held, name, inside) for held in value]
            case str():
                if value and (plain == "newhandle" or (plain == "handle" and _plain(inside) == "sessionresumption")):
                    return self._handles.setdefault(value, f"handle-{len(self._handles) + 1}")
                return BLOTTED if value and plain in _FIELDS else self.text(value)
            case _:
                return value


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
