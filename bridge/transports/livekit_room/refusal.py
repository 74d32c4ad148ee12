"""From what the SDK says about a failed connection to a typed error that tells the operator what to change."""

from __future__ import annotations

from bridge.core.errors import RoomError, RoomRejected
from bridge.transports.livekit_room.settings import LiveKitSettings

__all__ = ["refusal"]


def refusal(message: str, settings: LiveKitSettings, credential: str) -> RoomError:
    """The typed error for what the SDK says about a failed connection.

    Args: message holds no token; credential names the variables that the token came from.
    """
    if "401" in message or "403" in message:
        if "permission" in message.lower():
            return RoomRejected(
                "the server refuses to let us in",
                field=credential,
                value="[token]",
                mend=f"sign the token with roomJoin for room {settings.room!r}",
            )
        return RoomRejected(
            "the server does not accept the token",
            field=credential,
            value="[token]",
            mend="check LIVEKIT_API_KEY and LIVEKIT_API_SECRET, and that the token has not expired",
        )
    if "404" in message:
        if "room" in message:
            return RoomRejected(
                "the room does not exist and the server creates none",
                field="livekit.room",
                value=settings.room,
                mend="create it first, or set room.auto_create on the server",
            )
        return RoomRejected(
            "no LiveKit server answers there",
            field="livekit.url",
            value=settings.url,
            mend="give the address of the server, without a path",
        )
    return RoomError(message, field="livekit.url", value=settings.url, mend="is livekit-server running and reachable?")
