"""Plain aiortc, nothing of ours: whatever it hears it says back. The floor of what a call over WebRTC costs with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bench.workers.serve import Handler, main


class _Echoes:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._connections: list[Any] = []

    def handlers(self) -> Mapping[str, Handler]:
        return {"answer": self.answer, "leave": self.leave}

    async def answer(self, offers: list[str]) -> dict[str, Any]:
        import aioice.ice
        from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
        answers = []
        for offer in offers:
            connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            connection.on("track", connection.addTrack)
            await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await connection.setLocalDescription(await connection.createAnswer())
            answers.append(connection.localDescription.sdp)
            self._connections.append(connection)
        return {"answers": answers}

    async def leave(self) -> None:
        for connection in self._connections:
            await connection.close()
        self._connections.clear()


if __name__ == "__main__":
    main(lambda group: _Echoes(group).handlers())
