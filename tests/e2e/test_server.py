"""The livekit-server of our own, where a port that was free is free no more."""

from __future__ import annotations

import socket

import pytest

from bridge.demo.server import LocalServer, ServerNotReady

pytestmark = pytest.mark.e2e


async def test_a_port_that_somebody_took_meanwhile_is_replaced_by_another() -> None:
    server = LocalServer()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        async with server:
            assert server.port != taken.getsockname()[1]
            assert await server.ask("ListRooms", {}) is not None


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServerNotReady, match="address already in use"):
            await LocalServer(port=taken.getsockname()[1], ready_timeout_s=5).start()
