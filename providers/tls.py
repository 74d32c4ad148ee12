"""Which certificates we trust: the system's authorities and those of a file, read once."""

from __future__ import annotations

import asyncio
import os
import ssl
from functools import lru_cache

from providers.errors import SettingRefused

__all__ = ["client_context", "client_context_off_loop"]


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """For connections to a provider. Reading the system's authorities takes 10 to 30 ms the first time.

    Raises: SettingRefused for a file that holds no authorities.
    """
    return _load(ca_file, None if ca_file is None else _modified(ca_file))


async def client_context_off_loop(ca_file: str | None) -> ssl.SSLContext:
    """See `client_context`."""
    return await asyncio.to_thread(client_context, ca_file)


def _modified(ca_file: str) -> int | None:
    try:
        return os.stat(ca_file).st_mtime_ns
    except OSError:
        return None


@lru_cache(maxsize=8)
def _load(ca_file: str | None, modified_ns: int | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingRefused("connection.ca_file", ca_file, f"not a readable PEM file: {error}") from error
    return context
