"""What a session reports and survives is counted, and logged without flooding the log or quoting what was said."""

from __future__ import annotations

import logging
import time

import pytest

from bridge.lanes.reports import Reports
from providers.contract import ErrorReported, WarningReported


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_refusals_and_warnings_are_counted_apart_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports("test")
    reports.add(ErrorReported(3, "invalid_value", "Invalid value.", "item.id"), 1.0)
    reports.add(WarningReported(3, "history_cut", "40 lines of history were left out"), 1.0)
    assert (reports.stats.errors, reports.stats.warnings) == (1, 1)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the provider refused call=test session=3 code=invalid_value setting=item.id: Invalid value."),
        ("INFO", "the session warns call=test session=3 code=history_cut: 40 lines of history were left out"),
    ]


def test_a_report_that_comes_again_and_again_is_told_once_a_minute_with_the_number_of_those_between(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reports = Reports("test")
    for second in range(130):
        reports.add(WarningReported(1, "malformed_message", "no object"), 100.0 + second)
        reports.add(ErrorReported(1, "unknown_item", "no such item"), 100.0 + second)
    assert (reports.stats.errors, reports.stats.warnings) == (130, 130)
    warned = [record.getMessage() for record in caplog.records if "malformed" in record.getMessage()]
    assert len(warned) == 3 and len(caplog.records) == 6
    assert "untold" not in warned[0] and "untold_since_the_last=59: " in warned[1]


def test_codes_without_end_are_kept_within_bounds() -> None:
    reports = Reports("test")
    for number in range(1000):
        reports.add(WarningReported(1, f"code-{number}" + "x" * 1000, ""), 0.0)
    assert reports.stats.warnings == 1000
    assert len(reports._told) == 64


@pytest.mark.parametrize(
    ("message", "logged"),
    [
        ("Invalid value: 'my card number is 1234'. Try again.", "Invalid value: '...'. Try again."),
        ('"she\'s at home" was refused', '"..." was refused'),
        ("Invalid value: 'I don't know her'. Try again.", "Invalid value: '...'. Try again."),
        ("Invalid value: 'my card number is 1234", "Invalid value: '..."),
        ("Item 'item_1' of 'conversation' isn't known.", "Item 'item_1' of 'conversation' isn't known."),
        ("the model's call can't be read", "the model's call can't be read"),
        ("x" * 1000, "x" * 200),
    ],
)
def test_what_was_said_is_not_logged(message: str, logged: str, caplog: pytest.LogCaptureFixture) -> None:
    Reports("test").add(ErrorReported(1, "invalid_value", message), 0.0)
    assert caplog.records[0].getMessage().partition("code=invalid_value: ")[2] == logged


def test_a_long_message_that_quotes_without_end_is_read_in_no_time() -> None:
    began = time.process_time()
    Reports("test").add(ErrorReported(1, "invalid_value", "'" + "a word " * 20_000), 0.0)
    assert time.process_time() - began < 0.1
