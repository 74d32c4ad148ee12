"""The application's summary: made ahead of the need, never waited for, replaced by the digest where it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from bridge.conversation.entries import Line
from bridge.conversation.ledger import Ledger
from bridge.conversation.memory_settings import MemorySettings
from bridge.conversation.stats import ConversationStats
from bridge.conversation.summary import SummaryWork
from bridge.core.words import ParticipantId
from bridge.lanes.summaries import Summaries


class Call:
    """A ledger of which all but the last turn is summarized by `summarize`."""

    def __init__(self, summarize: Callable[[SummaryWork], Awaitable[str]]) -> None:
        self.stats = ConversationStats()
        self.ledger = Ledger(1000, self.stats, MemorySettings(turns=1, summarize_timeout_s=0.05))
        self.summaries = Summaries("call", self.ledger, summarize)
        self._said = 0

    def goes_on(self, lines: int) -> None:
        for _ in range(lines):
            self._said += 1
            self.ledger.said(Line(ParticipantId("ann"), f"number {self._said}", float(self._said), None))

    async def runs(self, until: Callable[[], object]) -> None:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            self.summaries.start(group)
            while not until():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
                await asyncio.sleep(0.001)
            self.summaries.stop()


async def test_the_application_summarizes_what_left_the_last_turns() -> None:
    asked: list[SummaryWork] = []

    async def summarize(work: SummaryWork) -> str:
        asked.append(work)
        return f"{work.summary}{len(work.lines)} numbers. "

    call = Call(summarize)
    call.goes_on(9)
    await call.runs(lambda: call.stats.summaries == 1)
    call.goes_on(8)
    await call.runs(lambda: call.stats.summaries == 2)
    assert call.ledger.summary.text(2000) == "8 numbers.8 numbers."
    assert asked[0].lines[0] == "ann: number 1" and asked[1].summary == "8 numbers."


async def test_one_that_takes_too_long_is_replaced_by_the_digest(caplog: pytest.LogCaptureFixture) -> None:
    async def summarize(work: SummaryWork) -> str:
        await asyncio.sleep(60)
        return ""

    call = Call(summarize)
    call.goes_on(9)
    await call.runs(lambda: call.stats.summaries_failed == 1)
    assert call.ledger.summary.text(2000).splitlines() == [f"ann: number {n}" for n in range(1, 9)]
    assert "summarize took too long call=call" in caplog.text


@pytest.mark.parametrize("problem", [RuntimeError("no"), asyncio.CancelledError(), SystemExit(1)], ids=repr)
async def test_whatever_the_application_raises_the_call_goes_on(
    problem: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def summarize(work: SummaryWork) -> str:
        if not call.stats.summaries_failed:
            raise problem
        return "better"

    call = Call(summarize)
    call.goes_on(9)
    with caplog.at_level(logging.CRITICAL):
        await call.runs(lambda: call.stats.summaries_failed == 1)
        call.goes_on(8)
        await call.runs(lambda: call.stats.summaries == 1)
    assert call.ledger.summary.text(2000) == "better"


async def test_a_result_that_is_no_text_counts_as_none(caplog: pytest.LogCaptureFixture) -> None:
    async def summarize(work: SummaryWork) -> str:
        return 4  # type: ignore[return-value]

    call = Call(summarize)
    call.goes_on(9)
    await call.runs(lambda: call.stats.summaries_failed == 1)
    assert call.ledger.summary.text(2000).startswith("ann: number 1")
