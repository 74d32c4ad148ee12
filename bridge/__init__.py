"""roombridge: puts a realtime speech-to-speech model into a conversation.

The names below are the public ones; everything else may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.app import Process, make_model, make_room, make_stand_ins
    from bridge.config import Config, load
    from bridge.conversation.barge_in import BargeInPolicy
    from bridge.conversation.entries import Line, ToolUse, TranscriptLine
    from bridge.conversation.summary import Summarize, SummaryWork
    from bridge.core.commands import Command, FlushPlayout, RunTool, SendImage, ShowActivity, ShowCaption, ShowState
    from bridge.core.errors import BridgeError, ConfigError, ModelFailed, RoomError, RoomInUse, RoomRejected
    from bridge.core.tool import Tool, ToolError
    from bridge.core.words import AgentState, Caption, EndReason, ParticipantId, ToolActivity, TurnTimeline
    from bridge.facade import CallConfig, RoomBridge
    from bridge.serve import Serving
    from bridge.transports.contract import Transport
    from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings
    from bridge.transports.loopback import LoopbackRoom
    from bridge.transports.webrtc_call import DirectCallSettings, WebRtcCall
    from bridge.video.settings import VideoSettings

__all__ = [
    "AgentState",
    "BargeInPolicy",
    "BridgeError",
    "CallConfig",
    "Caption",
    "Command",
    "Config",
    "ConfigError",
    "DirectCallSettings",
    "EndReason",
    "FlushPlayout",
    "Line",
    "LiveKitRoom",
    "LiveKitSettings",
    "LoopbackRoom",
    "ModelFailed",
    "ParticipantId",
    "Process",
    "RoomBridge",
    "RoomError",
    "RoomInUse",
    "RoomRejected",
    "RunTool",
    "SendImage",
    "Serving",
    "ShowActivity",
    "ShowCaption",
    "ShowState",
    "Summarize",
    "SummaryWork",
    "Tool",
    "ToolActivity",
    "ToolError",
    "ToolUse",
    "TranscriptLine",
    "Transport",
    "TurnTimeline",
    "VideoSettings",
    "WebRtcCall",
    "load",
    "make_model",
    "make_room",
    "make_stand_ins",
]

_HOMES = {
    "bridge.app": "Process make_model make_room make_stand_ins",
    "bridge.config": "Config load",
    "bridge.conversation.barge_in": "BargeInPolicy",
    "bridge.conversation.entries": "Line ToolUse TranscriptLine",
    "bridge.conversation.summary": "Summarize SummaryWork",
    "bridge.core.commands": "Command FlushPlayout RunTool SendImage ShowActivity ShowCaption ShowState",
    "bridge.core.errors": "BridgeError ConfigError ModelFailed RoomError RoomInUse RoomRejected",
    "bridge.core.tool": "Tool ToolError",
    "bridge.core.words": "AgentState Caption EndReason ParticipantId ToolActivity TurnTimeline",
    "bridge.facade": "CallConfig RoomBridge",
    "bridge.serve": "Serving",
    "bridge.transports.contract": "Transport",
    "bridge.transports.livekit_room": "LiveKitRoom LiveKitSettings",
    "bridge.transports.loopback": "LoopbackRoom",
    "bridge.video.settings": "VideoSettings",
    "bridge.transports.webrtc_call": "DirectCallSettings WebRtcCall",
}
"""Where each name lives. It is loaded when it is first asked for, so that importing this package costs nothing."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
