"""The key that opens a session: from the environment, or a client secret minted with it just before each connect.

A `Credential` shows itself to nobody: `str`, `repr` and errors say only that it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.errors import ProviderRejected, ProviderUnavailable, SettingRefused

__all__ = [
    "KEY_VARIABLE",
    "Credential",
    "credential_problem",
    "find_credential",
    "read_client_secret",
    "secret_request",
]

KEY_VARIABLE = "OPENAI_API_KEY"
_MEND = f"set {KEY_VARIABLE} to an API key or to a client secret (ek_...)"


class Credential:
    """An API key or client secret. Hidden in `repr` and `str`; `bearer()` is the only way out."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def bearer(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._secret}"

    @property
    def ephemeral(self) -> bool:
        """A client secret, which cannot mint another."""
        return self._secret.startswith("ek_")

    def __repr__(self) -> str:
        return "Credential(hidden)"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a credential is not pickled")


def find_credential(environ: Mapping[str, str]) -> Credential | None:
    """The key of the environment, None when there is none. A key pasted with a line break around it still works."""
    key = environ.get(KEY_VARIABLE, "").strip()
    return Credential(key) if key else None


def credential_problem(environ: Mapping[str, str], *, required: bool, minting: bool) -> SettingRefused | None:
    """What is wrong with the key, before anything is opened. The key itself is in no message."""
    key = environ.get(KEY_VARIABLE, "").strip()
    if not key:
        return SettingRefused(KEY_VARIABLE, "", f"the key is missing: {_MEND}") if required or minting else None
    if not _fits_a_header(key):
        return SettingRefused(KEY_VARIABLE, "(hidden)", f"the key holds characters that no header may carry: {_MEND}")
    if minting and key.startswith("ek_"):
        return SettingRefused(
            "providers.openai.auth", "client_secret", f"{KEY_VARIABLE} is itself a client secret: use auth = 'api_key'"
        )
    return None


def secret_request(model: str, ttl_s: int) -> bytes:
    """Body of `POST {base}/realtime/client_secrets` for one session with this model."""
    body: dict[str, Any] = {
        "expires_after": {"anchor": "created_at", "seconds": ttl_s},
        "session": {"type": "realtime", "model": model},
    }
    return msgspec.json.encode(body)


class _SecretAnswer(msgspec.Struct):
    value: str


def read_client_secret(status: int, body: bytes, retry_after_s: float | None = None) -> Credential:
    """The minted secret. Raises: `ProviderRejected` or `ProviderUnavailable` when the server gave none."""
    if status in {408, 409, 425, 429} or status >= 500:
        raise ProviderUnavailable(
            f"no client secret: the server answered HTTP {status}", code=status, retry_after_s=retry_after_s
        )
    if not 200 <= status < 300:
        raise ProviderRejected(
            f"no client secret: the server answered HTTP {status}", code=status, mend=_MEND, endpoint_wide=True
        )
    try:
        secret = msgspec.json.decode(body, type=_SecretAnswer).value
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ProviderUnavailable("no client secret: the answer was not what the API documents", code=status) from error
    if not _fits_a_header(secret):
        # Whoever sends it would repeat it in the error, in a spelling that is not blotted out.
        raise ProviderUnavailable("no client secret: the answer holds none that a header may carry", code=status)
    return Credential(secret)


def _fits_a_header(key: str) -> bool:
    return bool(key) and all(32 < ord(char) < 127 for char in key)
