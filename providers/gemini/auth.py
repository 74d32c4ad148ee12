"""Who we are to Google: an API key, an ephemeral token, or OAuth on Vertex. Secrets show in no repr and no error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from providers.errors import ProviderRejected, ProviderUnavailable, SettingRefused
from providers.gemini.endpoint import chosen_backend, vertex_place
from providers.gemini.rules import Backend
from providers.gemini.settings import GeminiSettings

__all__ = ["ApiKey", "Credential", "EphemeralToken", "GoogleCredentials", "credential"]

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TOKEN_PREFIX = "auth_tokens/"
_KEY_NAMES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")  # the first wins, as in Google's own SDK


class Credential(Protocol):
    """Something that signs a connection."""

    async def headers(self) -> dict[str, str]:
        """HTTP headers for one connect, asked for again before each. Raises `ProviderRejected`,
        `ProviderUnavailable`."""
        ...


class ApiKey:
    """A key of AI Studio, or of Vertex in express mode."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "ApiKey(...)"

    async def headers(self) -> dict[str, str]:
        return {"x-goog-api-key": self._key}


class EphemeralToken:
    """A short-lived token made by `auth_tokens`; it may fix the whole setup."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __repr__(self) -> str:
        return "EphemeralToken(...)"

    async def headers(self) -> dict[str, str]:
        return {"Authorization": f"Token {self._token}"}


class GoogleCredentials:
    """OAuth for Vertex by google-auth, imported on first use; its blocking calls run off the loop."""

    def __init__(self, environ: Mapping[str, str], quota_project: str | None = None) -> None:
        self._file = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        self._quota_project = quota_project
        self._credentials: Any = None

    def __repr__(self) -> str:
        return "GoogleCredentials(...)"

    async def headers(self) -> dict[str, str]:
        return await asyncio.to_thread(self._signed)

    def _signed(self) -> dict[str, str]:
        try:
            import google.auth
            import google.auth.exceptions
            from google.auth.transport.requests import Request
        except ImportError as error:
            raise ProviderRejected(
                "Vertex needs google-auth",
                mend="install the extra `vertex`: pip install 'roombridge[vertex]'",
                endpoint_wide=True,
            ) from error
        try:
            if self._credentials is None:
                self._credentials = self._found(google.auth)
            # A token lives an hour: a reconnect late in a call needs another one, so each connect asks afresh.
            self._credentials.refresh(Request())
        except google.auth.exceptions.TransportError as error:
            raise ProviderUnavailable("Google's token service cannot be reached") from error
        except google.auth.exceptions.RefreshError as error:
            # The text of a refresh error can quote the answer of the token service.
            raise ProviderRejected(
                "Google refused the credentials",
                mend="renew them: gcloud auth application-default login",
                endpoint_wide=True,
            ) from error
        except google.auth.exceptions.GoogleAuthError as error:
            raise ProviderRejected(
                "no usable Google credentials",
                mend="set GOOGLE_APPLICATION_CREDENTIALS or run gcloud auth application-default login",
                endpoint_wide=True,
            ) from error
        headers = {"Authorization": f"Bearer {self._credentials.token}"}
        quota_project = self._quota_project or getattr(self._credentials, "quota_project_id", None)
        if quota_project:
            headers["x-goog-user-project"] = quota_project
        return headers

    def _found(self, auth: Any) -> Any:
        """Of the file that `environ` names, where it is of a kind that the library loads without a warning; all
        other kinds, and the machine's own, are the library's to find (from the process environment)."""
        if self._file:
            try:
                info = json.loads(Path(self._file).read_text(encoding="utf-8"))
                kind = info.get("type") if isinstance(info, dict) else None
                if kind == "service_account":
                    from google.oauth2 import service_account

                    kind_of_account: Any = service_account.Credentials
                    account = kind_of_account.from_service_account_info(info, scopes=[_SCOPE])
                    payer = info.get("quota_project_id")
                    return account.with_quota_project(payer) if payer else account
                if kind == "authorized_user":
                    from google.oauth2 import credentials

                    kind_of_user: Any = credentials.Credentials
                    return kind_of_user.from_authorized_user_info(info, scopes=[_SCOPE])
            except (OSError, ValueError) as error:
                raise ProviderRejected(
                    f"GOOGLE_APPLICATION_CREDENTIALS = {self._file!r} cannot be read",
                    mend="set GOOGLE_APPLICATION_CREDENTIALS to a credentials file",
                ) from error
        found, _ = auth.default(scopes=[_SCOPE])
        return found


def credential(own: GeminiSettings, environ: Mapping[str, str]) -> Credential:
    """The credential that settings and environment name; opens nothing.

    Developer API: the key or ephemeral token. Vertex: OAuth, or a key without a project (express mode).
    Raises `SettingRefused` naming the variable to set.
    """
    key = _key(own, environ)
    if chosen_backend(own, environ) is Backend.VERTEX:
        project, _ = vertex_place(own, environ)
        if project:
            return GoogleCredentials(environ, own.quota_project)
        if not key:
            raise SettingRefused(
                "GOOGLE_CLOUD_PROJECT", None, "set it (or providers.gemini.project), or GOOGLE_API_KEY for express mode"
            )
    if not key:
        name = own.api_key_env or " or ".join(_KEY_NAMES)
        raise SettingRefused(own.api_key_env or _KEY_NAMES[0], None, f"set {name} to a key from AI Studio")
    return EphemeralToken(key) if key.startswith(_TOKEN_PREFIX) else ApiKey(key)


def _key(own: GeminiSettings, environ: Mapping[str, str]) -> str:
    names = (own.api_key_env,) if own.api_key_env else _KEY_NAMES
    return next((environ[name].strip() for name in names if environ.get(name, "").strip()), "")
