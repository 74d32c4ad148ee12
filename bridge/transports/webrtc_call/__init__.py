"""A direct call. Importing this loads nothing of WebRTC; answering an offer does."""

from bridge.transports.webrtc_call.call import WebRtcCall
from bridge.transports.webrtc_call.settings import DirectCallSettings

__all__ = ["DirectCallSettings", "WebRtcCall"]
