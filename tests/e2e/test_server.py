"""The livekit-server of our own, where a port that was free is free no more."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys

import psutil
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


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) ties the server to its starter")
async def test_a_server_ends_with_whoever_started_it_though_he_is_killed() -> None:
    program = """
import asyncio
from bridge.demo.server import LocalServer
async def main():
    async with LocalServer() as server:
        print(server.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert starter.stdout is not None
    pid = int(await asyncio.wait_for(starter.stdout.readline(), 30))
    assert psutil.pid_exists(pid)
    starter.kill()
    await starter.wait()
    async with asyncio.timeout(5):
        while psutil.pid_exists(pid):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServerNotReady, match="address already in use"):
            await LocalServer(port=taken.getsockname()[1], ready_timeout_s=5).start()
