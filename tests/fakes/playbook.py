"""A call without a loop: a real conversation and playout, a room that plays in real time, and a record of all that
was decided. Tests written with it read like transcripts."""

from __future__ import annotations

from bridge.audio.playout import Playout
from bridge.conversation.conversation import Conversation, ConversationEvent, ConversationSettings
from bridge.conversation.speakers import WhoSpoke
from bridge.conversation.turns import Floor
from bridge.core.commands import Command, FinishSpeech, FlushPlayout, ShowCaption, ShowState
from bridge.core.words import AgentState, Caption, Participant, ParticipantId, ParticipantJoined, PlayoutFlushed
from providers.contract import (
    Capabilities,
    GenerationComplete,
    InputTranscript,
    OutputTranscript,
    ReplyStarted,
    SessionReady,
    SpeechChunk,
    Truncation,
    TurnComplete,
)
from providers.signal.formats import PCM16_16K, PCM16_24K
from tests.fakes.sink import FakeSink

__all__ = ["ANN", "BEN", "GEMINI", "OPENAI", "Playbook"]

ANN, BEN = ParticipantId("ann"), ParticipantId("ben")
OPENAI = Capabilities(
    provider="openai",
    model="m",
    input_formats=(PCM16_24K,),
    output_format=PCM16_24K,
    truncation=Truncation.CLIENT,
)
GEMINI = Capabilities(provider="gemini", model="m", input_formats=(PCM16_16K,), output_format=PCM16_24K)


class Playbook:
    """Time stands at `now` and moves by `run`. What the lane does with commands is done here."""

    def __init__(self, capabilities: Capabilities = OPENAI, settings: ConversationSettings | None = None) -> None:
        self.now = 1000.0
        self.sink = FakeSink()
        self.sink.now = self.now
        self.playout = Playout(self.sink)
        self.loudest: WhoSpoke = lambda since, until: ANN
        self.call = Conversation(
            settings or ConversationSettings(),
            capabilities,
            self.playout,
            lambda since, until: self.loudest(since, until),
        )
        self.commands: list[Command] = []
        self.captions: list[Caption] = []
        self.states: list[AgentState] = []
        self.refused = 0

    # --------------------------------------------------------------------------------------------- it runs

    def connected(self) -> Playbook:
        """Ann is there and the model is ready."""
        self.happens(ParticipantJoined(Participant(ANN)), SessionReady(1, "s"))
        return self

    def happens(self, *events: ConversationEvent) -> list[Command]:
        """These events, now, in this order. Returns what was decided."""
        before = len(self.commands)
        for event in events:
            if isinstance(event, SpeechChunk):
                self.refused += not self.playout.push(event.reply_id, event.audio, self.now)
                self._feed()
            self._carry_out(self.call.handle(event, self.now))
        return self.commands[before:]

    def run(self, ms: float) -> list[Command]:
        """Let time pass in beats of 20 ms, and at every deadline of the conversation."""
        before = len(self.commands)
        until = self.now + ms / 1000
        beat = self.now
        while self.now < until - 1e-9:
            beat = min(beat + 0.02, until)
            for _ in range(50):
                deadline = self.call.deadline()
                if deadline is None or deadline >= beat:
                    break
                self.now = max(self.now, deadline)
                self._carry_out(self.call.due(self.now))
            else:
                raise AssertionError("the conversation asks to be called without end")
            self.now = beat
            self.sink.run(self.now)
            self._feed()
            self._carry_out(self.call.due(self.now))
        return self.commands[before:]

    # -------------------------------------------------------------------------------- it is told as a play

    def model_says(self, reply_id: str, ms: int, text: str = "", *, complete: bool = True) -> list[Command]:
        """A reply arrives as a burst: its start, its words, its speech, its end."""
        events: list[ConversationEvent] = [ReplyStarted(1, reply_id)]
        if text:
            events.append(OutputTranscript(1, reply_id, text))
        events.append(SpeechChunk(1, reply_id, bytes([1, 1]) * 24 * ms))
        if complete:
            events.append(OutputTranscript(1, reply_id, "", final=True))
            events.append(GenerationComplete(1, reply_id))
        return self.happens(*events)

    def turn_ends(self, reply_id: str | None, reason: str = "completed") -> list[Command]:
        return self.happens(TurnComplete(1, reply_id, reason))

    def user_said(self, turn_id: str, text: str, *, final: bool = False) -> list[Command]:
        return self.happens(InputTranscript(1, turn_id, text, final))

    # ------------------------------------------------------------------------------------- what came of it

    def of(self, kind: type[Command]) -> list[Command]:
        return [command for command in self.commands if isinstance(command, kind)]

    def silent(self) -> bool:
        return self.playout.drained(self.now)

    def state(self) -> AgentState:
        return self.call.state

    def floor(self) -> Floor:
        return self.call.floor

    def shown(self, segment: str) -> str:
        """What a reader sees of the first segment whose id ends so."""
        mine = [caption for caption in self.captions if caption.segment_id.endswith(segment)]
        if mine and mine[0].speaker is not None:
            return mine[-1].text
        return "".join(caption.text for caption in mine)

    def closings(self, segment: str) -> list[Caption]:
        return [caption for caption in self.captions if caption.segment_id.endswith(segment) and caption.final]

    def _feed(self) -> None:
        for event in self.playout.feed(self.now):
            self._carry_out(self.call.handle(event, self.now))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self.commands.append(command)
            match command:
                case FlushPlayout(dead=dead):
                    heard = self.playout.flush(self.now, dead)
                    self._carry_out(self.call.handle(PlayoutFlushed(heard), self.now))
                case FinishSpeech(reply_id):
                    self.playout.finish(reply_id, self.now)
                    self._feed()
                case ShowCaption(caption):
                    self.captions.append(caption)
                case ShowState(state):
                    self.states.append(state)
                case _:
                    pass
