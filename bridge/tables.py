"""Answers for people, in the width of their terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.diagnosis import Diagnosis

__all__ = ["show_diagnosis", "show_providers"]

_COLOURS = {"ok": "green", "wrong": "red", "unreachable": "red", "skipped": "yellow"}


def show_diagnosis(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """One line for each finding, then what to mend."""
    console = console or Console(highlight=False, soft_wrap=True)
    for finding in diagnosis.findings:
        colour = _COLOURS[finding.state]
        console.print(f"[{colour}]{finding.state:<11}[/] {finding.what}: {escape(finding.detail)}")
    for problem in diagnosis.problems:
        console.print(f"[red]{'wrong':<11}[/] {escape(str(problem))}")
    if diagnosis.exit_code == 0:
        console.print("a call could start")


def show_providers(told: list[dict[str, Any]], console: Console | None = None) -> None:
    """One column for each provider."""
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for one in told:
        table.add_column(one["provider"], overflow="fold")
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "": lambda one: one["title"],
        "model": lambda one: one["model"],
        "hears": lambda one: ", ".join(one["input"]),
        "speaks": lambda one: one["output"],
        "images": lambda one: _yes(one["video"]),
        "tools": lambda one: "yes, also while it speaks" if one["async_tools"] else _yes(one["tools"]),
        "detects turns": lambda one: one["turns"],
        "forgets the unheard": lambda one: {"client": "when told", "server": "by itself"}.get(one["truncation"], "no"),
        "resumes a session": lambda one: _yes(one["resumption"]),
        "changes in a session": lambda one: ", ".join(one["updates_in_place"]) or "nothing",
        "longest session": lambda one: f"{one['max_session_s'] / 60:.0f} min" if one["max_session_s"] else "no limit",
        "voices": lambda one: ", ".join(one["voices"]) or "any",
        "emulator": lambda one: f"roombridge emulate {one['provider']}" if one["emulated"] else "needs none",
        "key": _key,
    }
    for label, cell in rows.items():
        table.add_row(label, *(escape(cell(one)) for one in told))
    console.print(table)


def _yes(does: bool) -> str:
    return "yes" if does else "no"


def _key(one: dict[str, Any]) -> str:
    if not one["keys"]:
        return "needs none"
    return "set" if one["key_present"] else f"set {' or '.join(one['keys'])}"
