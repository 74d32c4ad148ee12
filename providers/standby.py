"""A connection dialled ahead of the session that it is for: see `providers.contract.Standby`.

Resolving the name, TCP, TLS and the upgrade take most of the time to a new session, and none of them needs the setup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from providers.contract import ModelSession, SessionStart
from providers.driver import ProtocolCore, dial_link, open_session, set_up
from providers.errors import ProviderUnavailable, SessionEnded, SetupTimeout
from providers.link import Link
from providers.settings import ConnectionSettings

__all__ = ["LinkStandby", "stand_by"]

_LOST_CODES = frozenset({None, 1000, 1001, 1005, 1006})
"""Ends that say nothing of the setup: the server had tired of waiting just as it was sent."""


async def stand_by(
    dial: Callable[[], Awaitable[Link]],
    core_for: Callable[[SessionStart], Awaitable[ProtocolCore]],
    connection: ConnectionSettings,
) -> LinkStandby:
    """Dial now, set up later. `core_for` makes the protocol of a session once its start is known.

    Raises as `open_session` does before the setup; nothing stays open behind an error or a cancellation.
    """
    return LinkStandby(await dial_link(dial, connection), dial, core_for, connection)


class LinkStandby:
    """A `Standby` over a link. No task: the link keeps itself alive, and one timer lets it go in time."""

    def __init__(
        self,
        link: Link,
        dial: Callable[[], Awaitable[Link]],
        core_for: Callable[[SessionStart], Awaitable[ProtocolCore]],
        connection: ConnectionSettings,
    ) -> None:
        self._link = link
        self._dial = dial
        self._core_for = core_for
        self._connection = connection
        self._spent = False
        # Also for a standby that was forgotten: it must not hold a socket for ever.
        self._expiry = asyncio.get_running_loop().call_later(connection.standby_s, link.finish)

    @property
    def alive(self) -> bool:
        # Nothing but pings was written, so that a link that takes nothing is one that has ended or is about to.
        return not self._spent and self._link.writable

    async def connect(self, start: SessionStart | None = None) -> ModelSession:
        """See `Standby.connect`."""
        self._must_be_unspent()
        start = start or SessionStart()
        core = await self._core_for(start)
        self._must_be_unspent()  # somebody may have been faster while the core was made
        waiting = self.alive
        self._spent = True
        self._expiry.cancel()
        if waiting:
            try:
                return await set_up(core, self._link, start.number, self._connection)
            except SetupTimeout:
                raise
            except ProviderUnavailable as lost:
                if lost.code not in _LOST_CODES:
                    raise
            core = await self._core_for(start)
        else:
            self._link.abort("waited too long")
            await self._link.wait_closed()
        return await open_session(core, self._dial, start, self._connection)

    async def close(self) -> None:
        """See `Standby.close`. Takes at most `close_timeout_s`."""
        if not self._spent:
            self._spent = True
            self._expiry.cancel()
            self._link.finish(1000)
            try:
                await self._link.wait_closed()
            except asyncio.CancelledError:
                self._link.abort("close() was cancelled")
                raise

    def _must_be_unspent(self) -> None:
        if self._spent:
            raise SessionEnded("this standby was used or closed: ask for another one")
