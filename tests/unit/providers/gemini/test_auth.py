from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from providers.errors import ProviderRejected, SettingRefused
from providers.gemini.auth import GoogleCredentials, credential
from providers.gemini.settings import GeminiSettings

VERTEX = GeminiSettings(backend="vertex", project="p")


@pytest.mark.parametrize(
    ("environ", "headers"),
    [
        ({"GEMINI_API_KEY": "one"}, {"x-goog-api-key": "one"}),
        ({"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"}, {"x-goog-api-key": "two"}),
        ({"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": " "}, {"x-goog-api-key": "one"}),
        ({"GEMINI_API_KEY": "auth_tokens/x"}, {"Authorization": "Token auth_tokens/x"}),
    ],
)
async def test_which_secret_goes_into_which_header(environ: dict[str, str], headers: dict[str, str]) -> None:
    found = credential(GeminiSettings(), environ)
    assert await found.headers() == headers
    assert not any(secret.strip() and secret in repr(found) for secret in environ.values())


async def test_a_variable_of_ones_own() -> None:
    own = GeminiSettings(api_key_env="SECOND_KEY")
    assert await credential(own, {"SECOND_KEY": "k", "GOOGLE_API_KEY": "no"}).headers() == {"x-goog-api-key": "k"}


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SettingRefused, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        credential(GeminiSettings(), {})


async def test_vertex_without_a_project_takes_a_key() -> None:
    express = GeminiSettings(backend="vertex")
    assert await credential(express, {"GOOGLE_API_KEY": "k"}).headers() == {"x-goog-api-key": "k"}
    with pytest.raises(SettingRefused, match="GOOGLE_CLOUD_PROJECT"):
        credential(express, {})


class TokenService:
    """Google's token endpoint, on loopback."""

    def __init__(self) -> None:
        self.issued = 0
        self.threads: set[int] = set()
        self.status = 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                service.issued += 1
                granted = {"access_token": f"token-{service.issued}", "expires_in": 3600, "token_type": "Bearer"}
                body = json.dumps(granted if service.status == 200 else {"error": "invalid_grant"}).encode()
                self.send_response(service.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def token_service() -> Iterator[TokenService]:
    service = TokenService()
    yield service
    service.close()


@pytest.fixture
def service_account(tmp_path: Path, token_service: TokenService) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "client_email": "bridge@example.iam.gserviceaccount.com",
        "private_key": pem,
        "token_uri": token_service.url,
        "quota_project_id": "payer",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    return path


async def test_vertex_asks_for_a_token_before_every_connect(token_service: TokenService, service_account: Path) -> None:
    found = credential(VERTEX, {"GOOGLE_APPLICATION_CREDENTIALS": str(service_account)})
    assert isinstance(found, GoogleCredentials)
    first, second = await found.headers(), await found.headers()
    assert first == {"Authorization": "Bearer token-1", "x-goog-user-project": "payer"}
    assert second["Authorization"] == "Bearer token-2"


async def test_refused_credentials_are_not_tried_again(token_service: TokenService, service_account: Path) -> None:
    token_service.status = 400
    found = credential(VERTEX, {"GOOGLE_APPLICATION_CREDENTIALS": str(service_account)})
    with pytest.raises(ProviderRejected, match="application-default login"):
        await found.headers()


async def test_a_missing_credentials_file_says_what_to_set(tmp_path: Path) -> None:
    found = credential(VERTEX, {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")})
    with pytest.raises(ProviderRejected, match="GOOGLE_APPLICATION_CREDENTIALS"):
        await found.headers()
