"""One vendor's emulator, and when each message passed its socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from bench.markers import Capture
from bench.rtp_clock import WatchedPeer
from bench.vendors import VENDORS, Speech
from bench.workers.serve import Handler, main, until
from providers.emulators.chaos import ChaosSchedule
from providers.emulators.server import Connection, EmulatorServer, Message
from providers.scripted.brain import Brain
from providers.scripted.hearing import Recording
from providers.scripted.scenario import Scenario

_LOG_LIMIT = 4
_PLAYS = b'"output_audio_buffer.started"'
"""Over WebRTC speech is no message; its beginning is."""


def _head(data: str | bytes) -> bytes:
    return data[:200].encode() if isinstance(data, str) else data[:200]


class _Emulator:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._strokes: list[str] = []
        self._server: EmulatorServer | None = None
        self._speech: Speech | None = None
        self._first = 0
        self._watched: list[WatchedPeer] = []
        self._said: list[tuple[int, float, str]] = []
        """Number of the connection, time, what: speech or stop."""

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "start": self.start,
            "scenario": self.scenario,
            "ready": self.ready,
            "said": self.said,
            "truncated": self.truncated,
            "harvest": self.harvest,
            "watch": self.watch,
            "clocks": self.clocks,
            "lateness": self.lateness,
            "chaos": self.chaos,
            "strokes": self.strokes,
        }

    async def start(self, provider: str) -> dict[str, Any]:
        vendor = VENDORS[provider]
        self._speech = vendor.speech
        self._server = EmulatorServer(vendor.emulated(), log_limit=_LOG_LIMIT)
        self._server.on_write = self._on_write
        await self._server.__aenter__()  # until this process ends
        return {"environ": vendor.environ(self._server.base_url)}

    async def scenario(self, scenario: dict[str, Any]) -> None:
        """Later connections follow it; earlier ones are forgotten."""
        server = self._running()
        server.scenario = msgspec.convert(scenario, Scenario)
        self._first = len(server.connections)
        self._said.clear()

    async def ready(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until so many connections are set up and hear audio."""
        await until(lambda: sum(bool(recording.arrivals) for recording in self._recordings()) >= count, timeout_s)

    async def said(self) -> dict[str, Any]:
        return {"said": self._said}

    async def truncated(self) -> dict[str, Any]:
        """How much of each reply the newest connection's client said was heard: (number of the reply, ms)."""
        lines = self._minds()[-1].memory.lines
        return {"truncated": [(line.number, line.heard_ms) for line in lines if line.heard_ms is not None]}

    async def harvest(self, path: str, connection: int = -1) -> None:
        """Save what a connection heard, the newest if none is named."""
        recording = self._recordings()[connection]
        assert recording.dropped_ms == 0, "a session of the benchmark is short enough to be kept whole"
        times = np.array([arrival.at for arrival in recording.arrivals])
        positions = np.array([arrival.position_ms for arrival in recording.arrivals]) * recording.rate_hz / 1000
        samples = np.frombuffer(recording.heard, dtype="<i2")
        Capture(recording.rate_hz, samples, np.rint(positions).astype(np.int64), times).save(path)

    async def watch(self) -> None:
        """Note the clocks of what comes over WebRTC from here on."""
        from providers.emulators import call_carrier

        watched = self._watched

        class Noted(WatchedPeer):
            def __init__(self, *args: Any, **kinds: Any) -> None:
                super().__init__(*args, **kinds)
                watched.append(self)

        call_carrier.Peer = Noted  # type: ignore[attr-defined]

    async def clocks(self, from_at: float, until_at: float) -> dict[str, Any]:
        """Of each call over WebRTC that is still there, and how much of what came was concealed."""
        peers = [peer for peer in self._watched if not peer.closed]
        reports = [peer.clock.report(from_at, until_at) for peer in peers]
        return {
            "clocks": msgspec.to_builtins(reports),
            "concealed_ms": [peer.stats.jitter.concealed_ms for peer in peers],
        }

    async def lateness(self, last_s: float) -> dict[str, Any]:
        """Arrival times of audio of the last seconds, one list for each connection; and our own process id."""
        heard = [[arrival.at for arrival in recording.arrivals] for recording in self._recordings()]
        return {
            "times": [[at for at in times if at >= times[-1] - last_s] if times else [] for times in heard],
            "pid": os.getpid(),
        }

    async def chaos(self, seed: int, every_s: float) -> None:
        """Let a fault befall one of the sessions every so often, until this process ends."""
        schedule = ChaosSchedule(seed, every_s=every_s)
        self._group.create_task(self._running().run_chaos(schedule, self._strokes.append), name="chaos")

    async def strokes(self) -> dict[str, Any]:
        """Every fault so far, as a line of text."""
        return {"strokes": self._strokes}

    def _on_write(self, message: Message) -> None:
        assert self._speech is not None, "set before the server runs"
        what = self._speech.kind_of(message.data) or ("speech" if _PLAYS in _head(message.data) else "")
        if what:
            self._said.append((message.connection, message.at, what))

    def _recordings(self) -> list[Recording]:
        return [mind.hearing.recording for mind in self._minds()]

    def _minds(self) -> list[Brain]:
        connections: list[Connection] = self._running().connections[self._first :]
        minds = (connection.wire.brain for connection in connections)
        return [mind for mind in minds if mind is not None]

    def _running(self) -> EmulatorServer:
        assert self._server is not None, "start comes first"
        return self._server


if __name__ == "__main__":
    main(lambda group: _Emulator(group).handlers())
