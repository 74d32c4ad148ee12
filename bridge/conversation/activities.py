"""What a call shows of its workings: the progress of tool calls, and how soon each turn was answered."""

from __future__ import annotations

from bridge.conversation.timeline import SpeechEnded, Timelines
from bridge.core.commands import Command, ShowActivity
from bridge.core.words import ToolActivity, ToolAnswered, ToolState
from providers.contract import ToolCall, ToolCallCancelled

__all__ = ["Activities"]

_MOST_KNOWN = 256


class Activities:
    """Gets every event that the conversation gets, before it. Full (256 calls are known): the oldest is forgotten, and
    if it still runs, not shown to its end."""

    def __init__(self, speech_ended: SpeechEnded = lambda: None) -> None:
        self.timelines = Timelines(speech_ended)
        # By session and call id: the name and since when it runs; None once it has ended.
        self._calls: dict[tuple[int, str], tuple[str, float] | None] = {}

    def handle(self, event: object, now: float, *, ends_turns: bool) -> list[Command]:
        """What to show, in order. `ends_turns`: our own speech detection says when the user's turn is over."""
        shown: list[Command] = []
        timeline = self.timelines.handle(event, now, ends_turns=ends_turns)
        if timeline is not None:
            shown.append(ShowActivity(timeline))
        match event:
            case ToolCall(session=session, call_id=call_id, name=name):
                key = session, call_id or name
                if key not in self._calls or not (call_id or self._calls[key]):  # else a repetition, which runs nothing
                    self._calls.pop(key, None)
                    if len(self._calls) >= _MOST_KNOWN:
                        del self._calls[next(iter(self._calls))]
                    self._calls[key] = name, now
                    shown.append(ShowActivity(ToolActivity(call_id or name, name, ToolState.STARTED)))
            case ToolAnswered(call_id=call_id, name=name, error=error, session=session, told=told):
                ended = ToolState.FAILED if error or not told else ToolState.ANSWERED
                self._ended(session, call_id or name, ended, now, shown)
            case ToolCallCancelled(session=session, call_ids=call_ids):
                for call_id in call_ids:
                    self._ended(session, call_id, ToolState.CANCELLED, now, shown)
            case _:
                pass
        return shown

    def end(self, now: float) -> list[Command]:
        """The call is over: what still runs is stopped."""
        shown: list[Command] = []
        for session, call_id in self._calls:
            self._ended(session, call_id, ToolState.CANCELLED, now, shown)
        return shown

    def _ended(self, session: int, call_id: str, state: ToolState, now: float, shown: list[Command]) -> None:
        started = self._calls.get((session, call_id))
        if started is not None:
            self._calls[session, call_id] = None
            name, since = started
            shown.append(ShowActivity(ToolActivity(call_id, name, state, round((now - since) * 1000))))
