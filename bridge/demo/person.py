"""Drives a participant in a process of its own: start it, give it commands, wait for what it tells."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Person", "PersonError"]


class PersonError(Exception):
    """The participant could not join, refused a command, or did not tell in time what was waited for."""


class Person:
    """Use as an async context manager: joined on entry, gone on exit. Everything it tells is kept in `told`."""

    def __init__(self, url: str, token: str, *, join_timeout_s: float = 15.0) -> None:
        self.told: list[dict[str, Any]] = []
        self.identity = ""
        self._url = url
        self._token = token
        self._join_timeout_s = join_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._next_id = 0
        self._over = False

    async def __aenter__(self) -> Person:
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bridge.demo.participant",
            "--url",
            self._url,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "LIVEKIT_TOKEN": self._token, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for whoever runs it, who lets it leave in order
        )
        # Its life is this object's: ended in __aexit__, so no task group of the caller is needed.
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="person")
        try:
            joined = await self.wait("joined", timeout_s=self._join_timeout_s)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self.identity = joined["identity"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, reader = self._process, self._reader
        assert process is not None and reader is not None, "entered before"
        if process.stdin is not None and not process.stdin.is_closing():
            process.stdin.close()  # it leaves the room when its commands end
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await reader

    async def do(self, command: str, *, timeout_s: float = 30.0, **facts: Any) -> None:
        """Give a command and wait until it is carried out. Raises PersonError if it failed."""
        number = self.start(command, **facts)
        done = await self.wait("done", "failed", timeout_s=timeout_s, id=number)
        if done["event"] == "failed":
            raise PersonError(f"{command}: {done['error']}")

    def start(self, command: str, **facts: Any) -> int:
        """Give a command without waiting. Returns its number, which `done` or `failed` will carry."""
        assert self._process is not None and self._process.stdin is not None, "entered before"
        self._next_id += 1
        line = json.dumps({"do": command, "id": self._next_id, **facts})
        self._process.stdin.write(line.encode() + b"\n")
        return self._next_id

    async def wait(self, *events: str, timeout_s: float = 10.0, since: int = 0, **facts: Any) -> dict[str, Any]:
        """The first thing told, from index `since` on, that is one of `events` and carries all `facts`."""

        def found() -> dict[str, Any] | None:
            for told in self.told[since:]:
                if told["event"] in events and all(told.get(key) == value for key, value in facts.items()):
                    return told
            return None

        try:
            async with asyncio.timeout(timeout_s), self._news:
                while (told := found()) is None:
                    if self._over:
                        raise PersonError(f"ended before {' or '.join(events)}: {self.told[-3:]}")
                    await self._news.wait()
                return told
        except TimeoutError:
            names = [told["event"] for told in self.told[-12:]]
            raise PersonError(f"no {' or '.join(events)} {facts or ''} in {timeout_s:g} s; told: {names}") from None

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None, "started before"
        async for line in self._process.stdout:
            told = json.loads(line)
            async with self._news:
                self.told.append(told)
                self._news.notify_all()
        async with self._news:
            self._over = True
            self._news.notify_all()
