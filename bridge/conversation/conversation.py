"""The decisions of one call: events in, commands out. No I/O, no clock, no audio.

Give `handle` the events of the leading session, of the playout, of the room, of local speech detection and of the
application, in the order in which they happened, and carry out what it returns before the next. Speech chunks go
straight to the playout; the conversation need not see them.
"""

from __future__ import annotations

from bridge.conversation.answers import AnswerWatch
from bridge.conversation.barge_in import BargeIn, BargeInPolicy
from bridge.conversation.entries import Line
from bridge.conversation.greeting import Greeting
from bridge.conversation.interruption import Interruption
from bridge.conversation.ledger import Ledger
from bridge.conversation.memory import ProviderMemory
from bridge.conversation.replies import Replies
from bridge.conversation.scribe import Scribe
from bridge.conversation.settings import ConversationSettings
from bridge.conversation.speakers import Speakers, WhoSpoke
from bridge.conversation.stats import ConversationStats
from bridge.conversation.tool_work import ToolWork
from bridge.conversation.transcript import SpeechPosition
from bridge.conversation.turns import Floor, Turns
from bridge.conversation.user_turn import UserTurn
from bridge.core.commands import (
    CancelTools,
    Command,
    EndCall,
    FinishSpeech,
    FlushReason,
    Respond,
    RunTool,
    SendText,
    ShowState,
    TruncateReply,
)
from bridge.core.words import (
    AgentState,
    AudioEnded,
    AudioMuted,
    AudioStarted,
    Heard,
    InterruptRequested,
    LocalSpeechStarted,
    LocalSpeechStopped,
    ParticipantId,
    ParticipantJoined,
    ParticipantLeft,
    PlayoutEvent,
    PlayoutFlushed,
    ReplyAudible,
    ReplyHeard,
    RoomEnded,
    RoomEvent,
    TextReceived,
    ToolAnswered,
    VoiceHeard,
)
from providers.contract import (
    Capabilities,
    Closed,
    GenerationComplete,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    ReplyStarted,
    SessionEvent,
    SessionReady,
    SpeechChunk,
    TextChunk,
    ToolCall,
    ToolCallCancelled,
    Truncation,
    TurnComplete,
    TurnDetector,
    UserSpeechStarted,
    UserSpeechStopped,
)

__all__ = ["Conversation", "ConversationEvent", "ConversationSettings", "ConversationStats"]

ConversationEvent = SessionEvent | RoomEvent | PlayoutEvent | LocalSpeechStarted | LocalSpeechStopped | ToolAnswered


class Conversation:
    """One call's floor, captions, interruptions and record."""

    def __init__(
        self,
        settings: ConversationSettings,
        capabilities: Capabilities,
        speech: SpeechPosition,
        who_spoke: WhoSpoke = lambda since, until: None,
        *,
        awaits_hearer: bool = False,
    ) -> None:
        """`speech` is the playout, to be asked for positions; `who_spoke` is the mixer's `loudest`. With
        `awaits_hearer` the greeting waits for `VoiceHeard`."""
        self.settings = settings
        self.stats = ConversationStats()
        self.capabilities = capabilities
        """Of the leading session; assign when the lead changes."""
        self.away = False
        """No session leads, or what sounds was made by an earlier one; assign. Local speech interrupts in its place."""
        self.ledger = Ledger(settings.ledger_entries, self.stats, settings.memory)
        self.memory = ProviderMemory(settings.memory, self.stats)
        """What the leading session remembers beyond what was heard."""
        self.answers = AnswerWatch(settings.answers, self.stats)
        self.barge_in = BargeIn(settings.barge_in, self.stats)
        self._scribe = Scribe(speech, self.ledger, settings.captions_wait_ms, self.stats)
        self._turns = Turns(thinking_limit_s=settings.thinking_limit_s, user_limit_s=settings.user_limit_s)
        self._speech = speech
        self._speakers = Speakers(who_spoke)
        self._shown: AgentState | None = None
        self._replies = Replies()
        self._user = UserTurn(self._turns, self._speakers, self.answers, self._scribe, self._replies)
        self._interruption = Interruption(self.barge_in, speech, self._replies, self.stats)
        self._tools = ToolWork(speech.generated_ms, settings.thinking_limit_s)
        self._greeting = Greeting(wanted=settings.greeting is not None, awaits_hearer=awaits_hearer)
        self._broken_off: str | None = None

    # ------------------------------------------------------------------------------------------------------- surface

    @property
    def state(self) -> AgentState:
        """What the room is shown."""
        return self._turns.state

    @property
    def participants(self) -> tuple[ParticipantId, ...]:
        """Who is here, in the order of arrival."""
        return self._speakers.present

    @property
    def floor(self) -> Floor:
        """Who is being heard."""
        return self._turns.floor

    @property
    def awaits_tools(self) -> bool:
        """A tool runs, its result waits for a word, or is told to the next session."""
        return self._tools.runs or self._tools.is_told_again or (self._tools.owes_words and self._turns.thinking)

    @property
    def at_work(self) -> bool:
        """More of the model is on its way: a tool runs, its result waits for a word, or a reply is being made.

        Of a model without turns no reply ever ends, so that only tools count.
        """
        if self.awaits_tools:
            return True
        return not self.capabilities.duplex and self.is_replying

    @property
    def results_settled(self) -> bool:
        """All of the model's reply to the results that it was told is here."""
        return self._tools.settled

    @property
    def unfinished_reply(self) -> str | None:
        """A reply that has begun to be spoken and is not all there: of the session that leads, or of the one that was
        lost and has no successor that has said anything yet."""
        for reply_id in self._replies.generating:
            if reply_id not in self._replies.cut and self._speech.generated_ms(reply_id) > 0:
                return reply_id
        return self._broken_off

    @property
    def is_idle(self) -> bool:
        """Nobody speaks, no answer is owed or being made, no tool runs."""
        return not (self.at_work or self._turns.thinking or self._turns.user_speaks or self._turns.model_speaks)

    @property
    def free(self) -> bool:
        """Nobody is speaking and no reply is being made: a word to the model cuts nobody short."""
        return not self._turns.user_speaks and not self.is_replying

    @property
    def is_replying(self) -> bool:
        """A reply is being made."""
        cut = self._replies.cut
        return any(reply not in cut for reply in self._replies.generating)

    def will_hear_again(self) -> None:
        """The next leader hears once more what the user said since the model's last words."""
        self._scribe.will_be_heard_again()

    def noted(self, text: str, now: float) -> None:
        """The application gives the model this as a typed user turn: it is on record like any other."""
        if text.strip():
            self.ledger.said(Line(speaker=self._speakers.anyone(), text=text, at=now, ended_at=now, typed=True))

    def next_reply(self, policy: BargeInPolicy, now: float) -> None:
        """The reply that begins next (within 20 s) may be interrupted as `policy` says."""
        self.barge_in.next_reply(policy, now)

    def handle(self, event: ConversationEvent, now: float) -> list[Command]:
        """What to do about this event, in order."""
        if type(event) is SpeechChunk:
            return []  # the playout's business, and fifty times a second
        commands: list[Command] = []
        typed = self._scribe.take_typed()
        self._decide(event, now, commands)
        self._settle(now, commands)
        for line in typed:
            self.ledger.said(line)
        return commands

    def due(self, now: float) -> list[Command]:
        """What time alone makes due: captions, patience, reminders. Call at `deadline()`; too early does no harm."""
        commands: list[Command] = []
        self._tools.due(now)
        self._turns.due(now, at_work=self._tools.runs)
        self._count_speech(now, commands)
        # Where nobody tells when the user stops, he is believed until he is answered.
        told = self._user.is_told or self.settings.barge_in.local
        self._interruption.due(now, commands, user_speaks=self._turns.user_speaks or not told)
        if self.answers.due(now) and not self._turns.user_speaks and not self._tools.runs:
            self._turns.thinks(now)
            commands.append(Respond())
        self._scribe.due(now, commands, sounding=bool(self._replies.audible))
        self._greet(now, commands)
        note = self.memory.due(now, idle=self._idle(now), repairable=self.capabilities.repairable_memory)
        if note:
            commands.append(SendText(note, respond=False))
        self._settle(now, commands)
        return commands

    def deadline(self) -> float | None:
        """When to call `due` next, on the same clock as `now`."""
        times = (
            self._turns.deadline(),
            self.barge_in.deadline(),
            self._interruption.deadline(),
            self.answers.deadline(),
            self._scribe.deadline(sounding=bool(self._replies.audible)),
            self._greeting.deadline(),
            self.memory.deadline(),
            self._tools.deadline(),
        )
        return min((t for t in times if t is not None), default=None)

    def end(self, now: float) -> list[Command]:
        """The call is over: close every open segment."""
        commands: list[Command] = []
        self._scribe.end(now, commands)
        return commands

    # ----------------------------------------------------------------------------------------------------- decisions

    def _decide(self, event: ConversationEvent, now: float, commands: list[Command]) -> None:
        match event:
            # the playout
            case ReplyAudible(reply_id):
                self._replies.sounds(reply_id)
                self.answers.answered()
                self.barge_in.reply_audible(now)
                self._turns.model_starts()
            case ReplyHeard(reply_id):
                self._replies.audible.pop(reply_id, None)
                self._scribe.agent.heard(reply_id, now)
                self._scribe.release(now, commands)
                if not self._replies.audible:
                    self._turns.model_stops()
            case PlayoutFlushed(heard):
                self._cut(heard, now, commands)
            # the user, as the provider hears him
            case UserSpeechStarted():
                self._user.starts(now, told=True)
                if self.capabilities.interrupts_on_speech and not self.capabilities.duplex:
                    if not self._speech.drained(now) or self._replies.audible:
                        self._interruption.ask(FlushReason.PROVIDER, now, commands)
            case UserSpeechStopped():
                self._user.stops(now, answered=self._answers_turns, told=True)
            case InputTranscript():
                self._user.words(event, now, commands, answered=self._answers_turns)
                self._scribe.release(now, commands)
            # the user, as we hear him
            case LocalSpeechStarted(spoken_ms=spoken_ms):
                self._user.starts(now)
                if self.away and self.capabilities.interrupts_on_speech and not self.capabilities.duplex:
                    self.barge_in.speech_while_away(now, spoken_ms)
                elif self.settings.barge_in.local:
                    self.barge_in.speech_started(now)
                self._count_speech(now, commands)
            case LocalSpeechStopped():
                self.barge_in.speech_stopped(now)
                # What we hear ends the floor; it is a turn only where we are the ones to say so. It may be a door.
                if self.capabilities.turn_detector is TurnDetector.CLIENT:
                    self._user.stops(now, answered=self._answers_turns)
                elif self._turns.user_speaks:
                    self._turns.user_stops(now, answer_expected=False)
            case InterruptRequested():
                self._interruption.ask(FlushReason.APPLICATION, now, commands)
            # the model
            case SessionReady(resumed=resumed):
                self._turns.ready = True
                self.memory.session_began(resumed=resumed)
                self._greeting.model_ready()
                self._user.session_began()
                self._greet(now, commands)
            case ReplyStarted(_, reply_id):
                self._reply_started(reply_id, now)
            case OutputTranscript(session, reply_id, delta, final):
                self._scribe.agent.add(session, reply_id, delta, final=final)
            case TextChunk(session, reply_id, delta, final):
                if delta:
                    self._replies.has_content(reply_id)
                    self.answers.answered()
                self._scribe.agent.add(session, reply_id, delta, final=final, written=True)
                self._scribe.release(now, commands)
            case Interrupted(_, reply_id):
                for ended in self._interruption.provider_cut(reply_id, now, commands):
                    self._scribe.agent.generated(ended)
            case GenerationComplete(_, reply_id):
                self._replies.generating.pop(reply_id, None)
                self._scribe.agent.generated(reply_id)
                commands.append(FinishSpeech(reply_id))
                self._tools.reply_generated()
            case TurnComplete(_, reply_id, reason):
                self._turn_complete(reply_id, reason, now, commands)
            case ToolCall():
                self._tool_called(event, now, commands)
            case ToolCallCancelled(session, call_ids):
                self._tools.cancelled(session, call_ids)
                for call_id in call_ids:
                    self.ledger.tool_ended(call_id, "", now, cancelled=True)
                commands.append(CancelTools(call_ids))
            case ToolAnswered(call_id, name, result, error, session, told):
                self._tools.answered(session, call_id, name, told=told)
                self.ledger.tool_ended(call_id, name, now, result=result, error=error)
                if told:
                    self.answers.user_finished(now)  # the model owes an answer to the result
                    self._turns.thinks(now)
            case Closed():
                self._session_ended(now, commands)
            # the room
            case ParticipantJoined(participant):
                self.ledger.names.know(participant.id, participant.name)
                self._speakers.joined(participant.id)
                self._turns.accompanied = True
                self._greeting.somebody_came(now)
                self._greet(now, commands)
            case AudioStarted(participant_id):
                self._speakers.joined(participant_id)
                self._turns.accompanied = True
                self._greeting.somebody_came(now)
                self._greet(now, commands)
            case VoiceHeard():
                self._greeting.voice_arrives()
                self._greet(now, commands)
            case ParticipantLeft(participant_id):
                self._speakers.left(participant_id)
                self._turns.accompanied = bool(self._speakers.present)
                self._fell_silent(participant_id, now)
            case AudioEnded(participant_id) | AudioMuted(participant_id):
                self._fell_silent(participant_id, now)
            case TextReceived(participant_id, text):
                self._typed(participant_id, text, now, commands)
            case RoomEnded(reason, detail):
                commands += self.end(now)
                commands.append(EndCall(reason, detail))
            case _:
                pass  # thoughts, usage, limits, warnings, reconnections: nothing to decide here

    def _count_speech(self, now: float, commands: list[Command]) -> None:
        """Speech that we heard ourselves may have lasted long enough."""
        if self.barge_in.speech_counts(now) and self._turns.model_speaks:
            self._interruption.ask(FlushReason.LOCAL_SPEECH, now, commands)

    def _reply_started(self, reply_id: str, now: float) -> None:
        self.stats.replies += 1
        self._broken_off = None
        self._tools.reply_started()
        self.barge_in.reply_started(reply_id, now)
        self._interruption.reply_started(reply_id)
        self._replies.started(reply_id)
        self._user.reply_began(now, answered=self._answers_turns)
        if not self._turns.model_speaks:
            self._turns.thinks(now)

    def _turn_complete(self, reply_id: str | None, reason: str, now: float, commands: list[Command]) -> None:
        self._user.ends_if_inferred(now, answered=self._answers_turns)
        self.memory.turn_complete(reply_id)
        if reply_id is not None:
            self._replies.generating.pop(reply_id, None)
            commands.append(FinishSpeech(reply_id))
            self._scribe.agent.turn_done(reply_id, now)
            self._tools.turn_complete(reply_id)
        else:
            self._replies.generating.clear()
        empty = reply_id is None or (
            reply_id not in self._replies.with_content and self._speech.generated_ms(reply_id) == 0
        )
        if empty and reason != "interrupted" and not self._tools.runs:
            self.answers.turn_was_empty(now)
            if not self._replies.generating:
                self._turns.rests()
        self._scribe.release(now, commands)

    def _tool_called(self, call: ToolCall, now: float, commands: list[Command]) -> None:
        if not self._tools.called(call.session, call.call_id, call.name, call.reply_id):
            commands.append(RunTool(call))  # a repetition: who runs the tools counts it
            return
        self.stats.tool_calls += 1
        self.ledger.tool_called(call.call_id, call.name, call.arguments, now)
        if call.reply_id is not None:
            self._replies.has_content(call.reply_id)
        self.answers.model_works()
        if not self._turns.model_speaks:
            self._turns.thinks(now)
        commands.append(RunTool(call))

    def _typed(self, participant: ParticipantId, text: str, now: float, commands: list[Command]) -> None:
        if not text.strip():
            return
        if self.settings.barge_in.text and (self._replies.audible or not self._speech.drained(now)):
            self._interruption.ask(FlushReason.TEXT, now, commands)
        self._scribe.user_typed(participant, text, now, cuts=bool(commands))
        self.answers.user_speaks()
        self.answers.user_finished(now)
        self._turns.thinks(now)
        commands.append(SendText(text, participant))

    def _greet(self, now: float, commands: list[Command]) -> None:
        if not self._greeting.due(now):
            return
        self.barge_in.next_reply(self.settings.barge_in.greeting, now)
        self._turns.thinks(now)
        commands.append(Respond(self.settings.greeting))

    def _fell_silent(self, participant: ParticipantId, now: float) -> None:
        self.barge_in.speech_stopped(now)
        self._user.fell_silent(participant, now, answered=self._answers_turns)

    def _session_ended(self, now: float, commands: list[Command]) -> None:
        """Nothing more will come of what this session was saying."""
        self.stats.sessions_ended += 1
        self._broken_off = self.unfinished_reply
        for reply_id in self._replies.generating:
            commands.append(FinishSpeech(reply_id))
            self._scribe.agent.lost(reply_id)
        self._replies.generating.clear()
        self.memory.session_ended()
        self._tools.session_ended(now)
        if not self._tools.settled:
            self._turns.thinks(now)
        elif not self._tools.runs:
            self._turns.rests()

    # -------------------------------------------------------------------------------------------------- interruption

    def _cut(self, heard: tuple[Heard, ...], now: float, commands: list[Command]) -> None:
        """The playout is silent: tell the model, the captions and the record how far the room heard it."""
        if heard:
            self.stats.interruptions += 1
            self._user.reply_cut()
        for reply in heard:
            if reply.reply_id == self._broken_off:
                self._broken_off = None  # somebody wanted it to end
            self._replies.silenced(reply.reply_id)
            if self.capabilities.truncation is Truncation.CLIENT:
                commands.append(TruncateReply(reply.reply_id, int(reply.heard_ms)))
            cut = self._scribe.cut(reply, commands)
            if self.capabilities.truncation is Truncation.NONE or (cut.lost and self.memory.told_ahead):
                self.memory.cut(reply.reply_id, cut.text, reply.heard_ms, reply.generated_ms, now)
        self._replies.audible.clear()
        self._turns.model_stops()

    # ------------------------------------------------------------------------------------------------------ workings

    @property
    def _answers_turns(self) -> bool:
        """The leading model answers a turn by itself."""
        return self.capabilities.answers_turns and not self.capabilities.duplex

    def _idle(self, now: float) -> bool:
        """Nothing sounds, is being said or waits to be, either."""
        return (
            self.is_idle
            and not (self._replies.audible or self.answers.owed)
            and self._speech.drained(now)
            and not self._scribe.user.so_far()
        )

    def _settle(self, now: float, commands: list[Command]) -> None:
        self._scribe.record(now)
        state = self._turns.state
        if state is not self._shown:
            self._shown = state
            commands.append(ShowState(state))
