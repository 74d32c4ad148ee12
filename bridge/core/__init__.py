"""The words of a call: participants, room events, commands, errors. No I/O, no asyncio, no clock."""
