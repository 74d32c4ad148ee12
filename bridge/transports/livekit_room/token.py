"""Join tokens: signed and read by `bridge.core.jwt`, for `livekit.api` costs 270 ms to import."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from bridge.core.jwt import LEEWAY_S, read_unverified, sign_claims

__all__ = ["AGENT_GRANT", "TokenClaims", "read_claims", "sign", "sign_agent", "sign_participant"]

AGENT_GRANT: Mapping[str, Any] = {
    "roomJoin": True,
    "agent": True,
    "canPublish": True,
    "canSubscribe": True,
    "canPublishData": True,
    "canUpdateOwnMetadata": True,
}
"""What an agent that joins without a worker needs; `canUpdateOwnMetadata` is for `lk.agent.state`."""


class TokenClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Not verified: only the server can."""

    sub: str = ""
    exp: float = 0.0
    nbf: float = 0.0
    kind: str = "standard"
    video: dict[str, Any] = {}


def sign(
    api_key: str,
    api_secret: str,
    *,
    grants: Mapping[str, Any],
    identity: str = "",
    name: str = "",
    kind: str = "",
    attributes: Mapping[str, str] | None = None,
    room_config: Mapping[str, Any] | None = None,
    ttl_s: float = 6 * 3600,
    now: float | None = None,
) -> str:
    """A LiveKit access token (HS256). `grants` are the keys of the `video` claim; `now` is seconds since 1970."""
    if now is None:
        now = datetime.now(UTC).timestamp()
    claims: dict[str, Any] = {"iss": api_key, "nbf": int(now) - LEEWAY_S, "exp": int(now + ttl_s)}
    if identity:
        claims["sub"] = identity
    if name:
        claims["name"] = name
    if kind:
        claims["kind"] = kind
    if attributes:
        claims["attributes"] = dict(attributes)
    if room_config:
        claims["roomConfig"] = dict(room_config)
    claims["video"] = dict(grants)
    return sign_claims(claims, api_secret)


def sign_agent(
    api_key: str, api_secret: str, *, room: str, identity: str, name: str = "", ttl_s: float = 6 * 3600
) -> str:
    """A token that joins `room` as an agent."""
    grants = {**AGENT_GRANT, "room": room}
    return sign(api_key, api_secret, grants=grants, identity=identity, name=name, kind="agent", ttl_s=ttl_s)


def sign_participant(
    api_key: str, api_secret: str, *, room: str, identity: str, name: str = "", ttl_s: float = 6 * 3600
) -> str:
    """A token that joins `room` as a person: any LiveKit client takes it."""
    grants = {
        "roomJoin": True,
        "room": room,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
        "canUpdateOwnMetadata": True,
    }
    return sign(api_key, api_secret, grants=grants, identity=identity, name=name, ttl_s=ttl_s)


def read_claims(token: str) -> TokenClaims:
    """The claims of a token, unverified. Raises ValueError, without the token in it, if it is none."""
    return read_unverified(token, TokenClaims)
