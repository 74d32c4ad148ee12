"""A LiveKit room. Importing this loads nothing of LiveKit's; opening a room does."""

from bridge.transports.livekit_room.room import LiveKitRoom
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.livekit_room.token import sign, sign_agent, sign_participant

__all__ = ["LiveKitRoom", "LiveKitSettings", "sign", "sign_agent", "sign_participant"]
