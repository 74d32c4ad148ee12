"""Joins a real LiveKit room with the model of a configuration file, and gives it a tool.

Run it: python -m examples.join_room ROOM [FILE.toml], with LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET set.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime

from bridge import BridgeError, EndReason, RoomBridge, load, make_model, make_room

__all__ = ["main"]


def time_of_day() -> str:
    """The time now, in UTC."""
    return datetime.now(UTC).strftime("%H:%M")


async def main(room: str, file: str | None = None) -> EndReason:
    """Serves the room until it is over. Raises: `BridgeError` that says what is wrong."""
    config = load(file, os.environ, {"livekit": {"room": room}})
    place, model = make_room(config, os.environ), make_model(config, os.environ)
    async with RoomBridge(place, model, config, tools=[time_of_day]) as bridge:
        bridge.say("Greet the people in the room.")
        return await bridge.run()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m examples.join_room ROOM [FILE.toml]")
    try:
        sys.stdout.write(f"{asyncio.run(main(*sys.argv[1:]))}\n")
    except BridgeError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
