"""A TCP relay on loopback whose lines can be cut, refused and frozen: a network to lose."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["Relay"]


class Relay:
    """Use as an async context manager. Passes bytes between its `port` and another of this machine."""

    def __init__(self, to_port: int) -> None:
        self.accepted = 0
        self.port = 0
        self.refuses = False
        """New lines are hung up at once."""
        self._to_port = to_port
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "entered before"
        self._server.close()
        self.thaw()
        self.cut()

    def cut(self) -> None:
        """Every line breaks off, without a goodbye."""
        for line in tuple(self._lines):
            line.transport.abort()

    def freeze(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        self.accepted += 1
        self._lines.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            answers, there = await asyncio.open_connection("127.0.0.1", self._to_port)
            self._lines.add(there)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(reader, there), name="relay:up")
                ways.create_task(self._pass_on(answers, writer), name="relay:down")
        except* OSError:
            pass  # one end is gone, and so is the line
        finally:
            for line in (writer, there):
                if line is not None:
                    self._lines.discard(line)
                    line.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("the end of one way is the end of both")
