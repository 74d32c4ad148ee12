"""The emulated Gemini service, message by message, without a socket."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from providers.emulators.gemini import GeminiVendor
from providers.emulators.gemini_wire import GeminiWire
from providers.emulators.wire import Hangup, Outgoing, Output, UpgradeRequest
from providers.errors import ProviderRejected
from providers.gemini.closes import close_error
from providers.gemini.rules import Backend
from providers.scripted.faults import ExpireHandles, GoAway, Quota
from providers.scripted.scenario import Scenario, load_text

DEVELOPER = "/ws/google.ai.generativelanguage.{}.GenerativeService.BidiGenerateContent"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
PLACE = "projects/p/locations/l/publishers/google/models/"
MODEL = "models/gemini-3.8-live"
EXTENDED = "models/gemini-3.8-live-extended-thinking"
FAST = load_text("[pace]\nspeed = 100.0\nlatency_ms = 10\n[vad]\nsilence_ms = 200\n")
LONG = load_text('answer = { kind = "tone", duration_ms = 5000 }\n[pace]\nlatency_ms = 10\n')


def request(path: str = DEVELOPER.format("v1beta"), **headers: str) -> UpgradeRequest:
    given = {"authorization": "Bearer t"} if path == VERTEX else {"x-goog-api-key": "k"}
    return UpgradeRequest(path, {}, {**given, **headers}, False)


class Client:
    """One connection: what it sends, and what the service does."""

    def __init__(
        self, scenario: Scenario = FAST, *, vendor: GeminiVendor | None = None, path: str = "", number: int = 1
    ) -> None:
        self.vendor = vendor or GeminiVendor()
        self.wire: GeminiWire = self.vendor.connect(scenario, request(path or DEVELOPER.format("v1beta")), number)
        self.now = 0.0
        self.heard: list[dict[str, Any]] = []
        self.end: tuple[int, str] | None = None
        self._take(self.wire.opened(0.0))

    def _take(self, output: list[Output]) -> None:
        for item in output:
            if isinstance(item, Outgoing):
                self.heard.append(json.loads(item.data))
            elif isinstance(item, Hangup):
                self.end = (item.code, item.reason)

    def send(self, message: dict[str, Any] | str, after_s: float = 0.0) -> Client:
        self.run(after_s)
        self._take(self.wire.received(message if isinstance(message, str) else json.dumps(message), self.now))
        return self

    def run(self, seconds: float) -> Client:
        until = self.now + seconds
        while (due := self.wire.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self._take(self.wire.handle_timeout(self.now))
        self.now = until
        return self

    def set_up(self, **setup: Any) -> Client:
        return self.send({"setup": {"model": MODEL, **setup}}).run(0.001)

    def kinds(self) -> list[str]:
        """Messages by their content, repeats collapsed."""
        names: list[str] = []
        for message in self.heard:
            for key, value in message.items():
                inner = list(value) if key == "serverContent" else [key]
                names += [name for name in inner if not names or names[-1] != name]
        return names


def speech(ms: int, level: int = 8000) -> dict[str, Any]:
    samples = b"".join(
        (level if index % 40 < 20 else -level).to_bytes(2, "little", signed=True) for index in range(16 * ms)
    )
    return audio(samples)


def audio(pcm: bytes, rate: str = ";rate=16000") -> dict[str, Any]:
    return {"realtimeInput": {"audio": {"mimeType": f"audio/pcm{rate}", "data": base64.b64encode(pcm).decode()}}}


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 24_000, 44_100])
def test_speech_of_any_declared_rate_is_heard(rate_hz: int) -> None:
    client = Client().set_up()
    for _ in range(10):
        client.send(audio(b"\x01\x10" * (rate_hz // 10), f";rate={rate_hz}"))
    assert client.end is None
    heard_ms = client.wire.brain.hearing.now_ms if client.wire.brain else 0
    assert heard_ms == pytest.approx(1000, abs=60)


def test_half_a_sample_is_left_out() -> None:
    assert Client().set_up().send(audio(b"\x01" * 4801, ";rate=24000")).end is None


@pytest.mark.parametrize("rate", [";rate=0", ";rate=99999999"])
def test_a_rate_that_cannot_be_is_an_invalid_argument(rate: str) -> None:
    client = Client().set_up().send(audio(b"\0\0", rate))
    assert client.end == (1007, "Request contains an invalid argument.")


@pytest.mark.parametrize("odd", [[], {}, ["AUDIO"], 1])
def test_a_word_that_is_no_text_is_refused_like_a_wrong_one(odd: object) -> None:
    client = Client().set_up(generationConfig={"mediaResolution": odd})
    assert client.end is not None and client.end[0] == 1007


def typed(text: str, role: str | None = "user", complete: bool = True) -> dict[str, Any]:
    turn = {"role": role, "parts": [{"text": text}]} if role else {"parts": [{"text": text}]}
    return {"clientContent": {"turns": [turn], "turnComplete": complete}}


# -------------------------------------------------------------------------------------------------- what is refused

INVALID = "Request contains an invalid argument."


@pytest.mark.parametrize(
    ("setup", "path", "code", "reason"),
    [
        ({"model": "models/gemini-4"}, "v1", 1008, "models/gemini-4 is not found for API version v1, or"),
        ({"model": "models/gemini-2.0-flash-live-001"}, "v1beta", 1008, "is not found for API version v1beta"),
        ({"model": "gemini-3.8-live"}, "v1beta", 1007, INVALID),
        ({"model": MODEL, "generationConfig": {"responseModalities": ["TEXT"]}}, "v1beta", 1007, "(TEXT) is not"),
        (
            {
                "model": "models/gemini-2.5-flash-native-audio-latest",
                "generationConfig": {"responseModalities": ["TEXT"]},
            },
            "v1beta",
            1007,
            "Cannot extract voices from a non-audio request",
        ),
        ({"model": EXTENDED}, "v1beta", 1007, "Thinking level must be specified for this model."),
        (
            {"model": MODEL, "generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}},
            "v1beta",
            1007,
            "Thinking level is not supported for this model",
        ),
        (
            {
                "model": EXTENDED,
                "generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}},
                "tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}],
            },
            "v1beta",
            1007,
            "BLOCKING function calls are not supported for this model",
        ),
        ({"model": MODEL, "proactivity": {"proactiveAudio": True}}, "v1beta", 1007, 'Unknown name "proactivity"'),
        ({"model": MODEL, "explicitVadSignal": True}, "v1beta", 1007, INVALID),
        ({"model": MODEL, "sessionResumption": {"transparent": True}}, "v1beta", 1007, INVALID),
        ({"model": MODEL, "sessionResumption": {"handle": "old"}}, "v1beta", 1008, "entity was not found"),
        (
            {"model": "models/gemini-3.1-flash-live-preview", "generationConfig": {"enableAffectiveDialog": True}},
            "v1alpha",
            1007,
            INVALID,
        ),
        (
            {"model": MODEL, "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "object"}}]}]},
            "v1beta",
            1007,
            "Invalid value at 'setup.tools[0].function_declarations[0].parameters.type'",
        ),
        ({"model": MODEL, "generation_config": {"top_k": "many"}}, "v1beta", 1007, "setup.generation_config.top_k"),
    ],
)
def test_a_setup_is_refused_in_the_services_words(setup: dict[str, Any], path: str, code: int, reason: str) -> None:
    client = Client(path=DEVELOPER.format(path)).send({"setup": setup})
    assert client.end is not None and client.end[0] == code and reason in client.end[1]


@pytest.mark.parametrize(
    "message", ["nonsense", "[]", '{"clientContent": {}}', '{"setup": {}, "clientContent": {}}', "{}"]
)
def test_the_first_message_must_be_a_setup(message: str) -> None:
    end = Client().send(message).end
    assert end is not None and end[0] in (1007, 1008)


def test_affective_dialog_on_3_8_opens_and_closes_at_the_first_input() -> None:
    client = Client().set_up(generationConfig={"enableAffectiveDialog": True})
    assert client.kinds() == ["setupComplete"] and client.end is None
    assert client.send(speech(20)).end == (1007, INVALID)


@pytest.mark.parametrize(
    ("path", "headers", "query", "end"),
    [
        ("v1beta", {}, {}, 1008),
        ("v1beta", {"x-goog-api-key": "wrong"}, {}, 1007),
        ("v1beta", {"x-goog-api-key": "right"}, {}, None),
        ("v1alpha", {}, {"key": "right"}, None),
        ("Constrained", {"authorization": "Token auth_tokens/x"}, {}, None),
        ("Constrained", {}, {"access_token": "auth_tokens/x"}, None),
        ("Constrained", {}, {"access_token": "auth_tokens/y"}, 1008),
        ("vertex", {"authorization": "Bearer oauth"}, {}, None),
        ("vertex", {"authorization": "Bearer other"}, {}, 1008),
    ],
)
def test_keys(path: str, headers: dict[str, str], query: dict[str, str], end: int | None) -> None:
    vendor = GeminiVendor(keys={"right", "auth_tokens/x", "oauth"})
    paths = {"vertex": VERTEX, "Constrained": DEVELOPER.format("v1alpha") + "Constrained"}
    asked = UpgradeRequest(paths.get(path, DEVELOPER.format(path)), query, headers, False)
    assert vendor.check(asked) is None
    wire = vendor.connect(FAST, asked, 1)
    model = PLACE + "gemini-3.8-live" if path == "vertex" else MODEL
    output = wire.received(json.dumps({"setup": {"model": model}}), 0.0)
    assert [item.code for item in output if isinstance(item, Hangup)] == ([] if end is None else [end])


@pytest.mark.parametrize(("path", "status"), [("/", 404), (DEVELOPER.format("v2"), 404), (VERTEX, 401)])
def test_upgrades_that_never_happen(path: str, status: int) -> None:
    refusal = GeminiVendor().check(UpgradeRequest(path, {}, {}, False))
    assert refusal is not None and refusal.status == status


@pytest.mark.parametrize("role", ["system", "assistant", None])
def test_roles_that_the_developer_api_refuses(role: str | None) -> None:
    assert Client().set_up().send(typed("x", role)).end == (1007, INVALID)


def seeded(model: str, *turns: tuple[str, str], path: str = "") -> Client:
    """A client that announces and sends these turns as the history of a fresh session."""
    client = Client(path=path).set_up(model=model, historyConfig={"initialHistoryInClientContent": True})
    said = [{"role": role, "parts": [{"text": text}]} for role, text in turns]
    return client.send({"clientContent": {"turns": said, "turnComplete": True}})


def test_a_history_that_fits_is_remembered() -> None:
    client = seeded(MODEL, ("user", "x" * 400_000), ("model", "yes"))
    assert client.end is None
    assert [line.text[:3] for line in client.wire.brain.memory.lines] == ["xxx", "yes"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "path", "turns"),
    [
        (MODEL, "", [("user", "x" * 540_000)]),
        (MODEL, "", [("user", "x" * 300_000), ("model", "x" * 300_000)]),
        (f"{PLACE}gemini-live-2.5-flash", VERTEX, [("user", "x" * 140_000)]),
        (MODEL, "", [("user", "")]),
        ("models/gemini-2.5-flash-native-audio-latest", "", [("user", "hi"), ("model", "hello")]),
    ],
    ids=["too long", "too long together", "longer than half cascade keeps", "empty", "older, ends with the model"],
)
def test_a_history_that_the_service_would_not_take(model: str, path: str, turns: list[tuple[str, str]]) -> None:
    assert seeded(model, *turns, path=path).end == (1007, INVALID)


def test_a_connection_without_a_setup_is_not_kept_for_ever() -> None:
    assert Client().run(9.9).end is None
    assert Client().run(10.1).end == (1011, "Deadline expired before operation could complete.")
    assert Client().set_up().run(60).end is None


def test_a_resume_is_taken_as_soon_as_the_earlier_client_has_said_goodbye() -> None:
    first = Client().set_up(sessionResumption={})
    handle = next(iter(first.vendor.handles))
    refused = Client(vendor=first.vendor, number=2).set_up(sessionResumption={"handle": handle})
    assert refused.end is not None and refused.end[0] == 1011
    first.wire.on_goodbye()
    assert Client(vendor=first.vendor, number=3).set_up(sessionResumption={"handle": handle}).wire.resumed


def test_a_system_turn_replaces_the_instructions_on_vertex() -> None:
    client = Client(path=VERTEX).set_up(model=PLACE + "gemini-3.8-live")
    client.send(typed("be brief", "system", complete=False))
    assert client.end is None and client.wire.instructions == "be brief"


def test_an_unavailable_context_update_is_an_unknown_name() -> None:
    client = Client(vendor=GeminiVendor(context_update={Backend.VERTEX})).set_up()
    end = client.send({"contextUpdate": {"tools": {"tools": []}}}).end
    assert end is not None and end[0] == 1007 and "contextUpdate" in end[1]


def test_scheduling_is_refused_on_extended_thinking() -> None:
    client = Client().set_up(model=EXTENDED, generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}})
    answer = {"id": "a", "name": "f", "response": {"output": 1}, "scheduling": "SILENT"}
    end = client.send({"toolResponse": {"functionResponses": [answer]}}).end
    assert end == (1007, "Function response scheduling is not supported for this model.")


# ---------------------------------------------------------------------------------------------------- what is said


def test_a_spoken_turn() -> None:
    client = Client().set_up(inputAudioTranscription={}, output_audio_transcription={})
    client.send(speech(600)).send(audio(bytes(16_000))).run(2.0)
    kinds = client.kinds()
    assert kinds[0] == "setupComplete" and kinds[1] == "inputTranscription" and "outputTranscription" in kinds
    assert kinds[-3:] == ["generationComplete", "turnComplete", "usageMetadata"]


def test_the_turn_completes_when_playback_would_end() -> None:
    client = Client(load_text('answer = { kind = "tone", duration_ms = 3000 }\n[pace]\nspeed = 100.0\nlatency_ms = 0'))
    client.set_up().send(typed("hi")).run(2.5)
    assert client.kinds()[-1] == "generationComplete"
    assert "turnComplete" in client.run(1.0).kinds()


def test_barge_in() -> None:
    client = Client(LONG).set_up().send(typed("hi")).run(0.3)
    client.send(speech(200))
    assert client.kinds() == ["setupComplete", "modelTurn", "interrupted", "turnComplete", "usageMetadata"]


def test_no_interruption_when_the_client_says_so() -> None:
    client = Client(LONG).set_up(realtimeInputConfig={"activityHandling": "NO_INTERRUPTION"})
    client.send(typed("hi")).run(0.3).send(speech(200)).run(0.3)
    assert "interrupted" not in client.kinds()


def test_an_empty_client_content_only_cuts() -> None:
    client = Client(LONG).set_up().send(typed("hi")).run(0.3)
    client.send({"clientContent": {"turnComplete": False}}).run(1.0)
    assert client.kinds()[-3:] == ["interrupted", "turnComplete", "usageMetadata"]


def test_manual_turns_discard_what_lies_outside() -> None:
    manual = {"automaticActivityDetection": {"disabled": True}}
    client = Client().set_up(realtimeInputConfig=manual).send(speech(300))
    assert client.wire.heard == b""
    client.send({"realtimeInput": {"activityStart": {}}}).send(speech(300))
    client.send({"realtimeInput": {"activityEnd": {}}}).run(2.0)
    assert "turnComplete" in client.kinds() and client.wire.activities == ["start", "end"]
    assert client.send({"realtimeInput": {"audioStreamEnd": True}}).end == (1007, INVALID)


def test_the_end_of_the_stream_ends_the_turn() -> None:
    client = Client().set_up().send(speech(300)).run(2.0)
    assert "turnComplete" not in client.kinds()
    assert "turnComplete" in client.send({"realtimeInput": {"audioStreamEnd": True}}).run(2.0).kinds()


def test_a_nudge_is_needed_where_the_service_needs_one() -> None:
    client = Client(vendor=GeminiVendor(nudge_needed=True)).set_up().send(typed("hi")).run(2.0)
    assert "modelTurn" not in client.kinds()
    assert "modelTurn" in client.send({"realtimeInput": {"text": " "}}).run(2.0).kinds()


def test_handles_are_given_to_those_who_ask_and_not_in_mid_turn() -> None:
    assert "sessionResumptionUpdate" not in Client().set_up().send(typed("hi")).run(2.0).kinds()
    client = Client().set_up(sessionResumption={}).send(typed("hi")).run(2.0)
    updates = [message["sessionResumptionUpdate"] for message in client.heard if "sessionResumptionUpdate" in message]
    assert [update["resumable"] for update in updates] == [True, False, True]
    assert "newHandle" not in updates[1]


def test_vertex_calls_every_handle_resumable_and_counts_messages() -> None:
    client = Client(path=VERTEX).set_up(model=PLACE + "gemini-3.8-live", sessionResumption={"transparent": True})
    client.send(typed("hi")).run(2.0)
    updates = [message["sessionResumptionUpdate"] for message in client.heard if "sessionResumptionUpdate" in message]
    assert all(update["resumable"] and update["newHandle"] for update in updates)
    assert [update["lastConsumedClientMessageIndex"] for update in updates] == ["0", "1", "1"]


def test_a_resume_is_refused_while_the_earlier_socket_is_open() -> None:
    vendor = GeminiVendor()
    first = Client(vendor=vendor).set_up(sessionResumption={}).send(typed("remember me")).run(2.0)
    handle = list(vendor.handles)[-1]
    second = Client(vendor=vendor, number=2).set_up(sessionResumption={"handle": handle})
    assert second.end == (1011, "Internal error encountered.")
    first.wire.closed(1000, "", 3.0)
    third = Client(vendor=vendor, number=3).set_up(sessionResumption={"handle": handle})
    assert third.end is None and third.wire.brain is not None
    assert "remember me" in [line.text for line in third.wire.brain.memory.lines]


@pytest.mark.parametrize(("path", "end"), [(DEVELOPER.format("v1beta"), 1011), (VERTEX, 1000)])
def test_go_away_and_the_end_that_follows(path: str, end: int) -> None:
    leaving = load_text("[session]\ngo_away_s = 1.0\ntime_left_s = 5.0")
    client = Client(leaving, path=path).set_up(model=PLACE + "gemini-3.8-live" if path == VERTEX else MODEL).run(2.0)
    assert client.heard[-1] == {"goAway": {"timeLeft": "5s"}}
    client.run(5.0)
    assert client.end is not None and client.end[0] == end


TOOLS = load_text(
    '[pace]\nspeed = 100.0\nlatency_ms = 10\n[[turns]]\nturn = 1\ncalls = [{ name = "f" }]\n'
    'answer = { kind = "tone", duration_ms = 100 }'
)


def call_of(client: Client) -> dict[str, Any]:
    called: dict[str, Any] = next(
        message["toolCall"]["functionCalls"][0] for message in client.heard if "toolCall" in message
    )
    return called


def test_3_8_ends_the_turn_with_the_call_and_speaks_in_the_next() -> None:
    client = Client(TOOLS).set_up().send(typed("go")).run(1.0)
    assert client.kinds()[-4:] == ["toolCall", "generationComplete", "turnComplete", "usageMetadata"]
    answer = {"id": call_of(client)["id"], "name": "f", "response": {"output": "x"}}
    client.send({"toolResponse": {"functionResponses": [answer]}}).run(1.0)
    assert client.kinds()[-4:] == ["modelTurn", "generationComplete", "turnComplete", "usageMetadata"]


def test_an_answer_without_its_id_is_refused_by_one_backend_and_dropped_by_the_other() -> None:
    for path, model, end in (
        (DEVELOPER.format("v1beta"), MODEL, (1007, INVALID)),
        (VERTEX, PLACE + "gemini-3.8-live", None),
    ):
        client = Client(TOOLS, path=path).set_up(model=model).send(typed("go")).run(1.0)
        client.send({"toolResponse": {"functionResponses": [{"name": "f", "response": {"output": "x"}}]}}).run(1.0)
        assert client.end == end and "modelTurn" not in client.kinds()


def test_speech_of_the_user_cancels_a_blocking_call() -> None:
    client = Client(TOOLS).set_up().send(typed("go")).run(1.0).send(speech(200))
    assert {"toolCallCancellation": {"ids": [call_of(client)["id"]]}} in client.heard


def test_extended_thinking_tells_voice_activity_and_status() -> None:
    client = Client().set_up(model=EXTENDED, generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}})
    client.send(speech(300)).send(audio(bytes(16_000))).run(2.0)
    assert client.heard[1]["voiceActivity"]["type"] == "ACTIVITY_START"
    done = [message["serverContent"] for message in client.heard if "turnComplete" in message.get("serverContent", {})]
    assert done[0]["interactionStatus"] == "IDLE"


@pytest.mark.parametrize(("path", "key"), [("v1beta", "responseTokenCount"), ("vertex", "candidatesTokenCount")])
def test_each_backend_spells_usage_its_own_way(path: str, key: str) -> None:
    vertex = path == "vertex"
    client = Client(path=VERTEX if vertex else "").set_up(model=PLACE + "gemini-3.8-live" if vertex else MODEL)
    client.send(typed("hi")).run(2.0)
    assert key in next(message["usageMetadata"] for message in client.heard if "usageMetadata" in message)


def test_a_go_away_comes_when_a_test_says_and_ends_as_announced() -> None:
    client = Client().set_up()
    client._take(client.wire.planned(GoAway(time_left_s=3), client.now))
    assert client.heard[-1] == {"goAway": {"timeLeft": "3s"}}
    assert client.run(2.9).end is None
    assert client.run(0.2).end == (1011, "Deadline expired before operation could complete.")


def test_a_used_up_quota_is_said_in_the_services_words_which_end_the_call() -> None:
    client = Client().set_up()
    client._take(client.wire.planned(Quota(), client.now))
    assert client.end is not None
    assert isinstance(close_error(*client.end, ready=True, resumed=False), ProviderRejected)


def test_expired_handles_are_refused_and_those_of_others_are_not() -> None:
    vendor = GeminiVendor()
    first = Client(vendor=vendor, number=1).set_up(sessionResumption={})
    other = Client(vendor=vendor, number=2).set_up(sessionResumption={})
    mine, theirs = vendor.handles
    first._take(first.wire.planned(ExpireHandles(), first.now))
    assert first.end is None, "the connection goes on"
    for client in (first, other):
        client.wire.closed(1000, "", client.now)
    refused = Client(vendor=vendor, number=3).set_up(sessionResumption={"handle": mine})
    assert refused.end == (1008, "Requested entity was not found.")
    resumed = Client(vendor=vendor, number=4).set_up(sessionResumption={"handle": theirs})
    assert resumed.end is None and resumed.wire.session_key == other.wire.session_key != first.wire.session_key


def test_a_switch_allows_a_resume_beside_the_earlier_connection() -> None:
    vendor = GeminiVendor()
    first = Client(vendor=vendor).set_up(sessionResumption={})
    handle = next(iter(vendor.handles))
    assert Client(vendor=vendor, number=2).set_up(sessionResumption={"handle": handle}).end == (
        1011,
        "Internal error encountered.",
    )
    free = FAST.with_session(overlap=True)
    assert Client(free, vendor=vendor, number=3).set_up(sessionResumption={"handle": handle}).end is None
    assert first.end is None
