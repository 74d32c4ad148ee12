"""The fast lane: 20 ms frames up, speech down, barge-in. Synchronous; it waits for nothing and nobody.

Three doors lead in, each with the time: frames and events of the room, events of the leading session, and the beat.
What has to wait (tools, opening sessions, ending the call) is handed to the control lane by `fast_ports.ControlPort`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from bridge.audio.convert import Convert
from bridge.audio.mix import Mixer
from bridge.audio.pace import PacedSink
from bridge.audio.playout import Playout
from bridge.conversation.activities import Activities
from bridge.conversation.barge_in import BargeInPolicy
from bridge.conversation.conversation import Conversation, ConversationEvent
from bridge.conversation.turns import Floor
from bridge.core.commands import Command, FinishSpeech, FlushPlayout, Respond, SendText
from bridge.core.words import (
    AudioEnded,
    AudioMuted,
    AudioStarted,
    AudioUnmuted,
    EarlyAudio,
    InterruptRequested,
    ParticipantId,
    ParticipantLeft,
    PlayoutEvent,
    PlayoutFlushed,
    RoomEvent,
    RoomReconnected,
    RoomReconnecting,
    StillHeard,
    ToolAnswered,
    VideoOffered,
    VideoWithdrawn,
    VoiceHeard,
)
from bridge.lanes.absence import Absence
from bridge.lanes.deeds import Deeds
from bridge.lanes.drain import Drain
from bridge.lanes.fast_ports import ControlPort, FastStats, Told
from bridge.lanes.model_orders import ModelOrders, stalled
from bridge.lanes.mute_watch import MuteWatch
from bridge.sessions.feed import SessionFeed
from bridge.sessions.hearing import Hearing
from bridge.sessions.last_speech import LastSpeech
from bridge.sessions.speech_watch import SpeechWatch
from bridge.sessions.tape import Tape
from bridge.sessions.thread import Loose
from bridge.transports.contract import Transport
from bridge.video.watching import Watching
from providers.contract import (
    Closed,
    ErrorReported,
    GenerationComplete,
    GoAway,
    ModelSession,
    ReplyStarted,
    ResumptionUpdate,
    SessionEvent,
    SessionReady,
    SpeechChunk,
    TextChunk,
    ToolCall,
    TurnComplete,
    TurnDetector,
    WarningReported,
)
from providers.signal.vad import EnergyVad

__all__ = ["FastLane"]


class FastLane:
    """One call's audio path and decisions. All methods return at once and are called in the event loop."""

    def __init__(
        self,
        *,
        room: Transport,
        mixer: Mixer,
        playout: Playout,
        paced: PacedSink | None = None,
        conversation: Conversation,
        tape: Tape,
        decode: Convert | None = None,
        make_vad: Callable[[], EnergyVad],
        listens_itself: bool,
        frame_bytes: int,
        control: ControlPort,
        watching: Watching | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.stats = FastStats()
        self._mixer = mixer
        self._playout = playout
        self._paced = paced
        self._decode = decode
        self._conversation = conversation
        self.hearing = Hearing(tape)
        self.speech = SpeechWatch(make_vad, self.hearing, always=listens_itself)
        self.last_speech = LastSpeech(tape)
        self.activities = Activities(self.last_speech)
        self._watching = watching or Watching()
        self._frame_bytes = frame_bytes
        self._control = control
        self._clock = clock
        self.absence = Absence(tells_hearers=room.capabilities.tells_hearers)
        self._rests_at = float("-inf")  # a recording's owner may be heard only later
        self._feeds: dict[int, SessionFeed] = {}
        self._leader: SessionFeed | None = None
        self.orders = ModelOrders(control.wake, stalled_after_s=conversation.settings.answers.stalled_after_s)
        self._deeds = Deeds(room, self.orders, control)
        self._mute = MuteWatch(self.hearing, conversation.settings.answers.mute_after_s)
        self._spoken_at = float("-inf")
        self._listens = True
        self._dozes = False
        self.room_open = True
        """False while the room is being joined: speech waits, for what is played then is lost."""
        self._drain = Drain(conversation, self.stats)

    # ------------------------------------------------------------------------------------------ doors of the room

    def on_audio(self, participant: ParticipantId, pcm: bytes, now: float) -> None:
        """See `TransportListener.on_audio`."""
        self.stats.frames_in += 1
        if self._listens:
            if self._decode is not None:
                pcm = self._decode(pcm)
            for frame in self._mixer.push(participant, pcm, now):
                self._hear(frame, now)

    def on_event(self, event: RoomEvent) -> None:
        """See `TransportListener.on_event`."""
        now = self._now()
        match event:
            case AudioStarted(participant=participant) | AudioUnmuted(participant=participant):
                self._mixer.add(participant)
            case AudioEnded(participant=participant) | ParticipantLeft(participant=participant):
                self._mixer.remove(participant)
            case AudioMuted(participant=participant):
                self._mixer.remove(participant)
            case VideoOffered() | VideoWithdrawn():
                self._watching.handle(event)
            case EarlyAudio(pcm=pcm):
                self._hear_early(pcm, now)
            case RoomReconnecting():
                self.absence.begins(now)
                self._playout.suspend(now)
            case StillHeard() if self.absence.away:
                self._playout.suspend(now)
            case RoomReconnected(renewed=renewed):
                self._heard_again(self.absence.back(renewed, now), now)
            case VoiceHeard():
                self._heard_again(self.absence.heard(now), now)
            case _:
                pass
        self._handle(event, now)

    # ----------------------------------------------------------------------------------------- doors of the model

    def on_session_event(self, event: SessionEvent) -> None:
        """One event of any of this call's sessions; only the leader's are acted on."""
        leader = self._leader
        if leader is None or event.session != leader.number:
            if isinstance(event, Closed):
                self._control.session_closed(event)
            elif isinstance(event, ErrorReported | WarningReported):
                self._control.reported(event)
            elif isinstance(event, Told):
                self._control.session_told(event)
            elif not isinstance(event, SessionReady):
                self.stats.side_events += 1
            return
        now = self._drain.news_at = self._now()
        if isinstance(event, SpeechChunk):
            self.orders.answered()
            if self.activities.timelines.awaits_speech:
                self.activities.timelines.speech_came(event.reply_id, now)
            self._playout.push(event.reply_id, leader.speech(event.reply_id, event.audio), now)
            self._after_playout(now)
            return
        self._note(event)
        leader.ended = leader.ended or isinstance(event, Closed)
        self._handle(event, now)
        if isinstance(event, GenerationComplete | TurnComplete) and self._conversation.results_settled:
            self._control.results_settled(event.session)
        if isinstance(event, Closed):
            self._control.session_closed(event)

    def _note(self, event: SessionEvent) -> None:
        """What others than the conversation must know."""
        match event:
            case ReplyStarted(reply_id=reply_id):
                self._stand_in(False)
                self.hearing.reply_started(reply_id)
                self._control.session_told(event)
            case GenerationComplete(reply_id=reply_id):
                # Whatever becomes of the session, the rest of the answer is in our hands.
                self.hearing.turn_complete(reply_id)
            case TurnComplete(reply_id=reply_id, reason=reason):
                self.orders.answered()
                self.hearing.turn_complete(reply_id, reason)
            case TextChunk() | ToolCall():
                self.orders.answered()
            case ResumptionUpdate() | GoAway():
                self._control.session_told(event)
            case ErrorReported() | WarningReported():
                self._control.reported(event)
            case _:
                pass

    # ------------------------------------------------------------------------------------------------ the beat

    def beat(self, now: float) -> None:
        """Every 20 ms: fill gaps in what the model hears, keep the room's queue filled, show captions in time."""
        self.stats.frames_out += self.hearing.catch_up()
        if self._listens:
            for frame in self._mixer.due(now):
                self._hear(frame, now)
            if now >= self._rests_at and self._mixer.resting(now):
                self.hearing.rest()
        self._heard_again(self.absence.due(bool(self._conversation.participants), now), now)
        self._after_playout(now)
        if self._paced is not None:
            self._paced.tick(now)
        self._carry_out(self._conversation.due(now), now)
        if not self._silent(now):
            self._spoken_at = now
        if self._dozes and self.hearing.skip_silence():
            self._control.wake()
        if self._leader is not None:
            if self.speech.away and self._quiet(now):
                self._stand_in(False)
            self._watch_leader(self._leader, now)
        if self._drain.is_awaited and self._quiet(now):
            self._drain.room_is_quiet(now)

    def _watch_leader(self, leader: SessionFeed, now: float) -> None:
        """It may be mute: told to speak, or spoken to, and nothing at all comes of it."""
        if self.orders.is_stalled(self._drain.news_at, now):
            self.on_session_event(stalled(leader.number))
        elif self.orders.unanswered_since is None and not self._conversation.is_replying:
            speaks = self._conversation.floor is Floor.USER
            can = self._conversation.capabilities
            if can.answers_turns and not can.duplex and self._mute.due(self._drain.news_at, now, speaks=speaks):
                self.stats.mute_sessions += 1
                self.do(Respond())

    # --------------------------------------------------------------------------------------- orders from above

    def add_session(self, feed: SessionFeed) -> None:
        """A session is ready; it neither leads nor hears yet."""
        self._feeds[feed.number] = feed

    def listen(self, number: int) -> None:
        """Take this session's events; those that waited for a listener come at once."""
        feed = self._feeds[number]
        stop = feed.session.listen(self.on_session_event)
        if number in self._feeds:
            feed.stop_listening = stop
        else:
            stop()  # the last thing that it had to tell was its end

    def lead(self, number: int, hearing: Sequence[int]) -> None:
        """This session leads from now on. A new leader goes on where the last one was left, or where `rewind` said."""
        feed = self._feeds[number]
        before, self._leader = self._leader, feed
        now = self._drain.news_at = self._now()
        # Of what still sounds it knows nothing: to interrupt that is nothing to it, and it may not even tell.
        self._stand_in(before is not feed and not self._quiet(now))
        self.hear(hearing)
        self.stats.frames_out += self.hearing.catch_up()
        now = self._now()
        if before is not None and before is not feed:
            self._ends(before, "the lead was passed on", now)
            self.orders.leader_gone()
        self._conversation.capabilities = feed.session.capabilities
        ready = SessionReady(number, feed.session.id, resumed=feed.resumed)
        self._handle(ready, now)
        for order in self.orders.take_waiting():
            self.orders.give(order, feed.session, now)

    def hear(self, numbers: Sequence[int]) -> None:
        """Microphone audio goes to these sessions."""
        feeds = [self._feeds[number] for number in numbers if number in self._feeds]
        self.hearing.turn_to(feeds, None if self._leader is None else self._leader.number)
        self.speech.tune()

    def watch_speech(self, on: bool) -> None:
        """A change of session is pending: warm our own speech detector up, so that it can stand in at once while no
        session leads. That it does without being told, only with less to judge the room's noise by."""
        self.speech.warm = on
        self.speech.tune()

    def remove_session(self, number: int) -> None:
        """This session is gone: it can neither lead nor hear."""
        feed = self._feeds.pop(number, None)
        if feed is None:
            return
        if feed.stop_listening is not None:
            feed.stop_listening()
        self.hearing.forget(number)
        if self._leader is feed:
            now = self._now()
            self._ends(feed, "it is closed", now)
            self._leader = None
            self.orders.leader_gone()
            self._conversation.away = True
            speech = self.speech.stand_in()
            if speech is not None:
                self._handle(speech, now)

    def interrupt(self) -> None:
        """The application wants silence now."""
        now = self._now()
        self._handle(InterruptRequested(), now)

    def do(self, command: Command) -> None:
        """One command from the application: a typed turn, a prompt."""
        now = self._now()
        if isinstance(command, SendText):
            self._conversation.noted(command.text, now)
        self._carry_out([command], now)

    def undelivered(self) -> tuple[str, ...]:
        """Typed turns that wait for the next leader."""
        return tuple(order.text for order in self.orders.open if isinstance(order, SendText))

    def next_reply(self, policy: BargeInPolicy) -> None:
        """The reply that begins next may be interrupted as this says."""
        self._conversation.next_reply(policy, self._now())

    def tool_answered(self, event: ToolAnswered) -> None:
        now = self._now()
        self._handle(event, now)

    # ------------------------------------------------------------------------------- asked for a change of session

    def rewind(self, frame: int) -> None:
        """The next leader hears the room from this frame on; see `Hearing.rewind`."""
        self.hearing.rewind(frame)
        self._conversation.will_hear_again()

    def doze(self, on: bool) -> None:
        """Nobody leads because nobody speaks: listen for the next word ourselves, and keep it."""
        self._dozes = on

    def is_quiet(self) -> bool:
        """Nobody speaks, nothing sounds, waits to be heard or is being made, no tool runs."""
        now = self._now()
        return self._silent(now) and self._conversation.is_idle and not self.hearing.is_behind

    def silent_since(self) -> float:
        """When somebody was heard last, or something sounded, on the loop's clock."""
        return self._spoken_at

    def loose_ends(self) -> Loose:
        """What the leading session has not finished, or the one that led last."""
        hearing, reply = self.hearing, self._conversation.unfinished_reply
        place = None if reply is None else hearing.reply_place(reply)
        return Loose(
            unanswered_from=hearing.first_loud(hearing.unsettled()),
            reply_broken_off=reply is not None,
            speech_after_reply_from=None if place is None else hearing.first_loud(place),
            orders=tuple(order.text if isinstance(order, SendText) else "" for order in self.orders.open),
        )

    def go_on(self, instructions: str) -> None:
        """Let the new leader take up what the one before it left unsaid."""
        self.do(Respond(instructions))

    @property
    def floor_is_free(self) -> bool:
        """A word to the model now cuts nobody short."""
        return self._conversation.free

    def session(self, number: int) -> ModelSession | None:
        feed = self._feeds.get(number)
        return None if feed is None else feed.session

    @property
    def leading(self) -> ModelSession | None:
        return None if self._leader is None else self._leader.session

    def stop_listening(self) -> None:
        """The call is ending: no more input; what is being said may finish."""
        self._listens = False

    def end(self) -> None:
        """The call is over: every open caption is closed, nothing more is heard."""
        self._listens = False
        now = self._now()
        self._carry_out(self._conversation.end(now), now)
        self._carry_out(self.activities.end(now), now)

    async def drained(self) -> None:
        """Until the room has heard everything that the model has said so far, and what it is at work on: a tool may be
        running whose result is the goodbye."""
        await self._drain.wait(self._now())

    # ------------------------------------------------------------------------------------------------- inside

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def _ends(self, feed: SessionFeed, reason: str, now: float) -> None:
        """Of what this session was saying, no more will come to the room."""
        if not feed.ended:
            feed.ended = True
            self._handle(Closed(feed.number, 1000, reason), now)

    def _stand_in(self, on: bool) -> None:
        """Local speech interrupts in the model's place: nobody leads, or who leads has not made what sounds."""
        if on is not self.speech.away:
            self.speech.away = self._conversation.away = on
            self.speech.tune()

    def _silent(self, now: float) -> bool:
        """Neither side is heard."""
        vad = self.speech.vad
        user = self._conversation.floor in (Floor.USER, Floor.BOTH) or (vad is not None and vad.speaking)
        return not user and self._quiet(now)

    def _quiet(self, now: float) -> bool:
        return self._playout.drained(now) and self._playout.sounding(now) is None

    def _handle(self, event: ConversationEvent, now: float) -> None:
        ends_turns = self._conversation.capabilities.turn_detector is TurnDetector.CLIENT
        self._carry_out(self.activities.handle(event, now, ends_turns=ends_turns), now)
        self._carry_out(self._conversation.handle(event, now), now)

    def _hear(self, frame: bytes, now: float) -> None:
        self.last_speech.heard_at = now
        if self.speech.vad is not None:
            self._watch(self.speech.vad, frame, now)
        self.stats.frames_out += self.hearing.hear(frame)

    def _hear_early(self, pcm: bytes, now: float) -> None:
        """Speech from before the subscription: to the model ahead of the live frames that follow."""
        size = self._frame_bytes
        for start in range(0, len(pcm), size):
            frame = pcm[start : start + size].ljust(size, b"\0")
            self.hearing.hear_later(frame)
            if self.speech.vad is not None:
                self._watch(self.speech.vad, frame, now)
        self._rests_at = now + self._mixer.settings.rest_after_s
        self.stats.frames_out += self.hearing.catch_up()

    def _watch(self, vad: EnergyVad, frame: bytes, now: float) -> None:
        tell = self._conversation.capabilities.turn_detector is TurnDetector.CLIENT
        for event in self.speech.heard(vad, frame, tell=tell):
            self._handle(event, now)

    def _heard_again(self, again: bool, now: float) -> None:
        if again:
            self._playout.resume(now, lost=self.absence.lost)
            self._after_playout(now)

    def _after_playout(self, now: float) -> None:
        if not self.room_open:
            return
        events: Sequence[PlayoutEvent] = self._playout.feed(now)
        for event in events:
            self._handle(event, now)

    def _carry_out(self, commands: Iterable[Command], now: float) -> None:
        for command in commands:
            self._carry_out_one(command, now)

    def _carry_out_one(self, command: Command, now: float) -> None:
        match command:
            case FlushPlayout(dead=dead):
                heard = self._playout.flush(now, dead)
                self._handle(PlayoutFlushed(heard), now)
            case FinishSpeech(reply_id=reply_id):
                self._playout.finish(reply_id, now)
                self._after_playout(now)
            case _:
                self._deeds.do(command, self.leading, now)
        self._control.published(command)
