"""Why a connection could not be opened, told as what to do about it. No text made here holds a key."""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable

__all__ = ["network_error", "place", "proxy_refusal", "redact", "refusal", "retry_after_s", "secrets_in"]

_FATAL_CODES = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "account_deactivated",
    "invalid_api_key",
}
"""OpenAI says these with 429 or 401; none of them heals by waiting."""

_FATAL_WORDS = ("check your plan and billing",)
"""Google says it with 429, for a quota that is used up; its close 1011 with these words is final too."""

_SHORT = 300
"""Characters of a provider's own words that an error repeats."""


def place(url: str) -> str:
    """The URL without user, password and query: what an error may name."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(an address that cannot be read)"
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def secrets_in(url: str, headers: Mapping[str, str]) -> frozenset[str]:
    """Every header value and query value, and the last word of each header value (after `Bearer`)."""
    found = {value for _, value in parse_qsl(urlsplit(url).query)}
    password = urlsplit(url).password
    if password:
        found |= {password, unquote(password)}
    for value in headers.values():
        found.add(value)
        found.update(value.split()[-1:])
    # Short values (a version, a flag) are no secrets, and taking them out would mutilate the text.
    return frozenset(value for value in found if len(value) >= 8)


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret replaced by `***`."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date (RFC 9110 section 10.2.3). None if unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def refusal(
    url: str, status: int, headers: Mapping[str, str], body: bytes, secrets: frozenset[str] = frozenset()
) -> ProviderError:
    """What an HTTP answer other than 101 means. 3xx and 4xx: rejected; 408, 425, 429 and 5xx: unavailable."""
    said, code = _reason(body)
    text = f"{place(url)} answered HTTP {status}"
    if said:
        text = f"{text}: {redact(said, secrets)[:_SHORT]}"
    if status in (408, 425, 429) or status >= 500:
        if code in _FATAL_CODES or any(word in said for word in _FATAL_WORDS):
            return ProviderRejected(
                text, code=status, mend="see to the account's quota and billing", endpoint_wide=True
            )
        return ProviderUnavailable(text, code=status, retry_after_s=retry_after_s(_header(headers, "Retry-After")))
    if status in (401, 403):
        mend = "check the API key or token, and what it is allowed to use"
    elif status == 404:
        mend = "check the model name and the base URL"
    elif 300 <= status < 400:
        mend = f"set the base URL to where it points: {place(_header(headers, 'Location') or '')}"
    else:
        mend = "check the model name, the base URL and the API key"
    return ProviderRejected(text, code=status, mend=mend, endpoint_wide=status in (401, 403, 404))


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """Names of headers mean the same in any case; not every mapping knows it."""
    return headers.get(name, headers.get(name.lower()))


def proxy_refusal(url: str, status: int) -> ProviderError:
    """What a proxy's answer to CONNECT means: it wants a password or forbids the host, or it could not get through."""
    text = f"the proxy answered HTTP {status} and did not let us through to {place(url)}"
    if status in (401, 403, 407):
        mend = "check the user, the password and the rules behind connection.proxy"
        return ProviderRejected(text, code=status, mend=mend, endpoint_wide=True)
    return ProviderUnavailable(text, code=status)


def network_error(url: str, error: Exception, secrets: frozenset[str] = frozenset()) -> ProviderError:
    """What a failure below HTTP means: a certificate that is not trusted is for the operator, all else may heal."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProviderRejected(
            f"{place(url)}: the certificate is not trusted: {error.verify_message}",
            mend="name its authority in connection.ca_file",
            endpoint_wide=True,
        )
    said = redact(str(error), secrets)[:_SHORT] or type(error).__name__
    return ProviderUnavailable(f"cannot connect to {place(url)}: {said}")


def _reason(body: bytes) -> tuple[str, str]:
    """The message and code of a JSON error body; of plain text its first line; of HTML nothing."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace").strip()
        return ("" if text.startswith("<") else text.split("\n", 1)[0].strip()), ""
    if isinstance(value, list) and value:  # Google wraps some errors in a list
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        return str(error.get("message") or ""), str(error.get("code") or error.get("type") or "")
    return str(error), ""
