"""Who may open the page and who may call: tokens bound to their purpose, a call token good for one call. No clock.

A page token lets its holder ask for call tokens; it travels in the address fragment, which no server ever sees. A call
token starts one call, and a team's own server may sign one for its own page with the same secret.
"""

from __future__ import annotations

import secrets

import msgspec

from bridge.core.jwt import LEEWAY_S, sign_claims, verified
from bridge.http_api.refusal import Refused
from bridge.transports.webrtc_call.messages import AGENT_SPEAKER

__all__ = [
    "CALL_AUDIENCE",
    "PAGE_AUDIENCE",
    "SECRET_VARIABLE",
    "SHORTEST_SECRET",
    "Caller",
    "Tokens",
    "sign_call",
    "sign_page",
]

SECRET_VARIABLE = "ROOMBRIDGE_CALL_SECRET"
SHORTEST_SECRET = 32
"""Bytes: as many as HS256 has of output (RFC 7518 section 3.2)."""
CALL_AUDIENCE = "roombridge:call"
PAGE_AUDIENCE = "roombridge:page"
_LONGEST_TTL_S = 24 * 3600.0
"""A call token that holds longer is refused: its id would have to be remembered as long."""
_REMEMBERED = 20_000
_LONGEST_NAME = 128


class _Claims(msgspec.Struct, kw_only=True):
    aud: str = ""
    sub: str = ""
    name: str = ""
    jti: str = ""
    nbf: float = 0.0
    exp: float = 0.0


class Caller(msgspec.Struct, frozen=True):
    """Whom a call token stands for."""

    identity: str
    name: str
    token_id: str
    expires_at: float
    """Seconds since 1970."""


def sign_page(secret: str, *, ttl_s: float, now: float) -> str:
    """A token that opens the page; `now` is seconds since 1970."""
    return sign_claims({"aud": PAGE_AUDIENCE, "nbf": int(now) - LEEWAY_S, "exp": int(now + ttl_s)}, secret)


def sign_call(secret: str, *, identity: str, name: str = "", ttl_s: float, now: float) -> str:
    """A token for one call of `identity`; `now` is seconds since 1970."""
    claims = {
        "aud": CALL_AUDIENCE,
        "sub": identity,
        "jti": secrets.token_urlsafe(12),
        "nbf": int(now) - LEEWAY_S,
        "exp": int(now + ttl_s),
    }
    return sign_claims({**claims, "name": name} if name else claims, secret)


class Tokens:
    """Checks tokens and remembers which call tokens were used. Full: no call token is taken until an old one has
    expired; `refused_full` counts that. Whoever holds the page's token cannot make us forget a used one."""

    def __init__(self, secret: str, *, remembered: int = _REMEMBERED) -> None:
        if len(secret.encode()) < SHORTEST_SECRET:
            raise ValueError(f"the secret needs {SHORTEST_SECRET} bytes at least")
        self._secret = secret
        self._limit = remembered
        self._used: dict[str, float] = {}
        """Id of a used token to when it would have expired."""
        self._looked_at = float("-inf")
        self.refused = 0
        """Tokens that did not hold: forged, expired, for another purpose, used before."""
        self.replayed = 0
        """Of these, call tokens that came twice."""
        self.refused_full = 0

    def __repr__(self) -> str:
        return f"Tokens(used={len(self._used)})"

    def page(self, *, ttl_s: float, now: float) -> str:
        """A token for the page."""
        return sign_page(self._secret, ttl_s=ttl_s, now=now)

    def call(self, *, identity: str, name: str = "", ttl_s: float, now: float) -> str:
        """A token for one call."""
        return sign_call(self._secret, identity=identity, name=name, ttl_s=ttl_s, now=now)

    def check_page(self, token: str, now: float) -> None:
        """Raises: `Refused` (401)."""
        self._claims(token, PAGE_AUDIENCE, now)

    def check_call(self, token: str, now: float) -> Caller:
        """Whom this token lets call; it is not used up by looking. Raises: `Refused` (401, 503)."""
        claims = self._claims(token, CALL_AUDIENCE, now)
        if not claims.jti or len(claims.jti) > _LONGEST_NAME:
            raise self._refuse("token_invalid", "it has no id (jti)", "sign it with `roombridge token --call`")
        if not claims.sub or len(claims.sub) > _LONGEST_NAME or not claims.sub.isprintable():
            mend = f"give it a subject (sub) of 1 to {_LONGEST_NAME} printable characters"
            raise self._refuse("token_invalid", "it names nobody", mend)
        if claims.sub == AGENT_SPEAKER:
            raise self._refuse("token_invalid", f"{AGENT_SPEAKER} is the model's own name", "call the caller otherwise")
        if claims.exp - now > _LONGEST_TTL_S + LEEWAY_S:
            raise self._refuse("token_invalid", "it holds for more than a day", "sign one with a nearer end (exp)")
        if claims.jti in self._used:
            self.replayed += 1
            raise self._refuse("token_used", "this token has had its call", "ask for a new one")
        self._forget(now)
        if len(self._used) >= self._limit:
            self.refused_full += 1
            raise Refused(503, "busy", "too many tokens were used of late", "try again later", retry_after_s=60)
        name = "".join(char for char in claims.name[:_LONGEST_NAME] if char.isprintable())
        return Caller(claims.sub, name, claims.jti, claims.exp)

    def use(self, caller: Caller) -> None:
        """This token has had its call. No waiting may lie between `check_call` and this."""
        self._used[caller.token_id] = caller.expires_at + LEEWAY_S

    def _claims(self, token: str, audience: str, now: float) -> _Claims:
        try:
            claims = verified(token, self._secret, _Claims)
        except ValueError as error:
            raise self._refuse("token_invalid", f"the token is refused: {error}", "ask for a new one") from None
        if claims.aud != audience:
            mend = "a page token opens the page and gives call tokens; a call token starts a call"
            raise self._refuse("token_audience", "this token is for another purpose", mend)
        if claims.exp + LEEWAY_S <= now:
            raise self._refuse("token_expired", "the token has expired", "ask for a new one")
        if claims.nbf - LEEWAY_S > now:
            raise self._refuse("token_early", "the token does not hold yet", "set the signer's clock right")
        return claims

    def _refuse(self, code: str, message: str, mend: str) -> Refused:
        self.refused += 1
        return Refused(401, code, message, mend)

    def _forget(self, now: float) -> None:
        """What has expired by now. At most once a second, for there may be thousands."""
        if now < self._looked_at + 1.0:
            return
        self._looked_at = now
        self._used = {token_id: until for token_id, until in self._used.items() if until > now}
