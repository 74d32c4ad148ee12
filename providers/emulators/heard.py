"""What an emulated service heard, over all connections of a call: which piece came when, and on which connection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

import msgspec

from providers.emulators.connection import Connection

__all__ = ["HeardInput", "HeardPiece"]


class HeardPiece(msgspec.Struct, frozen=True, gc=False):
    """The audio of one message."""

    connection: int
    at: float
    """`time.monotonic()` as it arrived."""
    pcm: bytes
    """int16 mono."""


class HeardInput:
    """Pieces of one call in the order of their arrival, as far as `session.heard_limit_s` keeps them.

    A sound that is complete, once and in order in `pcm` reached the service complete, once and in order.
    """

    def __init__(self, rate_hz: int, pieces: Iterable[HeardPiece]) -> None:
        self.rate_hz = rate_hz
        self.pieces = sorted(pieces, key=lambda piece: piece.at)  # stable: each connection's own order is kept
        self._ends = list(accumulate(len(piece.pcm) for piece in self.pieces))

    @classmethod
    def of(cls, connections: Iterable[Connection]) -> HeardInput:
        """Joined over these. Connections that were not set up heard nothing. Raises ValueError for mixed rates."""
        pieces: list[HeardPiece] = []
        rates: set[int] = set()
        for connection in connections:
            if connection.wire.brain is None:
                continue
            recording = connection.wire.brain.hearing.recording
            rates.add(recording.rate_hz)
            heard = recording.heard
            begin = len(heard) - sum(arrival.size for arrival in recording.arrivals)
            for arrival in recording.arrivals:
                pieces.append(HeardPiece(connection.number, arrival.at, heard[begin : begin + arrival.size]))
                begin += arrival.size
        if len(rates) > 1:
            raise ValueError(f"these connections take audio at different rates: {sorted(rates)}")
        return cls(rates.pop() if rates else 16_000, pieces)

    @property
    def pcm(self) -> bytes:
        """All of it, int16 mono at `rate_hz`."""
        return b"".join(piece.pcm for piece in self.pieces)

    @property
    def total_ms(self) -> float:
        return (self._ends[-1] if self._ends else 0) / 2 / self.rate_hz * 1000

    def piece_at(self, position_ms: float) -> HeardPiece:
        """The piece that holds this position of `pcm`: when and where it arrived. Raises IndexError beyond the end."""
        return self.pieces[self._place(position_ms)]

    def came_at(self, position_ms: float) -> float:
        """When this position of `pcm` arrived, `time.monotonic()`, as if its piece came sample by sample, the last of
        them with the message. Raises IndexError beyond the end."""
        place = self._place(position_ms)
        return self.pieces[place].at - (self._ends[place] / 2 / self.rate_hz - position_ms / 1000)

    def _place(self, position_ms: float) -> int:
        return bisect_right(self._ends, round(position_ms * self.rate_hz / 1000) * 2)
