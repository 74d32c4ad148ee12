"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.core.errors import ConfigError
from examples import echo_room, join_room, serve_calls, tool_call


async def test_the_echo_room_answers() -> None:
    assert await echo_room.main() >= 0.5


async def test_the_tool_is_called_and_its_result_spoken() -> None:
    assert await tool_call.main() == "On Sunday we are open from eight to noon."


async def test_joining_a_room_without_credentials_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LIVEKIT_TOKEN", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match="LIVEKIT_API_KEY, LIVEKIT_API_SECRET"):
        await join_room.main("lobby")


async def test_calls_are_served_until_stopped() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve_calls.main(None, {"port": 0}, told.put_nowait, stop), name="example")
        assert "http://127.0.0.1:" in await told.get()
        stop.set()
    assert serving.result() == 0


@pytest.mark.parametrize("path", sorted(Path(echo_room.__file__).parent.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_example_is_run_by_a_test(path: Path) -> None:
    assert f"{path.stem}.main(" in Path(__file__).read_text(encoding="utf-8")
