"""A replayed capture: at its pace, held back for the client, and exact about where a client departs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.emulators.capture import Capture, Closing, Entry, Head, Refused
from providers.emulators.replay import ReplayVendor, ReplayWire
from providers.emulators.wire import Hangup, Outgoing, Output, Strike, UpgradeRequest
from providers.scripted.faults import Abort
from providers.scripted.scenario import Scenario

OPENAI = Head(version=1, vendor="openai", path="/v1/realtime", query={"model": "m"})
GEMINI = Head(version=1, vendor="gemini", path="/ws/live")


def says(at: float, **message: Any) -> Entry:
    return Entry(at=at, sender="server", message=message)


def hears(at: float, **message: Any) -> Entry:
    return Entry(at=at, sender="client", message=message)


class Replay:
    """One client of one capture, on a clock of its own."""

    def __init__(self, *entries: Entry, head: Head = OPENAI, speed: float = 1.0) -> None:
        self.told: list[str] = []
        self.vendor = ReplayVendor([Capture("it.jsonl", head, entries)], speed=speed, tell=self.told.append)
        request = UpgradeRequest(head.path, dict(head.query), {}, False)
        assert self.vendor.check(request) is None
        self.wire: ReplayWire = self.vendor.connect(Scenario(), request, 1)
        self.now = 100.0
        self.came: list[tuple[float, Any]] = []
        self.take(self.wire.opened(self.now))

    def take(self, output: list[Output]) -> None:
        for item in output:
            said: Any = json.loads(item.data) if isinstance(item, Outgoing) else item
            self.came.append((round(self.now - 100, 6), said))

    def run(self, until_s: float) -> Replay:
        while (due := self.wire.deadline()) is not None and due <= 100 + until_s + 1e-9:
            self.now = max(self.now, due)
            self.take(self.wire.handle_timeout(self.now))
        self.now = 100 + until_s
        return self

    def send(self, **message: Any) -> Replay:
        self.take(self.wire.received(json.dumps(message), self.now))
        return self

    @property
    def end(self) -> Hangup | None:
        return next((item for _, item in self.came if isinstance(item, Hangup)), None)


TALK = (
    says(0.1, type="session.created"),
    hears(0.2, type="session.update", session={"voice": "marin"}),
    says(0.5, type="session.updated"),
    hears(1.0, type="input_audio_buffer.append", audio="AAAA"),
    says(2.0, type="response.created"),
    hears(2.5, type="conversation.item.truncate", item_id="item_1", audio_end_ms=300),
    says(2.6, type="conversation.item.truncated"),
)


def test_the_server_speaks_at_its_pace_and_waits_for_the_client() -> None:
    replay = Replay(*TALK).run(5.0)
    assert replay.came == [(0.1, {"type": "session.created"})], "what follows is an answer"
    replay.send(type="session.update", session={"voice": "another"}).run(9.0)
    assert replay.came[1:] == [(5.3, {"type": "session.updated"}), (6.8, {"type": "response.created"})]
    replay.send(type="conversation.item.truncate", item_id="item_1", audio_end_ms=999).run(10.0)
    assert replay.came[3:] == [(9.1, {"type": "conversation.item.truncated"})]
    replay.wire.closed(1000, "", replay.now)
    assert (replay.vendor.departures, replay.vendor.played) == ([], 1)


def test_a_client_that_is_early_does_not_overtake_what_comes_before() -> None:
    replay = (
        Replay(*TALK)
        .send(type="session.update")
        .send(type="conversation.item.truncate", item_id="item_1", audio_end_ms=1)
    )
    replay.run(9.0)
    assert [at for at, _ in replay.came] == [0.1, 0.4, 1.9, 2.0]


def test_streamed_audio_is_neither_compared_nor_waited_for() -> None:
    replay = Replay(*TALK)
    for _ in range(50):
        replay.send(type="input_audio_buffer.append", audio="BBBB")
    assert replay.send(type="session.update").run(9.0).end is None
    assert len(replay.came) == 3 and not replay.told


def test_the_pace_can_be_another_one() -> None:
    assert [at for at, _ in Replay(*TALK, speed=10.0).send(type="session.update").run(9).came] == [0.01, 0.04, 0.19]


@pytest.mark.parametrize(
    ("message", "field", "expected", "got"),
    [
        ({"type": "response.create"}, "kind", "conversation.item.truncate", "response.create"),
        ({"type": "conversation.item.truncate", "item_id": "item_2"}, "item_id", "item_1", "item_2"),
        ({"type": "conversation.item.truncate"}, "item_id", "item_1", None),
        ({"nothing": 1}, "kind", "conversation.item.truncate", "?"),
    ],
)
def test_a_departure_names_line_and_field_and_ends_the_connection(
    message: dict[str, Any], field: str, expected: object, got: object
) -> None:
    replay = Replay(*TALK).send(type="session.update").run(3.0).send(**message).run(9.0)
    departure = replay.vendor.departures[0]
    assert (departure.capture, departure.line, departure.field) == ("it.jsonl", 7, field)
    assert (departure.expected, departure.got) == (expected, got)
    assert replay.end is not None and replay.end.code == 1008 and replay.end.reason.startswith(f"line 7, {field}: ")
    assert replay.told == [f"departed: {departure}"]
    replay.wire.closed(1008, "", replay.now)
    assert len(replay.vendor.departures) == 1 and replay.vendor.played == 0


def test_a_client_that_leaves_early_or_says_too_much_departs() -> None:
    early = Replay(*TALK).run(1.0)
    early.wire.closed(1000, "", early.now)
    assert [(one.line, one.expected, one.got) for one in early.vendor.departures] == [
        (3, "session.update", "the end, 1000")
    ]
    late = Replay(says(0.0, type="session.created")).send(type="session.update")
    assert [(one.line, one.expected, one.got) for one in late.vendor.departures] == [
        (2, "nothing more", "session.update")
    ]


def test_gemini_clients_may_spell_their_keys_either_way() -> None:
    recorded = (
        hears(0.0, setup={"model": "models/m", "sessionResumption": {"handle": "handle-1"}}),
        says(0.1, setupComplete={}),
        hears(0.2, realtimeInput={"audio": {"data": ""}}),
        hears(0.3, realtimeInput={"audioStreamEnd": True}),
        hears(0.4, toolResponse={"functionResponses": [{"id": "call-1", "name": "f"}]}),
        says(0.5, serverContent={}),
    )
    replay = Replay(*recorded, head=GEMINI)
    replay.send(setup={"model": "models/m", "session_resumption": {"handle": "handle-1"}}).run(1.0)
    replay.send(realtime_input={"media_chunks": [{}]}).send(realtime_input={"audio_stream_end": True})
    replay.send(tool_response={"function_responses": [{"id": "call-1", "name": "f", "response": {}}]}).run(2.0)
    assert [said for _, said in replay.came] == [{"setupComplete": {}}, {"serverContent": {}}]
    other = Replay(*recorded, head=GEMINI).send(setup={"model": "models/m"})
    assert [one.field for one in other.vendor.departures] == ["setup.sessionResumption.handle"]
    wrong = Replay(recorded[0], recorded[4], head=GEMINI)
    wrong.send(setup=recorded[0].message["setup"])  # type: ignore[index]
    wrong.send(toolResponse={"functionResponses": [{"id": "call-2", "name": "f"}]})
    assert [one.field for one in wrong.vendor.departures] == ["toolResponse.functionResponses[0].id"]


@pytest.mark.parametrize(
    ("code", "output"), [(1011, Hangup(1011, "oops")), (1005, Hangup(1000, "oops")), (1006, Strike(Abort()))]
)
def test_the_server_ends_as_it_ended(code: int, output: Output) -> None:
    closing = Entry(at=1.0, sender="server", close=Closing(code=code, reason="oops"))
    replay = Replay(says(0.5, type="session.created"), closing).run(2.0)
    assert replay.came[1:] == [(1.0, output)]
    replay.wire.closed(code, "", replay.now)
    assert replay.vendor.played == 1


def test_the_end_of_the_recorded_client_is_no_end_of_the_server() -> None:
    ended = Entry(at=1.0, sender="client", close=Closing(code=1000))
    replay = Replay(says(0.5, type="session.created"), ended).run(60.0)
    assert replay.end is None
    replay.wire.closed(1000, "", replay.now)
    assert replay.vendor.played == 1


def test_several_captures_are_played_one_to_each_connection_and_then_no_more() -> None:
    refused = Refused(status=429, body="slow", headers={"Retry-After": "1"})
    captures = [
        Capture("1", OPENAI, (Entry(at=0.0, sender="server", refused=refused),)),
        Capture("2", OPENAI, (says(0.0, type="session.created"),)),
    ]
    vendor = ReplayVendor(captures)
    request = UpgradeRequest("//v1//realtime", {"model": "m"}, {}, False)
    first = vendor.check(request)
    assert first is not None and (first.status, first.body, first.headers) == (429, "slow", {"Retry-After": "1"})
    assert vendor.check(request) is None
    assert vendor.connect(Scenario(), request, 2).capture.name == "2"
    third = vendor.check(request)
    assert third is not None and third.status == 503


@pytest.mark.parametrize(("path", "model", "field"), [("/other", "m", "path"), ("/v1/realtime", "n", "query.model")])
def test_another_path_or_model_departs_at_the_first_line(path: str, model: str, field: str) -> None:
    vendor = ReplayVendor([Capture("it", OPENAI, ())])
    refusal = vendor.check(UpgradeRequest(path, {"model": model}, {}, False))
    assert refusal is not None and refusal.status == 404 and f"it, line 1, {field}: " in refusal.body
    assert [(one.line, one.field) for one in vendor.departures] == [(1, field)]


@pytest.mark.parametrize(("captures", "speed"), [([], 1.0), ([OPENAI, GEMINI], 1.0), ([OPENAI], 0.0)])
def test_nothing_is_played_of_nothing_of_two_vendors_or_at_no_speed(captures: list[Head], speed: float) -> None:
    with pytest.raises(ValueError, match=r"captures|speed"):
        ReplayVendor([Capture("it", head, ()) for head in captures], speed=speed)
