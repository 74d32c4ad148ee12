"""Callers that cost next to nothing: the Go program in `bench/talker`, built once, and the packets that it says.

Where Go is missing the callers are the SDK's, and the table says so: with 20 of them a small machine is full.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bench.crew import CACHE, WorkerFailed
from providers.signal import wav
from providers.signal.resample import Int16Array

__all__ = ["Talkers", "build_talker", "write_packets"]

_SOURCE = Path(__file__).parent / "talker"
_PROGRAM = CACHE / "talker"
_BUILD_TIMEOUT_S = 300.0
_JOIN_TIMEOUT_S = 40.0
_OPUS_HZ = 48_000
_PACKET = _OPUS_HZ // 50


async def build_talker() -> Path | None:
    """The program, built when its source is newer. None without Go. Raises WorkerFailed when it does not build."""
    newest = max(path.stat().st_mtime for path in _SOURCE.iterdir())
    if _PROGRAM.exists() and _PROGRAM.stat().st_mtime >= newest:
        return _PROGRAM
    go = shutil.which("go")
    if go is None:
        return None
    _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    build = await asyncio.create_subprocess_exec(
        go,
        "build",
        "-o",
        str(_PROGRAM),
        ".",
        cwd=_SOURCE,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_BUILD_TIMEOUT_S):
        said, _ = await build.communicate()
    if build.returncode:
        raise WorkerFailed(f"go build in {_SOURCE} failed: {said.decode()[-1000:]}")
    return _PROGRAM


def write_packets(babble: Path, path: Path) -> Path:
    """The WAV as Opus packets of 20 ms, each with its length before it (two bytes, big-endian)."""
    if path.exists():
        return path
    import av  # with the `webrtc` extra, which `make install` includes

    pcm: Int16Array = wav.read(babble, _OPUS_HZ)
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate = _OPUS_HZ
    encoder.layout = "mono"
    encoder.format = "s16"
    encoder.bit_rate = 48_000
    encoder.options = {"application": "voip", "frame_duration": "20"}
    found = bytearray()
    for start in range(0, len(pcm) - _PACKET + 1, _PACKET):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[start : start + _PACKET][None]), "s16", "mono")
        frame.sample_rate = _OPUS_HZ
        for packet in encoder.encode(frame):
            data = bytes(packet)
            found += len(data).to_bytes(2, "big") + data
    path.write_bytes(found)
    return path


class Talkers(AbstractAsyncContextManager["Talkers"]):
    """One caller in each room, saying the packets over and over, for as long as it is entered."""

    def __init__(self, program: Path, packets: Path, seats: Sequence[tuple[str, str]]) -> None:
        self._program = program
        self._packets = packets
        self._seats = list(seats)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "entered before"
        return self._process.pid

    async def __aenter__(self) -> Talkers:
        log = CACHE / "logs" / "talkers.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self._process = process = await asyncio.create_subprocess_exec(
                str(self._program),
                str(self._packets),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                # One thread and a lazy collector: a third less, for a program that only sends.
                env={**os.environ, "GOMAXPROCS": "1", "GOGC": "400"},
            )
        assert process.stdin is not None and process.stdout is not None, "started with pipes"
        process.stdin.write(json.dumps(self._seats).encode() + b"\n")
        try:
            async with asyncio.timeout(_JOIN_TIMEOUT_S):
                said = await process.stdout.readline()
        except TimeoutError:
            said = b""
        if said.strip() != b"talking":
            await self.__aexit__(None, None, None)
            raise WorkerFailed(f"the callers did not get into their rooms; see {log}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None and process.stdin is not None, "entered before"
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
