"""One connection of the Gemini emulator: the service's words around a scripted mind."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from providers.emulators.gemini_messages import INVALID_ARGUMENT, BadMessage, read_message
from providers.emulators.gemini_rules import Refused, check_content, check_setup, check_tool_response, doomed
from providers.emulators.gemini_words import pieces, speech, text_of, turn_complete, voice_activity
from providers.emulators.wire import UpgradeRequest, VendorWire
from providers.gemini.rules import Backend, ModelRules
from providers.gemini.wire import decode_base64
from providers.scripted.acts import (
    Act,
    CallTools,
    CancelCalls,
    Cut,
    GenerationDone,
    GoingAway,
    InputWords,
    LimitReached,
    Resumable,
    Say,
    SpeechStarted,
    SpeechStopped,
    Think,
    TurnDone,
    Words,
    Written,
)
from providers.scripted.brain import Brain, Manners
from providers.scripted.memory import Line
from providers.scripted.scenario import Scenario, ServerVad
from providers.signal.resample import RATES_HZ, Int16Array, Resampler

if TYPE_CHECKING:
    from providers.emulators.gemini import GeminiVendor, StoredSession

__all__ = ["GeminiWire"]

_RATE_HZ = 16_000
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 4_000, 192_000
_RATE = re.compile(r"audio/pcm(?:;\s*rate=(\d+))?$")
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
# A detector of low sensitivity wants louder speech, and more silence.
_LOW_START_DB = 6.0
_LOW_END_FACTOR = 1.5


class GeminiWire(VendorWire):
    """What one client did is in the public attributes, for tests; what it said aloud in `brain.hearing.recording`."""

    def __init__(self, vendor: GeminiVendor, scenario: Scenario, request: UpgradeRequest, number: int) -> None:
        super().__init__(scenario, request, number)
        self._vendor = vendor
        self._backend, self._version = vendor.place(request)
        self._rules: ModelRules | None = None
        self._session: StoredSession | None = None
        self._ready = False
        self._doomed = False
        self._messages = 0
        self._history_open = False
        self._asked: Callable[[], None] | None = None
        self._nudge_pending = False
        self._converter: tuple[int, Callable[[Int16Array], Int16Array]] | None = None
        """Of the rate that came last."""
        self._calls: dict[str, str] = {}
        self.setup: dict[str, Any] = {}
        """The setup in lowerCamelCase; empty until it came."""
        self.instructions = ""
        """In force now."""
        self.tools: list[dict[str, Any]] = []
        """In force now."""
        self.texts: list[str] = []
        """Typed by the client, nudges left out."""
        self.history: list[dict[str, Any]] = []
        """Turns that came as an initial history."""
        self.tool_answers: list[dict[str, Any]] = []
        """Function responses in order, also ignored ones."""
        self.activities: list[str] = []
        """`start`, `end` and `stream_end` in order."""
        self.images: list[bytes] = []
        self.resumed = False

    @property
    def heard(self) -> bytes:
        """Everything that the client said, int16 mono at 16 kHz."""
        return self.brain.hearing.recording.heard if self.brain else b""

    # ----------------------------------------------------------------------------------------------------- incoming

    def on_open(self) -> None:
        """The service says nothing before the setup, and does not wait for it for ever."""
        if self.scenario.session.setup_within_s is not None:
            self.later(self.scenario.session.setup_within_s, self._set_up_too_late)

    def _set_up_too_late(self) -> None:
        if not self.setup:
            self.close(1011, "Deadline expired before operation could complete.")

    def on_message(self, message: str | bytes) -> None:
        try:
            kind, content = read_message(message)
            if not self.setup:
                if kind != "setup":
                    raise Refused(1007, INVALID_ARGUMENT)
                self._set_up(content)
                return
            if kind == "setup" or not self._ready:
                raise Refused(1007, INVALID_ARGUMENT)
            self._messages += 1
            if self._doomed:
                raise Refused(1007, INVALID_ARGUMENT)
            match kind:
                case "realtimeInput":
                    self._realtime(content)
                case "clientContent":
                    self._content(content)
                case "toolResponse":
                    self._tool_response(content)
                case _:
                    self._context_update(content)
        except BadMessage as error:
            self.close(1007, str(error))
        except Refused as refused:
            self.close(refused.code, refused.reason)

    # -------------------------------------------------------------------------------------------------------- setup

    def _set_up(self, setup: dict[str, Any]) -> None:
        refusal = self._vendor.refused_credential(self.request)
        if refusal:
            raise Refused(*refusal)
        rules = check_setup(setup, self._backend, self._version)
        self.setup, self._rules, self._doomed = setup, rules, doomed(setup, rules)
        self.instructions = text_of(setup.get("systemInstruction", {}))
        self.tools = setup.get("tools", [])
        self._history_open = setup.get("historyConfig", {}).get("initialHistoryInClientContent", False)
        stored = self._resume(setup)
        scenario = self.scenario
        if "sessionResumption" not in setup and scenario.session.resumption:
            session = msgspec.structs.replace(scenario.session, resumption=False)
            scenario = msgspec.structs.replace(scenario, session=session)
        brain = Brain(
            scenario,
            input_rate_hz=_RATE_HZ,
            manners=Manners(turn_done="playback", tools_end_turn=rules.pattern.startswith("gemini-3.8")),
            modality="text" if setup.get("generationConfig", {}).get("responseModalities") == ["TEXT"] else "audio",
            connection=self.number,
            memory=stored,
        )
        self._configure(brain, setup.get("realtimeInputConfig", {}))
        self.later(scenario.session.setup_delay_ms / 1000, lambda: self._accept(brain))

    def _accept(self, brain: Brain) -> None:
        assert self._session is not None
        self._ready = True
        self.brain = brain
        accepted = {"sessionId": self._session.session_id} if self._backend is Backend.VERTEX else {}
        self._say({"setupComplete": accepted}, "setup_complete")
        self.perform(brain.start(self.now))

    def _resume(self, setup: dict[str, Any]) -> Any:
        """Memory of the session that is resumed; None for a fresh one. Raises `Refused`."""
        handle = setup.get("sessionResumption", {}).get("handle")
        if not handle:
            self._session = self._vendor.new_session(setup["model"], self.number)
            return None
        issued = self._vendor.handles.get(handle)
        if issued is None or issued.session.model != setup["model"]:
            raise Refused(1008, "Requested entity was not found.")
        session = issued.session
        if session.open_connections and not self.scenario.session.overlap:
            raise Refused(1011, "Internal error encountered.")
        self._session = session
        session.open_connections.add(self.number)
        self.resumed = True
        return issued.memory.snapshot()

    def _configure(self, brain: Brain, realtime: dict[str, Any]) -> None:
        detection = realtime.get("automaticActivityDetection", {})
        vad = self.scenario.vad
        changed: dict[str, Any] = {}
        if detection.get("disabled"):
            changed["enabled"] = False
        if detection.get("startOfSpeechSensitivity") == "START_SENSITIVITY_LOW":
            changed["threshold_dbfs"] = min(0.0, vad.threshold_dbfs + _LOW_START_DB)
        if detection.get("prefixPaddingMs"):  # despite its name: speech required before a start is believed
            changed["onset_ms"] = max(10, min(1000, int(detection["prefixPaddingMs"])))
        if detection.get("silenceDurationMs"):
            changed["silence_ms"] = max(10, min(10_000, int(detection["silenceDurationMs"])))
        elif detection.get("endOfSpeechSensitivity") == "END_SENSITIVITY_LOW":
            changed["silence_ms"] = round(min(10_000, vad.silence_ms * _LOW_END_FACTOR))
        configured: ServerVad = msgspec.structs.replace(vad, **changed)
        barge_in = False if realtime.get("activityHandling") == "NO_INTERRUPTION" else None
        brain.configure(vad=configured, barge_in=barge_in)

    # -------------------------------------------------------------------------------------------------------- input

    @property
    def _manual(self) -> bool:
        realtime = self.setup.get("realtimeInputConfig", {})
        return bool(realtime.get("automaticActivityDetection", {}).get("disabled"))

    def _realtime(self, content: dict[str, Any]) -> None:
        brain = self._mind
        for blob in [*content.get("mediaChunks", []), *([content["audio"]] if "audio" in content else [])]:
            self._hear(blob)
        if "video" in content:
            self.images.append(_bytes(content["video"]))
        if content.get("audioStreamEnd"):
            if self._manual:
                raise Refused(1007, INVALID_ARGUMENT)
            self.activities.append("stream_end")
            self.perform(brain.input_ended(self.now))
        # With the service's own detection the marks are silently ignored.
        if "activityStart" in content:
            self.activities.append("start")
            if self._manual:
                self.perform(brain.start_activity(self.now))
        if "activityEnd" in content:
            self.activities.append("end")
            if self._manual:
                self.perform(brain.end_activity(self.now))
        if "text" in content:
            self._typed(content["text"])

    def _hear(self, blob: dict[str, Any]) -> None:
        kind = _RATE.match(blob.get("mimeType", ""))
        if kind is None:
            raise Refused(1007, INVALID_ARGUMENT)
        brain = self._mind
        pcm, rate = _bytes(blob), int(kind.group(1) or _RATE_HZ)
        if not _LOWEST_RATE_HZ <= rate <= _HIGHEST_RATE_HZ:
            raise Refused(1007, INVALID_ARGUMENT)
        if self._manual and brain.hearing.turn_from_ms is None:
            return  # audio outside of an activity is discarded
        if rate != _RATE_HZ:
            if self._converter is None or self._converter[0] != rate:
                self._converter = rate, _converter(rate)
            samples = np.frombuffer(pcm[: len(pcm) & ~1], dtype="<i2")
            pcm = self._converter[1](samples).tobytes()
        self.perform(brain.hear(pcm, self.now))

    def _typed(self, text: str) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked()
            if not text.strip():
                return
        if not text.strip() and self._nudge_pending:
            self._nudge_pending = False
            return
        self._nudge_pending = False
        self.texts.append(text)
        self.perform(self._mind.read(text, self.now))

    def _content(self, content: dict[str, Any]) -> None:
        turns, complete = content.get("turns", []), bool(content.get("turnComplete"))
        rules, brain = self._rule, self._mind
        check_content(turns, self._backend, rules)
        if self._history_open:
            self.history.extend(turns)
            self._remember(turns)
            self._history_open = not complete
            return
        # Whatever it holds, it cuts what is being generated.
        self.perform(brain.interrupt(self.now))
        for turn in [turn for turn in turns if turn.get("role") == "system"]:
            self.instructions = text_of(turn)
            turns = [other for other in turns if other is not turn]
        newest = turns.pop() if turns and turns[-1].get("role", "user") == "user" else None
        self._remember(turns)
        text = text_of(newest) if newest is not None else None
        if text is not None:
            self.texts.append(text)
        if not complete:
            if text is not None:
                self.perform(brain.read(text, self.now, respond=False))
            return

        def generate() -> None:
            if text is None:
                self.perform(brain.respond(self.now))
            else:
                self.perform(brain.read(text, self.now))

        if rules.nudged and self._vendor.nudge_needed:
            self._asked = generate
        else:
            self._nudge_pending = rules.nudged
            generate()

    def _remember(self, turns: list[dict[str, Any]]) -> None:
        memory = self._mind.memory
        for turn in turns:
            role = "assistant" if turn.get("role") == "model" else "user"
            memory.add(Line(role=role, number=0, text=text_of(turn)))  # type: ignore[arg-type]

    def _tool_response(self, content: dict[str, Any]) -> None:
        for answer in content.get("functionResponses", []):
            check_tool_response(answer, self._backend, self._rule)
            self.tool_answers.append(answer)
            call_id, name = answer.get("id", ""), answer.get("name", "")
            if not call_id and self._vendor.call_ids:
                continue  # an answer that leaves out the id that was given is dropped
            if not call_id:
                call_id = next((known for known, called in self._calls.items() if called == name), "")
            if answer.get("willContinue") or not self._mind.expects_result(call_id):
                continue
            response = answer.get("response") or {}
            result = response.get("output", response)
            self._calls.pop(call_id, None)
            respond = answer.get("scheduling") != "SILENT"
            self.perform(self._mind.tool_result(call_id, name, result, self.now, respond=respond))

    def _context_update(self, content: dict[str, Any]) -> None:
        if self._backend not in self._vendor.context_update:
            raise Refused(1007, 'Invalid JSON payload received. Unknown name "contextUpdate": Cannot find field.')
        if "systemInstruction" in content:
            self.instructions = text_of(content["systemInstruction"])
        if "tools" in content:
            self.tools = content["tools"].get("tools", [])

    # ----------------------------------------------------------------------------------------------------- outgoing

    def render(self, act: Act) -> None:
        match act:
            case Say():
                self.send(speech(act.pcm), "speech")
            case Words():
                if act.delta and "outputAudioTranscription" in self.setup:
                    self._serve("output_transcription", outputTranscription={"text": act.delta})
            case Written():
                if act.delta:
                    self._serve("text", modelTurn={"parts": [{"text": act.delta}]})
            case Think():
                self._serve("thought", modelTurn={"parts": [{"text": act.text, "thought": True}]})
            case InputWords():
                if "inputAudioTranscription" in self.setup:
                    for piece in pieces(act.text):
                        self._serve("input_transcription", inputTranscription={"text": piece})
            case Cut():
                self._serve("interrupted", interrupted=True)
            case GenerationDone():
                self._serve("generation_complete", generationComplete=True)
            case TurnDone():
                self._turn_done(act)
            case CallTools():
                self._call(act)
            case CancelCalls():
                for call_id in act.call_ids:
                    self._calls.pop(call_id, None)
                self._say({"toolCallCancellation": {"ids": list(act.call_ids)}}, "tool_call_cancellation")
            case SpeechStarted() | SpeechStopped():
                if self.setup.get("explicitVadSignal") or self._rule.thinking_required:
                    self._say(voice_activity(act), "voice_activity")
            case Resumable():
                self._resumption(act.resumable)
            case GoingAway():
                self._say({"goAway": {"timeLeft": f"{act.time_left_s:g}s"}}, "go_away")
            case LimitReached():
                if self._backend is Backend.VERTEX:
                    self.close(1000)
                else:
                    self.close(1011, "Deadline expired before operation could complete.")
            case _:
                return  # TurnHeard and ReplyBegan have no message of their own

    def _turn_done(self, act: TurnDone) -> None:
        status = "IDLE" if self._rule.thinking_required else ""
        self._say(turn_complete(act, vertex=self._backend is Backend.VERTEX, status=status), "turn_complete")
        if self._rule.pattern.startswith("gemini-3.8"):
            self.send(b"{}\n", "empty")  # as the real ones do

    def _call(self, act: CallTools) -> None:
        calls = []
        for call in act.calls:
            self._calls[call.call_id] = call.name
            named = {"id": call.call_id} if self._vendor.call_ids else {}
            calls.append({**named, "name": call.name, "args": call.arguments})
        self._say({"toolCall": {"functionCalls": calls}}, "tool_call")

    def _resumption(self, resumable: bool) -> None:
        if "sessionResumption" not in self.setup or self.brain is None:
            return
        update: dict[str, Any] = {"resumable": resumable}
        # Vertex calls every handle resumable, also in mid-answer.
        if resumable or self._backend is Backend.VERTEX:
            assert self._session is not None
            update = {"newHandle": self._vendor.issue(self._session, self.brain.memory), "resumable": True}
        if self.setup["sessionResumption"].get("transparent"):
            update["lastConsumedClientMessageIndex"] = str(self._messages)
        self._say({"sessionResumptionUpdate": update}, "session_resumption_update")

    def quota(self) -> None:
        self.close(1011, _QUOTA)

    def expire_handles(self) -> None:
        """Those of this conversation."""
        if self._session is not None:
            self._vendor.forget(self._session)

    @property
    def session_key(self) -> str:
        return super().session_key if self._session is None else self._session.session_id

    def on_goodbye(self) -> None:
        if self._session is not None:
            self._session.open_connections.discard(self.number)

    def on_close(self, code: int, reason: str) -> None:
        self.on_goodbye()

    def _serve(self, label: str, **content: Any) -> None:
        self._say({"serverContent": content}, label)

    def _say(self, message: dict[str, Any], label: str) -> None:
        self.send(msgspec.json.format(msgspec.json.encode(message), indent=2) + b"\n", label)

    @property
    def _mind(self) -> Brain:
        assert self.brain is not None, "messages are taken once the session is set up"
        return self.brain

    @property
    def _rule(self) -> ModelRules:
        assert self._rules is not None, "rules are known with the setup"
        return self._rules


def _converter(rate_hz: int) -> Callable[[Int16Array], Int16Array]:
    """The service takes any declared rate; our own resampler only those of the field."""
    if rate_hz in RATES_HZ:
        return Resampler(rate_hz, _RATE_HZ).push
    import soxr  # on first use: odd rates only

    stream = soxr.ResampleStream(rate_hz, _RATE_HZ, 1, dtype="int16")
    return lambda samples: np.asarray(stream.resample_chunk(samples), dtype=np.int16)


def _bytes(blob: dict[str, Any]) -> bytes:
    try:
        return decode_base64(blob.get("data", ""))
    except ValueError:
        raise BadMessage("Invalid value at 'realtime_input.audio.data' (TYPE_BYTES), Base64 decoding failed") from None
