from __future__ import annotations

import ssl
from datetime import UTC, datetime

import msgspec
import pytest

from providers.errors import ProviderRejected, ProviderUnavailable
from providers.handshake import network_error, place, redact, refusal, retry_after_s, secrets_in

URL = "wss://user:hunter2-hunter2@api.example.com:8443/v1/live?key=AIza-secret-value&v=1"
HEADERS = {"Authorization": "Bearer sk-secret-0001", "X-Version": "2"}


def test_place_names_no_secret() -> None:
    assert place(URL) == "wss://api.example.com:8443/v1/live"
    assert place("ws://[::1]:80/x?key=1") == "ws://[::1]:80/x"
    assert place("ws://user:secret@host:99999/") == place("ws://[user:secret") == "(an address that cannot be read)"


def test_every_header_and_query_value_is_a_secret_but_short_ones() -> None:
    secrets = secrets_in(URL, HEADERS)
    assert secrets == {"Bearer sk-secret-0001", "sk-secret-0001", "AIza-secret-value", "hunter2-hunter2"}
    assert redact("key AIza-secret-value and sk-secret-0001 are bad", secrets) == "key *** and *** are bad"


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (400, "model name"),
        (401, "API key"),
        (403, "API key"),
        (404, "model name"),
        (302, "base URL"),
    ],
)
def test_refusals_that_no_waiting_heals_say_what_to_mend(status: int, mend: str) -> None:
    error = refusal(URL, status, {"Location": "https://elsewhere.example.com/x?token=1"}, b"")
    assert isinstance(error, ProviderRejected)
    assert error.code == status
    assert mend in error.mend
    assert "token=" not in str(error)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_refusals_that_may_heal_carry_the_providers_wish(status: int) -> None:
    error = refusal(URL, status, {"Retry-After": "12"}, b"busy")
    assert isinstance(error, ProviderUnavailable)
    assert (error.code, error.retry_after_s) == (status, 12.0)
    assert str(error) == f"wss://api.example.com:8443/v1/live answered HTTP {status}: busy"


def test_exhausted_quota_is_not_worth_waiting_for() -> None:
    body = b'{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
    assert isinstance(refusal(URL, 429, {}, body), ProviderRejected)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"code": 403, "message": "no permission", "status": "PERMISSION_DENIED"}}', "no permission"),
        (b'[{"error": {"code": 403, "message": "no permission"}}]', "no permission"),
        (b'{"message": "no permission"}', "no permission"),
        (b'{"error": "no permission"}', "no permission"),
        (b"no permission\nsecond line", "no permission"),
    ],
)
def test_providers_own_words_are_repeated(body: bytes, said: str) -> None:
    assert f"answered HTTP 403: {said} (" in str(refusal(URL, 403, {}, body))


@pytest.mark.parametrize("body", [b"", b"<html><title>403</title></html>", b"\xff\xfe", b"null", b"[]"])
def test_unreadable_bodies_are_left_out(body: bytes) -> None:
    assert str(refusal(URL, 403, {}, body)).startswith("wss://api.example.com:8443/v1/live answered HTTP 403")


def test_echoed_key_is_taken_out_and_long_words_cut() -> None:
    text = str(refusal(URL, 401, {}, b"bad key AIza-secret-value " + b"x" * 1000, secrets_in(URL, HEADERS)))
    assert "AIza" not in text and "bad key ***" in text
    assert len(text) < 500


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("soon", None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_is_read_as_number_or_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)) == seconds


def test_untrusted_certificate_is_for_the_operator() -> None:
    error = ssl.SSLCertVerificationError("self-signed")
    error.verify_message = "self-signed certificate"
    mapped = network_error(URL, error)
    assert isinstance(mapped, ProviderRejected)
    assert "connection.ca_file" in mapped.mend


def test_network_trouble_may_heal() -> None:
    mapped = network_error(URL, OSError("Connect call failed"))
    assert isinstance(mapped, ProviderUnavailable)
    assert str(mapped) == "cannot connect to wss://api.example.com:8443/v1/live: Connect call failed"
    assert "TimeoutError" in str(network_error(URL, TimeoutError()))


def test_a_quota_that_is_used_up_is_no_busy_moment() -> None:
    said = "You exceeded your current quota, please check your plan and billing details."
    body = msgspec.json.encode({"error": {"code": 429, "message": said, "status": "RESOURCE_EXHAUSTED"}})
    error = refusal(URL, 429, {}, body)
    assert isinstance(error, ProviderRejected) and error.endpoint_wide
    assert isinstance(refusal(URL, 429, {}, b'{"error": {"message": "slow down"}}'), ProviderUnavailable)


@pytest.mark.parametrize(("status", "wide"), [(401, True), (403, True), (404, True), (400, False), (302, False)])
def test_who_else_is_refused_is_told(status: int, wide: bool) -> None:
    error = refusal(URL, status, {"Location": "https://elsewhere.example.com"}, b"")
    assert isinstance(error, ProviderRejected) and error.endpoint_wide is wide
