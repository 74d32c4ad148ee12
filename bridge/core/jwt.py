"""JSON Web Tokens with HS256, by the standard library: signed, read, and verified in constant time.

The one place for it: LiveKit's join tokens and our own page and call tokens are all signed here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

__all__ = ["LEEWAY_S", "read_unverified", "sign_claims", "verified"]

LEEWAY_S = 10
"""Between our clock and the other side's, s."""

_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
_LONGEST = 8_192
"""Characters of a token that is looked at at all."""

_Claims = TypeVar("_Claims", bound=msgspec.Struct)


class _Header(msgspec.Struct):
    alg: str = ""
    typ: str = ""


def sign_claims(claims: Mapping[str, Any], secret: str) -> str:
    """A token of these claims."""
    signed = _HEADER + b"." + _b64(json.dumps(dict(claims), separators=(",", ":")).encode())
    return (signed + b"." + _b64(_mac(signed, secret))).decode()


def read_unverified(token: str, kind: type[_Claims]) -> _Claims:
    """The claims of a token that only somebody else can verify. Raises ValueError, without the token in it."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("not a JWT: it needs three parts with dots between")
    try:
        return msgspec.json.decode(_bytes(parts[1]), type=kind)
    except (binascii.Error, UnicodeError, msgspec.DecodeError) as error:
        raise ValueError("not a JWT: its claims cannot be read") from error


def verified(token: str, secret: str, kind: type[_Claims]) -> _Claims:
    """The claims of a token that was signed with this secret; times and audience are the caller's to judge.

    Nothing of the token is decoded before its signature holds, and the comparison takes the same time wherever the two
    differ. Raises ValueError, without the token in it.
    """
    if len(token) > _LONGEST:
        raise ValueError("not a JWT: too long")
    signed, _, mac = token.rpartition(".")
    try:
        # By bytes, not by text: a last character of base64 may be spelt in several ways.
        holds = hmac.compare_digest(_bytes(mac), _mac(signed.encode("ascii"), secret))
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a JWT: it cannot be read") from error
    if not holds:
        raise ValueError("the signature does not hold")
    header, _, _ = signed.partition(".")
    try:
        alg = msgspec.json.decode(_bytes(header), type=_Header).alg
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a JWT: its header cannot be read") from error
    if alg != "HS256":
        raise ValueError("not signed with HS256")
    return read_unverified(token, kind)


def _mac(signed: bytes, secret: str) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).digest()


def _b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
