"""A call straight from a browser: one person, one connection, no media server. Light until an offer is answered."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bridge.core.budget import Budget
from bridge.core.errors import BridgeError, ModelFailed, RoomError, RoomInUse
from bridge.core.words import (
    Activity,
    AgentState,
    AudioMuted,
    AudioStarted,
    AudioUnmuted,
    Caption,
    EarlyAudio,
    EndReason,
    InterruptRequested,
    Participant,
    ParticipantId,
    ParticipantJoined,
    ParticipantLeft,
    RoomEnded,
    RoomEvent,
    TextReceived,
    VideoOffered,
    VideoSource,
    VideoWithdrawn,
    VoiceHeard,
)
from bridge.transports.activity_json import activity_json
from bridge.transports.contract import TransportCapabilities, TransportListener
from bridge.transports.webrtc_call import messages
from bridge.transports.webrtc_call.frame import AvFrame
from bridge.transports.webrtc_call.settings import DirectCallSettings
from bridge.video.picture import RawFrame
from providers.signal.formats import PCM16_24K
from providers.webrtc.settings import PeerSettings, ResolvedIceServer

if TYPE_CHECKING:
    from providers.webrtc.peer import Peer

__all__ = ["WebRtcCall", "check_offer"]

_TAIL_MS = 250
"""From our packets to a loudspeaker: network, and a browser's jitter buffer that has seen some loss."""
_GOODBYE_S = 0.1
"""For the last message to leave: closing the channel takes back what is still in it."""
_EARLY_S = 5.0
_EARLY_EVENTS = 64
_COMPLAIN_EVERY_S = 1.0
_HEAVY = ("providers.webrtc.seam", "providers.webrtc.opus")
_TRACK = "direct"
_VIDEO = "direct-video"
_FRESH_S = 3.0
"""A shared screen on which nothing moves is sent once a second or so. Longer ago: the camera is off."""


def check_offer(offer_sdp: str) -> None:
    """Raises ValueError for an offer that no call can be made of. Cheap: nothing is opened or loaded."""
    from providers.webrtc import sdp

    sdp.parse(offer_sdp, is_answer=False)


class WebRtcCall:
    """One caller. `answer` his offer, then give this to a `RoomBridge` as its room. One object is one call.

    Bounded: speech that waits to be sent (`queue_ms`, the oldest goes), messages that wait for the data channel or in
    it (new ones go), what is heard and told before `open` (5 s, the oldest goes; 64 events, new ones go), the caller's
    messages (`messages_per_s`); all counted.
    """

    def __init__(
        self,
        settings: DirectCallSettings,
        *,
        identity: str,
        name: str = "",
        call: str = "direct",
        provider: str = "",
        model: str = "",
        ice_servers: Sequence[ResolvedIceServer] = (),
        video: bool = False,
    ) -> None:
        """Args: identity and name are the caller's; call, provider and model are told to him in `hello`. Without video
        his is refused in the answer, and nothing of it is received."""
        self.settings = settings
        self.identity = ParticipantId(identity)
        self._name = name
        self._call = call
        self._provider, self._model = provider, model
        self._servers = tuple(ice_servers)
        self._peer: Peer | None = None
        self._listener: TransportListener | None = None
        self._opened = False
        self._closing: asyncio.Event | None = None
        self._connected: asyncio.Future[None] | None = None
        self._ended = False
        self._because = ""
        self._muted = False
        self._channel_open = False
        self._early: list[RoomEvent] = []
        self._early_audio = bytearray()
        self._shows = VideoSource.CAMERA
        self._watched = False
        self._budget = Budget(settings.messages_per_s)
        self._complained_at = float("-inf")
        self._refused_messages = 0
        self._bad_messages = 0
        self._chat_cut = 0
        self._chat_refused = 0
        self._early_cut = 0
        self._early_refused = 0
        self._last_counters: dict[str, int] = {}
        self._capabilities = TransportCapabilities(
            name="webrtc",
            tells_hearers=True,
            tail_ms=_TAIL_MS,
            captions=settings.captions,
            states=settings.states,
            activities=settings.activities,
            video=video,
        )

    def __repr__(self) -> str:
        return f"WebRtcCall({self._call!r})"

    @property
    def capabilities(self) -> TransportCapabilities:
        return self._capabilities

    # ------------------------------------------------------------------------------------------------------- life

    async def answer(self, offer_sdp: str) -> str:
        """Our answer to this offer, complete with addresses; connecting begins.

        Raises ValueError for an offer that no call can be made of, OSError where there is no address to listen on.
        """
        assert self._peer is None, "a call answers one offer"
        for name in _HEAVY:
            if name not in sys.modules:
                # aiortc and the codecs take half a second to import: other calls of this loop must not hear it.
                await asyncio.to_thread(importlib.import_module, name)
        from providers.webrtc.peer import Peer

        settings = self.settings
        self._connected = asyncio.get_running_loop().create_future()
        self._peer = Peer(
            self,
            PeerSettings(
                send_rate_hz=PCM16_24K.rate_hz,
                receive_rate_hz=PCM16_24K.rate_hz,
                bitrate_bps=settings.bitrate_bps,
                jitter=settings.jitter,
                send_queue_ms=settings.queue_ms,
                max_message_bytes=messages.LONGEST_MESSAGE,
                connect_timeout_s=settings.connect_timeout_s,
                disconnected_timeout_s=settings.disconnected_timeout_s,
                addresses=settings.addresses,
                video=self._capabilities.video,
            ),
            self._servers,
            name=self._call,
        )
        self._send(
            messages.hello_message(
                call=self._call,
                provider=self._provider,
                model=self._model,
                identity=self.identity,
                video=self._capabilities.video,
            )
        )
        return await self._peer.answer(offer_sdp)

    async def open(self, listener: TransportListener) -> None:
        """Wait until the caller's media flows, within `connect_timeout_s`. Events may come before it returns.

        Raises: `RoomError` when he does not come.
        """
        if self._opened:
            raise RoomInUse("a WebRtcCall serves one call: make a new one")
        self._opened = True
        connected = self._connected
        if connected is None:
            raise RoomError("nobody has called: answer an offer first")
        self._listener = listener
        for event in self._early:
            listener.on_event(event)
        self._early.clear()
        if self._early_audio:
            listener.on_event(EarlyAudio(self.identity, bytes(self._early_audio)))
            self._early_audio.clear()
        timeout_s = self.settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(connected)
        except TimeoutError:
            raise RoomError(
                f"the caller did not come within {timeout_s:g} s",
                field="webrtc.ice_servers",
                value=[url for server in self.settings.ice_servers for url in server.urls],
                mend="is this machine's UDP reachable from there? If not, name a TURN server",
            ) from None
        except ConnectionError as error:
            raise RoomError(f"the caller did not come: {error}") from None

    async def close(self) -> None:
        """Say goodbye and release everything, within about two seconds. Safe to call twice, and from two tasks."""
        if self._closing is not None:
            await self._closing.wait()
            return
        self._closing = asyncio.Event()
        try:
            peer = self._peer
            if peer is not None:
                self._say_goodbye()
                self._ended = True  # nothing is told from here on
                if self._channel_open:
                    await asyncio.sleep(_GOODBYE_S)
                await peer.close()
                # Whoever keeps this object for its counters keeps no sockets and codecs with it.
                self._last_counters = self.counters()
        finally:
            self._peer = self._listener = None
            self._closing.set()

    def hang_up(self) -> None:
        """The caller is done, as he has said by another way than his connection."""
        self._leave(EndReason.PARTICIPANT_LEFT, "hung up")

    def ends_because(self, why: EndReason | BridgeError) -> None:
        """What `close` will tell the caller. An error's own words stay here: they are the operator's."""
        if isinstance(why, EndReason):
            self._because = why.value
            return
        failed = isinstance(why, ModelFailed)
        self._because = EndReason.PROVIDER_FAILED.value if failed else "failed"
        words = "the model could not be reached, or gave up" if failed else "the call broke off"
        self._send(messages.error_message("model_failed" if failed else "call_failed", words))

    # ------------------------------------------------------------------------------------------------------- down

    def play(self, audio: bytes) -> None:
        if self._peer is not None:
            self._peer.send_audio(audio)

    def flush(self) -> None:
        if self._peer is not None:
            self._peer.flush_audio()

    def queued_ms(self, now: float) -> float:
        return self._peer.queued_ms(now) if self._peer is not None else 0.0

    def show_caption(self, caption: Caption) -> None:
        if self.settings.captions:
            self._send(messages.caption_message(caption))

    def show_state(self, state: AgentState) -> None:
        if self.settings.states:
            self._send(messages.state_message(state))

    def show_activity(self, activity: Activity) -> None:
        if self.settings.activities:
            self._send(activity_json(activity))

    def look_at(self, track_id: str | None) -> None:
        self._watched = track_id == _VIDEO
        if self._peer is not None:
            self._peer.take_video(0.0)  # what is there is of the time before
            self._peer.watch_video(self._watched)

    def take_frame(self) -> RawFrame | None:
        frame = self._peer.take_video(_FRESH_S) if self._peer is not None and self._watched else None
        return None if frame is None else AvFrame(frame)

    def counters(self) -> dict[str, int]:
        peer = self._peer
        if peer is None:
            return self._last_counters
        stats = peer.stats
        jitter = stats.jitter
        return {
            "voice_dropped_ms": stats.dropped_audio_ms,
            "voice_skipped_packets": stats.skipped_packets,
            "voice_restarts": stats.schedule_restarts,
            "messages_dropped": stats.dropped_messages,
            "messages_refused": stats.refused_messages + self._refused_messages,
            "messages_bad": self._bad_messages,
            "chat_cut": self._chat_cut,
            "chat_refused": self._chat_refused,
            "early_audio_cut_ms": self._early_cut,
            "early_events_refused": self._early_refused,
            "packets_received": stats.packets_received,
            "packets_bad": stats.bad_packets,
            "video_packets_dropped": stats.dropped_video_packets,
            "packets_lost": jitter.lost,
            "packets_late": jitter.late,
            "concealed_ms": int(jitter.concealed_ms),
        }

    def _send(self, message: str) -> None:
        if self._peer is not None and not self._ended:
            self._peer.send_message(message)

    # --------------------------------------------------------------------------------- up: told by the connection

    def peer_connected(self) -> None:
        """See `providers.webrtc.peer.PeerUser`."""
        assert self._connected is not None, "made with the peer"
        if not self._connected.done():
            self._connected.set_result(None)
        self._tell(ParticipantJoined(Participant(self.identity, self._name)))
        self._tell(AudioStarted(self.identity, _TRACK))
        self._tell(VoiceHeard())

    def channel_open(self) -> None:
        self._channel_open = True

    def audio_received(self, pcm: bytes, now: float) -> None:
        if self._muted or self._ended:
            return  # the microphone may be open all the same
        if self._listener is not None:
            self._listener.on_audio(self.identity, pcm, now)
            return
        self._early_audio += pcm
        over = len(self._early_audio) - PCM16_24K.size(int(_EARLY_S * 1000))
        if over > 0:
            del self._early_audio[:over]
            self._early_cut += int(PCM16_24K.duration_ms(over))

    def message_received(self, message: str | bytes) -> None:
        now = asyncio.get_running_loop().time()
        if self._ended or not self._budget.take(now):
            self._refused_messages += 1
            return
        try:
            self._obey(messages.decode(message))
        except messages.BadMessage as bad:
            self._bad_messages += 1
            if now - self._complained_at >= _COMPLAIN_EVERY_S:
                self._complained_at = now
                self._send(messages.error_message(bad.code, bad.message))

    def video_track(self, track: Any) -> None:
        assert self._peer is not None, "it tells us"
        self._peer.watch_video(self._watched)
        self._tell(VideoOffered(self.identity, self._shows, _VIDEO))

    def peer_closed(self, reason: str) -> None:
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(ConnectionError(reason))
            self._connected.exception()  # nobody may be waiting
        self._channel_open = False
        if reason.startswith("ice"):
            self._leave(EndReason.DISCONNECTED, reason)
        else:
            self._leave(EndReason.PARTICIPANT_LEFT, reason)

    # ----------------------------------------------------------------------------------------------------- inside

    def _obey(self, message: messages.ClientMessage) -> None:
        match message:
            case messages.Text(text):
                self._typed(text)
            case messages.Interrupt():
                self._tell(InterruptRequested())
            case messages.Mute(muted):
                if muted is not self._muted:
                    self._muted = muted
                    self._tell(AudioMuted(self.identity) if muted else AudioUnmuted(self.identity))
            case messages.Video(source):
                self._show(source)
            case messages.HangUp():
                self.hang_up()

    def _show(self, source: str | None) -> None:
        if not self._capabilities.video:
            return
        if source is None:
            self._tell(VideoWithdrawn(_VIDEO))
        else:
            self._shows = VideoSource(source)
            self._tell(VideoOffered(self.identity, self._shows, _VIDEO))

    def _typed(self, text: str) -> None:
        if not self.settings.chat:
            self._chat_refused += 1
            return
        if len(text) > self.settings.chat_limit:
            text = text[: self.settings.chat_limit]
            self._chat_cut += 1
        if text.strip():
            self._tell(TextReceived(self.identity, text))

    def _tell(self, event: RoomEvent) -> None:
        if self._ended:
            return
        if self._listener is not None:
            self._listener.on_event(event)
        elif len(self._early) < _EARLY_EVENTS:
            self._early.append(event)
        else:
            self._early_refused += 1

    def _leave(self, reason: EndReason, detail: str) -> None:
        """The caller has gone. Told once."""
        if not self._ended:
            self._because = self._because or reason.value
            self._tell(ParticipantLeft(self.identity, detail))
            self._tell(RoomEnded(reason, detail))
            self._say_goodbye()
            self._ended = True

    def _say_goodbye(self) -> None:
        """The last words of the call have been told by now: this comes behind them."""
        if self._channel_open:
            self._send(messages.ended_message(self._because or "closed"))
