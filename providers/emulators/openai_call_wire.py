"""One emulated call over WebRTC in OpenAI's words: sound goes by the track, and the service knows what was heard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from providers.emulators.openai_items import StoredItem
from providers.emulators.openai_response import Play, Response
from providers.emulators.openai_wire import OpenAIWire
from providers.emulators.playback import Playback, Played, Started, Stopped
from providers.emulators.wire import CallOffer, Output, UpgradeRequest, VendorWire
from providers.scripted.acts import Act, SpeechStarted
from providers.scripted.faults import TimedFault
from providers.scripted.scenario import Scenario

__all__ = ["OpenAICallWire", "OpenAISidebandWire"]

_LOOK_S = 0.01
"""How often it is looked whether a fault is due in the middle of what plays."""


class OpenAICallWire(OpenAIWire):
    """As `OpenAIWire`, but for what is different in a call: speech is played in real time out of a buffer of the
    service's, `output_audio_buffer.*` tell of it, and an interrupted item is truncated where the playback was.

    The session is the request's. If that sets anything up, the mind starts with `session.created`, which comes
    `setup_delay_ms` after the data channel opened, and what the client says before waits. If it only names the model,
    `session.created` comes at once, and the client's first event sets the session up, as over a WebSocket.
    """

    def __init__(
        self,
        scenario: Scenario,
        request: UpgradeRequest,
        number: int,
        split_ms: int | None = None,
        calls: dict[str, OpenAICallWire] | None = None,
    ) -> None:
        """Args: calls that run, by id: it is one of them until it is closed."""
        assert isinstance(request.call, CallOffer), "a call was asked for"
        super().__init__(scenario, request, number, split_ms, model=str(request.call.session["model"]))
        self.call_id = f"rtc_{self._mark}"
        self.ready = False
        """`session.created` was sent."""
        self.appends = 0
        """How often the client sent `input_audio_buffer.append`, which it should not in a call: it mixes."""
        self.playback = Playback()
        self._apply(request.call.session)
        self._is_set_up = bool(request.call.session.keys() - {"type", "model"})
        self._pump_at: float | None = None
        self._barged_in = False
        self._in_mid_word: list[tuple[TimedFault, str]] = []
        """Faults that wait until so much of a response has been heard."""
        self._held = []  # until `session.created` was sent
        self._calls = {} if calls is None else calls
        self._calls[self.call_id] = self

    @property
    def unheard_ms(self) -> int:
        return self.playback.dropped_ms

    # ------------------------------------------------------------------------------------------------------ the client

    def on_open(self) -> None:
        if self._is_set_up:
            self.later(self.scenario.session.setup_delay_ms / 1000, self._begin)
        else:
            self._begin()

    def on_close(self, code: int, reason: str) -> None:
        self._calls.pop(self.call_id, None)

    def introduction(self) -> dict[str, Any]:
        """`session.created`, for whoever joins."""
        return self._event("session.created", session=self.session.show())

    def _begin(self) -> None:
        held, self._held = self._held or [], None
        self.ready = True
        self.send(self.introduction(), "session.created")
        if self._is_set_up:
            self._start()
        for message in held:
            self.on_message(message)

    def on_audio(self, pcm: bytes) -> None:
        if self.ready:
            self._hear(pcm)

    def _append(self, event: dict[str, Any]) -> None:
        self.appends += 1
        super()._append(event)

    def _hear(self, pcm: bytes) -> None:
        super()._hear(pcm)
        if self._barged_in:
            # After the response was cancelled, if one was still being generated.
            self._barged_in = False
            self._hush()

    def _clear_output(self, event: dict[str, Any]) -> None:
        self._hush()

    # --------------------------------------------------------------------------------------------------------- playback

    def render(self, act: Act) -> None:
        super().render(act)
        if isinstance(act, SpeechStarted):
            self._barged_in = self.mind.barge_in

    def _player(self, response_id: str) -> Play:
        return partial(self._play, response_id)

    def _play(self, response_id: str, item: StoredItem, pcm: bytes) -> None:
        self.playback.add(response_id, item, pcm)
        self._pump_at = self.now

    def _ended(self, response: Response) -> None:
        self.playback.end(response.id)
        if self.playback.holds(response.id):
            self._pump_at = self.now  # the silence after it is watched when it has been heard
        else:
            self._watch_silence(0)

    def _hush(self) -> None:
        """What plays stops, and what was not heard of it leaves the conversation."""
        cleared = self.playback.clear(self.played_ms(self.now))
        if cleared is None:
            return
        self.hush()
        self._pump_at = self.now
        if cleared.response_id is not None:
            self._say("output_audio_buffer.cleared", response_id=cleared.response_id)
        forgotten: set[int] = set()
        for item, heard_ms in cleared.cut:
            if item.deleted:
                continue
            self.conversation.truncate(item.id, heard_ms)
            if item.reply is not None and item.reply not in forgotten:
                forgotten.add(item.reply)  # the first item that was cut says how far the reply was heard
                self.mind.truncate(item.reply, item.reply_from_ms + heard_ms)
            self._say("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=heard_ms)

    def deadline(self) -> float | None:
        own = super().deadline()
        if self.hung_up or self._pump_at is None:
            return own
        return self._pump_at if own is None else min(own, self._pump_at)

    def handle_timeout(self, now: float) -> list[Output]:
        output = super().handle_timeout(now)
        if self._pump_at is not None and self._pump_at <= now:
            self._pump()
        return output + self._take()

    def _pump(self) -> None:
        sent_ms = self.played_ms(self.now)
        for step in self.playback.due(sent_ms):
            match step:
                case Started():
                    self._say("output_audio_buffer.started", response_id=step.response_id)
                case Played():
                    self.play(step.pcm)
                case Stopped():
                    self._say("output_audio_buffer.stopped", response_id=step.response_id)
                    self._watch_silence(0)
        waiting, self._in_mid_word = self._in_mid_word, []
        for fault, response_id in waiting:
            heard_ms = self.playback.heard_ms(response_id, sent_ms)
            if heard_ms is None or heard_ms >= fault.speech_ms:
                super()._suffer(fault)
            else:
                self._in_mid_word.append((fault, response_id))
        wait_s = self.playback.wait_s(sent_ms)
        if self._in_mid_word:
            wait_s = _LOOK_S if wait_s is None else min(_LOOK_S, wait_s)
        self._pump_at = None if wait_s is None else self.now + wait_s

    def _suffer(self, fault: TimedFault) -> None:
        """What strikes in the middle of a reply does so when the client has got that far, not the generation."""
        if fault.reply is not None and fault.speech_ms and self._response is not None:
            self._in_mid_word.append((fault, self._response.id))
            self._pump_at = self.now
        else:
            super()._suffer(fault)


class OpenAISidebandWire(VendorWire):
    """One who joined a call: it is sent every event of the call from here on, and its own events are the call's.

    It begins with `session.created`, at once if the call has one. That the service does so is not documented.
    """

    def __init__(self, call: OpenAICallWire, request: UpgradeRequest, deliver: Callable[[str | bytes], None]) -> None:
        super().__init__(Scenario(), request, call.number)
        self.joins = True
        self._call = call
        self._deliver = deliver

    def on_open(self) -> None:
        if self._call.ready:
            self.send(self._call.introduction(), "session.created")

    def on_message(self, message: str | bytes) -> None:
        self._deliver(message)

    def render(self, act: Act) -> None:
        raise AssertionError("there is no mind behind this connection but the call's")
