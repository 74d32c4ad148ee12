"""Speech stays intelligible on a bad network, comes back after a cut, and its delay comes back too.

A network of our own, seeded: 20 ms and up to 40 ms more each way, 5 % lost, and a cut of two seconds in the middle.
With `BAD_NETWORK=all` every kind of line is told, aiortc alone and our connection alone too; `-s` shows the table.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.e2e.bad_lines import Opened, direct_call, openai_call, over, own_to_own, own_to_plain, plain_to_plain
from tests.e2e.bad_room import room_call
from tests.e2e.programme import BAD, HEAD, Report
from tests.fakes.tun_line import why_no_tun

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

_ALL = os.environ.get("BAD_NETWORK") == "all"
_INTELLIGIBLE = 0.6
_BACK_S = 3.0
_DELAY_MS = 40.0


async def _told(*lines: Opened) -> dict[str, Report]:
    """All at once, each with a network of its own."""
    ways = [way for told in await asyncio.gather(*(over(line, BAD) for line in lines)) for way in told.items()]
    print("\n" + HEAD, *(report.row() for _, report in ways), sep="\n")  # noqa: T201 - for the documentation
    return dict(ways)


def _holds(report: Report) -> None:
    assert report.likeness >= _INTELLIGIBLE, report
    assert report.back_s <= _BACK_S, report
    assert report.bad_again_ms - report.bad_ms <= _DELAY_MS, report


async def test_calls_over_webrtc_outlast_a_bad_network() -> None:
    """aiortc's own way of receiving goes along, to see what it would be like; nothing is asked of it."""
    for name, report in (await _told(plain_to_plain, direct_call, openai_call)).items():
        if not name.startswith("aiortc"):
            _holds(report)
            assert report.clean_again_ms <= _DELAY_MS, report


@pytest.mark.skipif(not _ALL, reason="the connection alone, without a call: only with BAD_NETWORK=all")
async def test_a_connection_of_ours_outlasts_a_bad_network() -> None:
    told = await _told(own_to_own, own_to_plain)
    for name in ("ours to ours", "ours to ours, back", "aiortc to ours"):
        _holds(told[name])


@pytest.mark.skipif(bool(why_no_tun()), reason=why_no_tun())
async def test_a_room_outlasts_a_bad_network_of_its_caller() -> None:
    """How soon the delay falls once the line is clean again is the client's own affair."""
    for report in (await _told(room_call)).values():
        _holds(report)
