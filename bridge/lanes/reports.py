"""What sessions report and survive: what a provider refused, and what was odd. Counted, and told in the log."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict

import msgspec

from providers.contract import ErrorReported, WarningReported

__all__ = ["ReportStats", "Reports"]

log = logging.getLogger(__name__)

_QUIET_S = 60.0
_KINDS = 64
_LONGEST_CODE = 80
_LONGEST_MESSAGE = 200
_QUOTED = re.compile(r"(?<!\w)(['\"])((?:(?!\1(?!\w)).)*)(\1|\Z)", re.DOTALL)
"""Up to a quotation mark that ends a word (an apostrophe does not), or to the end of a text that was cut."""


class ReportStats(msgspec.Struct):
    errors: int = 0
    """What the provider refused of what it was sent, and answers that it failed to make; the session went on."""
    warnings: int = 0
    """What was odd and survived: an unreadable message, history that was too long, a harmless refusal."""


class Reports:
    """Counts each report; logs one of a code at once, and the next of it a minute later, with the number of those
    between. At most 64 codes are kept in mind: beyond, the oldest is told anew."""

    def __init__(self, name: str) -> None:
        self.stats = ReportStats()
        self._name = name
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """By code: when it was logged, and how many were not since."""

    def add(self, report: ErrorReported | WarningReported, now: float) -> None:
        refused = isinstance(report, ErrorReported)
        if refused:
            self.stats.errors += 1
        else:
            self.stats.warnings += 1
        code = report.code[:_LONGEST_CODE]
        at, untold = self._told.get(code, (None, 0))
        if at is not None and now - at < _QUIET_S:
            self._told[code] = at, untold + 1
            return
        self._told[code] = now, 0
        self._told.move_to_end(code)
        if len(self._told) > _KINDS:
            self._told.popitem(last=False)
        setting = report.setting[:_LONGEST_CODE] if isinstance(report, ErrorReported) else ""
        log.log(
            logging.WARNING if refused else logging.INFO,
            "%s call=%s session=%d code=%s%s%s: %s",
            "the provider refused" if refused else "the session warns",
            self._name, report.session, code,
            f" setting={setting}" if setting else "",
            f" untold_since_the_last={untold}" if untold else "",
            _QUOTED.sub(_without_words, report.message)[:_LONGEST_MESSAGE],
        )  # fmt: skip


def _without_words(quoted: re.Match[str]) -> str:
    """A provider may quote what it refuses. Ids, fields and codes hold no space; what somebody said does."""
    mark, text, end = quoted.groups()
    return f"{mark}...{end}" if any(letter.isspace() for letter in text) else quoted[0]
