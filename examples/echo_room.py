"""A whole call without a server or a key: the offline model repeats what somebody says in a room of this process.

Run it: python -m examples.echo_room
"""

from __future__ import annotations

import asyncio
import math
import struct
import sys

from bridge import LoopbackRoom, RoomBridge
from providers import ScriptedModel

__all__ = ["main"]

FRAME_S = 0.02


def tone(seconds: float, rate_hz: int) -> bytes:
    """A sound loud enough to be taken for speech: int16 little-endian."""
    samples = (int(12_000 * math.sin(2 * math.pi * 300 * n / rate_hz)) for n in range(int(seconds * rate_hz)))
    return b"".join(struct.pack("<h", sample) for sample in samples)


async def main() -> float:
    """Returns the seconds of answer that were heard."""
    room = LoopbackRoom()
    form = room.capabilities.input_format
    async with RoomBridge(room, ScriptedModel()) as bridge:
        room.join("ada")
        said = tone(0.6, form.rate_hz) + bytes(form.size(1500))
        for start in range(0, len(said), form.size(20)):
            room.speak("ada", said[start : start + form.size(20)])
            await asyncio.sleep(FRAME_S)
        await asyncio.sleep(0.5)
        bridge.stop()
        reason = await bridge.run()
    heard_s = room.capabilities.output_format.duration_ms(len(room.heard())) / 1000
    sys.stdout.write(f"call ended ({reason}); heard {heard_s:.2f} s of answer to 0.60 s of speech\n")
    return heard_s


if __name__ == "__main__":
    asyncio.run(main())
