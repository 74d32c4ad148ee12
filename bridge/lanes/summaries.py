"""Keeps the summary of a long call up to date with the application's own words: in the control lane, ahead of the need.

A lost session is replaced at once; nobody waits for a summary then. What the application has not summarized by then is
told by our own digest.
"""

from __future__ import annotations

import asyncio
import logging

from bridge.conversation.ledger import Ledger
from bridge.conversation.summary import Summarize

__all__ = ["Summaries"]

log = logging.getLogger(__name__)


class Summaries:
    """One call's summarizer: one request at a time, each bounded in time. What fails goes into the digest, counted."""

    def __init__(self, name: str, ledger: Ledger, summarize: Summarize) -> None:
        self._name = name
        self._ledger = ledger
        self._summarize = summarize
        self._task: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()
        ledger.grown = self._grown.set
        ledger.summary.made_by_application = True

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task = group.create_task(self._run(), name=f"{self._name}:summaries")

    def stop(self) -> None:
        """The call is over."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        timeout_s = self._ledger.settings.summarize_timeout_s
        summary = self._ledger.summary
        task = asyncio.current_task()
        assert task is not None, "runs in a task of the group"
        while True:
            await self._grown.wait()
            self._grown.clear()
            while (work := summary.work()) is not None:
                limit = asyncio.timeout(timeout_s)
                try:
                    async with limit:
                        text = await self._summarize(work)
                    summary.done(text)
                except asyncio.CancelledError:
                    if task.cancelling():
                        raise
                    summary.failed()  # not we: something that it waited for was cancelled
                except (Exception, SystemExit):
                    # The application's code: whatever it raises, the digest takes its place and the call goes on.
                    summary.failed()
                    if limit.expired():
                        log.warning("summarize took too long call=%s timeout_s=%.1f", self._name, timeout_s)
                    else:
                        log.exception("summarize failed call=%s", self._name)
