"""Transcripts, the agent's state and activities to the room, in order, by tasks that never hold up the voice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from livekit import rtc

from bridge.core.words import Activity, AgentState, Caption, ParticipantId
from bridge.transports.activity_json import activity_json
from bridge.transports.livekit_room import activities, captions

__all__ = ["STATE_ATTRIBUTE", "TextWriter"]

STATE_ATTRIBUTE = "lk.agent.state"
_SEND_TIMEOUT_S = 5.0
_CONFIRMED_WITHIN_S = 0.25
"""A state is confirmed in a few milliseconds, or never: the SDK begins to wait for the server's answer after it has
asked (rust-sdks, `LocalParticipant::set_attributes`), misses a quick one (6 of 400 here), and waits 5 s for it. The
room must not be shown an old state meanwhile."""
_STATE_TRIES = 4
_ON_THE_WAY_S = 0.2
"""The SDK says that it has sent words when its data channel has them, and leaving takes them back: on a busy machine
the end of the last caption was lost in one goodbye of seven."""
_OPEN_SEGMENTS = 16
"""Agent segments that may be open at once. One more: the oldest is closed as final, counted."""

_log = logging.getLogger(__name__)


class TextWriter:
    """Sends captions in order, the newest state first, and activities beside them. Full: see `CaptionQueue` and
    `ActivityQueue`; nothing here waits.

    While no room is attached everything waits. A segment that was open when its room went is opened anew in the next,
    with all of its text; the state is told again.
    """

    def __init__(
        self,
        *,
        track_of: Callable[[ParticipantId | None], str],
        wants_legacy: Callable[[], bool],
    ) -> None:
        self.failed = 0
        self.forced_closes = 0
        self.states_unconfirmed = 0
        """Times that a state was sent and no answer came."""
        self._sent_at = float("-inf")
        self._room: rtc.Room | None = None
        self._there = asyncio.Event()
        self._track_of = track_of
        self._wants_legacy = wants_legacy
        self._queue = captions.CaptionQueue()
        self._activities = activities.ActivityQueue()
        self._texts = captions.SegmentTexts()
        self._open: dict[str, rtc.TextStreamWriter] = {}
        self._said: dict[str, str] = {}
        """Text of segments that are not final."""
        self._state: AgentState | None = None
        self._shown: AgentState | None = None
        self._more = asyncio.Event()
        self._new_activity = asyncio.Event()
        self._new_state = asyncio.Event()
        self._stopping = False

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    @property
    def dropped_activities(self) -> int:
        return self._activities.dropped

    def show_caption(self, caption: Caption) -> None:
        self._queue.put(caption)
        self._more.set()

    def show_state(self, state: AgentState) -> None:
        self._state = state
        self._new_state.set()

    def show_activity(self, activity: Activity) -> None:
        self._activities.put(activity)
        self._new_activity.set()

    def attach(self, room: rtc.Room) -> None:
        """Send to this room, joined."""
        if room is not self._room:
            self._open.clear()  # streams of the room before
        self._room = room
        self._state = self._state or self._shown
        self._there.set()
        self._new_state.set()

    def detach(self) -> None:
        """The room is away: keep what comes."""
        self._there.clear()

    def forget(self) -> None:
        """Let go of the room and of the call that owns us, so that all can be freed without the collector."""
        self._room = None
        self._open.clear()
        self._track_of = lambda _: ""
        self._wants_legacy = lambda: False

    def stop(self) -> None:
        """Let `run` send what waits, close open segments, and end."""
        self._stopping = True
        self._more.set()
        self._new_state.set()
        self._new_activity.set()

    async def run(self) -> None:
        """Send until stopped, or cancelled: then what waits is lost."""
        # A state is confirmed by the server, now and then after seconds; words must not wait for that.
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self._run_states(), name="livekit:states")
            lanes.create_task(self._run_captions(), name="livekit:captions")
            lanes.create_task(self._run_activities(), name="livekit:activities")

    async def _run_captions(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                await self._there.wait()
                caption = self._queue.get()
                if caption is not None and not await self._try(self._send(caption), "a transcript"):
                    if not self._there.is_set():
                        self._queue.put_back(caption)
            if self._stopping:
                break
        for segment_id in tuple(self._open):
            await self._try(self._close_segment(segment_id), "the end of a transcript")
        await asyncio.sleep(max(0.0, self._sent_at + _ON_THE_WAY_S - asyncio.get_running_loop().time()))

    async def _run_activities(self) -> None:
        while True:
            await self._new_activity.wait()
            self._new_activity.clear()
            while self._activities:
                await self._there.wait()
                activity = self._activities.get()
                if not await self._try(self._send_activity(activity), "an activity") and not self._there.is_set():
                    self._activities.put_back(activity)
            if self._stopping:
                break

    async def _send_activity(self, activity: Activity) -> None:
        await self._participant.send_text(activity_json(activity), topic=activities.TOPIC)

    async def _run_states(self) -> None:
        while True:
            await self._new_state.wait()
            self._new_state.clear()
            while self._state is not None:
                await self._there.wait()
                self._shown, self._state = self._state, None
                await self._send_state(self._shown)
            if self._stopping:
                break

    async def _send_state(self, state: AgentState) -> None:
        """Tell it, again while nobody confirms it, until there is a newer one."""
        for _ in range(_STATE_TRIES):
            try:
                async with asyncio.timeout(_CONFIRMED_WITHIN_S):
                    await self._participant.set_attributes({STATE_ATTRIBUTE: state.value})
                return
            except TimeoutError:
                self.states_unconfirmed += 1
                if self._state is not None:
                    return
            except Exception as error:  # as in `_try`
                self.failed += 1
                _log.warning("the state was not sent: %s", error)
                return
        self.failed += 1
        _log.warning("the state %s was sent %d times and never confirmed", state, _STATE_TRIES)

    @property
    def _participant(self) -> rtc.LocalParticipant:
        assert self._room is not None, "sends while a room is attached"
        return self._room.local_participant

    async def _try(self, sending: Awaitable[None], what: str) -> bool:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await sending
                self._sent_at = asyncio.get_running_loop().time()
                return True
        except TimeoutError:
            self.failed += 1
            _log.warning("%s was not sent in %g s", what, _SEND_TIMEOUT_S)
        except Exception as error:  # the SDK raises StreamError, RuntimeError or plain Exception while it reconnects
            self.failed += 1
            _log.warning("%s was not sent: %s", what, error)
        return False

    async def _send(self, caption: Caption) -> None:
        if self._wants_legacy():
            await self._send_legacy(caption)
        if caption.speaker is None:
            await self._send_piece(caption)
        else:
            await self._send_whole(caption, caption.speaker)

    async def _send_piece(self, caption: Caption) -> None:
        writer = self._open.get(caption.segment_id)
        said, text = self._said.get(caption.segment_id, ""), caption.text
        if writer is None:
            text = said + text  # nobody has the beginning of a stream that broke off
            if len(self._open) >= _OPEN_SEGMENTS:
                self.forced_closes += 1
                await self._close_segment(next(iter(self._open)))
            writer = await self._open_stream(caption, None)
            self._open[caption.segment_id] = writer
        try:
            if text:
                await writer.write(text)
        except BaseException:
            # A stream that failed once is over: the next piece opens another with the same segment id.
            self._open.pop(caption.segment_id, None)
            raise
        if caption.final:
            await self._close_segment(caption.segment_id)
            self._said.pop(caption.segment_id, None)
        else:
            self._remember(caption.segment_id, said + caption.text)

    def _remember(self, segment_id: str, text: str) -> None:
        self._said.pop(segment_id, None)
        if len(self._said) >= _OPEN_SEGMENTS:
            del self._said[next(iter(self._said))]
        self._said[segment_id] = text

    async def _send_whole(self, caption: Caption, speaker: ParticipantId) -> None:
        writer = await self._open_stream(caption, speaker)
        await writer.write(caption.text)
        await writer.aclose()

    async def _open_stream(self, caption: Caption, speaker: ParticipantId | None) -> rtc.TextStreamWriter:
        # The agent's stream is opened as interim and says that it is final when it is closed.
        final = caption.final and speaker is not None
        return await self._participant.stream_text(
            topic=captions.TOPIC,
            attributes=captions.stream_attributes(caption.segment_id, final, self._track_of(speaker)),
            sender_identity=speaker,
        )

    async def _close_segment(self, segment_id: str) -> None:
        writer = self._open.pop(segment_id, None)
        if writer is not None:
            await writer.aclose(attributes={captions.FINAL: "true"})

    async def _send_legacy(self, caption: Caption) -> None:
        segment = rtc.TranscriptionSegment(
            id=caption.segment_id,
            text=self._texts.add(caption),
            start_time=0,
            end_time=0,
            language="",
            final=caption.final,
        )
        await self._participant.publish_transcription(
            rtc.Transcription(
                participant_identity=caption.speaker or self._participant.identity,
                track_sid=self._track_of(caption.speaker),
                segments=[segment],
            )
        )
