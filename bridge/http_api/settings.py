"""What the HTTP API of `roombridge serve` needs to be told. Plain values: nothing heavy is imported here."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["ServeSettings"]

_ORIGIN = r"^https?://[A-Za-z0-9.\-\[\]:]+$"


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where `roombridge serve` listens, and whom it lets call. The secret that signs tokens is no setting: it is
    ROOMBRIDGE_CALL_SECRET of the environment, 32 bytes at least."""

    host: str = "127.0.0.1"
    """Address to listen on. The default is this machine alone; 0.0.0.0 is every network it is in."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """TCP port for HTTP. 0: any free one. TLS is for a proxy in front; browsers give a microphone to https only, and to
    this machine."""
    page: bool = True
    """Serve the page and what it is made of. Off: the API alone."""
    allowed_origins: tuple[Annotated[str, Meta(pattern=_ORIGIN)], ...] = ()
    """Origins whose pages may call, such as "https://app.example.com". The address served itself always may."""
    providers: tuple[str, ...] = ()
    """Which models a caller may choose. Empty: `provider`, those of `failover`, and each with a table in
    [providers.*]."""
    livekit_url: str = ""
    """Address of the LiveKit server as browsers reach it, where that is not `livekit.url`."""
    token_ttl_s: Annotated[float, Meta(ge=5, le=3_600)] = 60.0
    """How long a call token that the page asks for may wait to be used, s."""
    page_ttl_s: Annotated[float, Meta(ge=60, le=31_536_000)] = 43_200.0
    """How long the page's own token holds, s."""
    max_body_bytes: Annotated[int, Meta(ge=4_096, le=1_048_576)] = 65_536
    """Longest request body. An offer of a browser is 2,000 to 8,000 bytes."""
    max_connections: Annotated[int, Meta(ge=4, le=10_000)] = 256
    """Connections open at once. One more is closed unread, and counted."""
    request_timeout_s: Annotated[float, Meta(ge=1, le=60)] = 10.0
    """For a request to arrive whole, s; an idle connection is closed after it too."""
    offers_per_s: Annotated[float, Meta(gt=0, le=1_000)] = 4.0
    """Calls that may be begun a second; twice as many at once."""
    offers_in_flight: Annotated[int, Meta(ge=1, le=100)] = 4
    """Offers answered at the same time."""

    def address(self, port: int) -> str:
        """Where a browser on this machine finds a server that listens on this port."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
