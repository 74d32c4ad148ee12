"""A model that calls a Python function. Here the offline model follows a script; any provider would do.

Run it: python -m examples.tool_call
"""

from __future__ import annotations

import asyncio
import sys

from bridge import LoopbackRoom, RoomBridge, ShowCaption
from providers import ScriptedModel
from providers.scripted.scenario import load_text

__all__ = ["main"]

SCRIPT = """
[[turns]]
turn = 1
calls = [{ name = "opening_hours", arguments = { day = "Sunday" } }]
answer = { kind = "text", text = "On Sunday we are open {hours}." }
"""


async def opening_hours(day: str) -> dict[str, str]:
    """When the bakery is open on a day of the week."""
    return {"hours": "from eight to noon" if day == "Sunday" else "from seven to six"}


async def main() -> str:
    """Returns what the agent was heard to say."""
    room, spoken = LoopbackRoom(), []
    answered = asyncio.Event()

    def listener(command: object) -> None:
        if isinstance(command, ShowCaption) and command.caption.speaker is None:
            spoken.append(command.caption.text)
            if command.caption.final:
                answered.set()

    async with RoomBridge(room, ScriptedModel(load_text(SCRIPT)), tools=[opening_hours]) as bridge:
        bridge.listen(listener)
        room.join("ada")
        room.type("ada", "When are you open on Sunday?")
        async with asyncio.timeout(15):
            await answered.wait()
    text = "".join(spoken)
    sys.stdout.write(f"agent: {text}\n")
    return text


if __name__ == "__main__":
    asyncio.run(main())
