"""What every measurement with a room stands on: a livekit-server, and room names used once."""

from __future__ import annotations

import itertools
import secrets

import msgspec

from bridge.demo.server import LocalServer

__all__ = ["BRIDGE", "Plan", "Stage"]

BRIDGE = "roombridge"
"""The bridge's identity in a room."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured, and how long."""

    providers: tuple[str, ...] = ("gemini", "openai")
    rounds: int = 3
    """Whole runs, each with every kind of block in it."""
    sessions: int = 4
    """Latency: sessions for each provider and round."""
    markers: int = 8
    """Latency: sounds each way in one session."""
    interruptions: int = 50
    """Barge-in: of each provider, and as many of the floor."""
    calls: tuple[int, ...] = (1, 5, 10, 20)
    seconds: float = 5.0
    """CPU: length of one window."""
    minutes: float = 10.0
    """WebRTC: how long the calls last."""


class Stage:
    """Rooms on one server. No room is used twice: nothing of one measurement is left for the next."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._run = secrets.token_hex(3)
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def server_pid(self) -> int:
        return self._server.pid

    @property
    def environ(self) -> dict[str, str]:
        """What the bridge needs to join."""
        return {
            "LIVEKIT_URL": self._server.url,
            "LIVEKIT_API_KEY": self._server.api_key,
            "LIVEKIT_API_SECRET": self._server.api_secret,
        }

    def rooms(self, count: int) -> list[str]:
        return [f"bench-{self._run}-{next(self._numbers)}" for _ in range(count)]

    def seat(self, room: str, identity: str) -> tuple[str, str]:
        """URL and token for a person."""
        return self._server.url, self._server.participant_token(room, identity)
