"""Whatever happens to the sessions of a call: each frame goes to the leader once and in order, or a counter says so."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.sessions.feed import SessionFeed
from bridge.sessions.hearing import Hearing
from bridge.sessions.tape import Tape
from providers.contract import Capabilities, SessionStart, TurnDetector
from providers.signal.formats import AudioFormat, Encoding
from tests.fakes.hand_model import CAPABILITIES, HandSession

BUS = AudioFormat(Encoding.PCM16, 8_000)
FRAME_BYTES = 320
KEPT = 40
A_MINUTE, HALF_A_SECOND = 3000, 25
PLAIN = msgspec.structs.replace(CAPABILITIES, input_formats=(BUS,))


class Line:
    """A call's sessions, and a record of what its leaders were given."""

    def __init__(self, capabilities: Capabilities = PLAIN) -> None:
        self.capabilities = capabilities
        self.tape = Tape(KEPT * 20, BUS)
        self.hearing = Hearing(self.tape)
        self.feeds: dict[int, SessionFeed] = {}
        self.sessions: dict[int, HandSession] = {}
        self.leader: int | None = None
        self.lost: list[int] = []
        self.minted = 0
        self.next = 0
        """The frame that the conversation has to hear next."""
        self.missed = 0
        self.replayed = 0
        self.rewound: int | None = None
        self.jumps = False
        """The next leader begins where a rewind says."""
        self.goes_on: dict[int, tuple[int, int, int]] = {}
        """Of each that listened in and took the lead: how much it had heard, what is next, and how much was lost."""
        self.replies = 0

    def opens(self) -> int:
        self.minted += 1
        session = HandSession(SessionStart(number=self.minted), self.capabilities)
        self.sessions[self.minted] = session
        self.feeds[self.minted] = SessionFeed(session, bus=BUS, room=BUS)
        return self.minted

    def turns(self, leader: int | None) -> None:
        if leader != self.leader:
            self.goes_back()
        if leader is not None and leader != self.leader:
            self.jumps = False
        self.leader = leader
        self.hearing.turn_to(list(self.feeds.values()), leader)

    def goes_back(self) -> None:
        if self.rewound is not None:
            self.missed += self.tape.cursor - self.next
            self.next, self.rewound = max(self.rewound, self.tape.start), None
            self.replayed += self.tape.cursor - self.next

    # what may happen

    def speech(self, count: int) -> None:
        for _ in range(count):
            loud = (self.tape.end // 100) % 2
            frame = self.tape.end.to_bytes(4, "little") + (b"\0\x20" if loud else b"\0\0") * (FRAME_BYTES // 2 - 2)
            self.hearing.hear(frame)

    def recording(self, count: int) -> None:
        for _ in range(count):
            self.hearing.hear_later(self.tape.end.to_bytes(4, "little") + bytes(FRAME_BYTES - 4))

    def hands_over(self, _: int) -> None:
        before, successor = self.leader, self.opens()
        if before is not None:
            del self.feeds[before]
        self.turns(successor)

    def promotes(self, choice: int) -> None:
        beside = [number for number in self.feeds if number != self.leader]
        if beside:
            before, chosen = self.leader, beside[choice % len(beside)]
            if before is not None:
                del self.feeds[before]
            if not self.jumps:
                # What it heard while somebody led before it needs no second hearing; what nobody led through may get
                # one: the call goes on where the leader was left, or where this one is if it heard from there on.
                heard, left_at = heard_by(self.sessions[chosen]), self.tape.cursor
                was_there = heard and heard[0] <= left_at <= heard[-1] + 1
                following = heard[-1] + 1 if was_there else left_at
                self.goes_on[chosen] = len(heard), following, self.tape.stats.first_words_dropped_frames
            self.turns(chosen)

    def loses(self, _: int) -> None:
        if self.leader is not None:
            self.goes_back()
            del self.feeds[self.leader]
            self.lost.append(self.leader)
            self.hearing.forget(self.leader)
            self.leader = None

    def rewinds(self, by: int) -> None:
        left_at = self.tape.cursor
        self.jumps = True
        self.rewound = self.hearing.rewind(left_at - by)
        if self.leader is None:
            self.missed += left_at - self.next
            self.next, self.rewound = self.rewound, None
            self.replayed += left_at - self.next

    def catches_up(self, count: int) -> None:
        for _ in range(count):
            passed = self.hearing.catch_up()
            assert passed <= HALF_A_SECOND, "more would overflow a socket's buffer"
            if passed and self.leader is not None:
                assert not self.sessions[self.leader].outbox.waiting_audio_ms, "its socket is full"

    def stalls(self, choice: int) -> None:
        """One socket is full, or takes audio again."""
        session = self.sessions[choice % self.minted + 1] if self.minted else None
        if session is not None:
            session.outbox.waiting_audio_ms = 0 if session.outbox.waiting_audio_ms else 20

    def begins_reply(self, _: int) -> None:
        self.replies += 1
        self.hearing.reply_started(f"r{self.replies}")

    def completes_reply(self, back: int) -> None:
        self.hearing.turn_complete(f"r{self.replies - back}")

    def begins_to_speak(self, _: int) -> None:
        self.marks(True)

    def ends_to_speak(self, _: int) -> None:
        self.marks(False)

    def marks(self, speaking: bool) -> None:
        leader = None if self.leader is None else self.sessions[self.leader]
        told = [] if leader is None else list(leader.commands)
        self.hearing.mark(speaking)
        if leader is not None and self.tape.cursor < self.tape.end:
            assert leader.commands == told, "older words come first, and are of the same turn"

    def somebody_listens_in(self, _: int) -> None:
        if self.leader is not None:
            self.opens()
            self.turns(self.leader)


def happenings(*more: Callable[[Line, int], None]) -> st.SearchStrategy[list[tuple[Callable[[Line, int], None], int]]]:
    counted = st.tuples(st.sampled_from((*[Line.speech] * 4, Line.recording)), st.integers(1, 120))
    others = (
        Line.loses, Line.rewinds, Line.stalls, Line.begins_reply, Line.completes_reply,
        *[Line.hands_over, Line.catches_up] * 3, *more, *more, *more,
    )  # fmt: skip
    return st.lists(
        st.one_of(counted, st.tuples(st.sampled_from(others), st.integers(0, 30))), min_size=15, max_size=50
    )


def heard_by(session: HandSession) -> list[int]:
    heard = session.heard
    assert len(heard) % FRAME_BYTES == 0
    return [int.from_bytes(heard[place : place + 4], "little") for place in range(0, len(heard), FRAME_BYTES)]


@settings(max_examples=150, deadline=None)
@given(happenings())
def test_leaders_hear_each_frame_once_and_in_order_and_what_is_lost_is_counted(
    happens: list[tuple[Callable[[Line, int], None], int]],
) -> None:
    line = Line()
    tape = line.tape
    for happening, number in happens:
        dropped = tape.stats.first_words_dropped_frames
        settled, unsettled_dropped = tape.settled, tape.stats.unsettled_dropped_frames
        happening(line, number)
        if line.leader is not None:
            for heard in heard_by(line.sessions[line.leader]):
                assert heard >= line.next, "once, and in order"
                line.missed += heard - line.next
                line.next = heard + 1
            line.sessions[line.leader].heard.clear()
        if tape.stats.first_words_dropped_frames > dropped:
            assert tape.end - tape.cursor == KEPT, "nothing goes that may stay"
        assert line.missed + tape.cursor - line.next == tape.stats.first_words_dropped_frames
        assert tape.start <= min(tape.cursor, tape.settled) and tape.settled <= tape.end
        assert line.hearing.unsettled() <= tape.cursor <= tape.end
        assert tape.end - tape.cursor <= (KEPT if line.leader is None else A_MINUTE)
        if happening in (Line.speech, Line.recording) and number > HALF_A_SECOND:  # so often it looks what may go
            assert min(tape.end - KEPT, tape.cursor) - tape.settled <= HALF_A_SECOND
        assert len(tape) <= tape.end - min(tape.cursor, tape.settled) + 2 * HALF_A_SECOND
        assert tape.stats.replayed_frames == line.replayed
        assert settled <= tape.settled <= max(settled, tape.cursor)
        if happening not in (Line.completes_reply, Line.catches_up):  # these settle
            assert tape.settled - settled == tape.stats.unsettled_dropped_frames - unsettled_dropped


SLOW_LISTENER = [
    (Line.hands_over, 0), (Line.somebody_listens_in, 0), (Line.speech, 5), (Line.stalls, 1), (Line.recording, 60),
    (Line.catches_up, 9), (Line.speech, 120), (Line.speech, 120), (Line.stalls, 1), (Line.catches_up, 20),
]  # fmt: skip

WAS_THERE = [
    (Line.hands_over, 0), (Line.somebody_listens_in, 0), (Line.speech, 10), (Line.loses, 0), (Line.speech, 10),
    (Line.promotes, 0), (Line.catches_up, 5), (Line.speech, 5),
]  # fmt: skip
HEARD_AGAIN = [(Line.hands_over, 0), (Line.speech, 10), (Line.rewinds, 3), (Line.hands_over, 0), (Line.catches_up, 5)]
CAME_LATER = [
    (Line.hands_over, 0), (Line.stalls, 0), (Line.recording, 30), (Line.somebody_listens_in, 0), (Line.speech, 10),
    (Line.promotes, 0), (Line.catches_up, 5), (Line.speech, 5),
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@example(SLOW_LISTENER)
@example(WAS_THERE)
@example(CAME_LATER)
@example([*HEARD_AGAIN, *WAS_THERE[1:]])
@given(happenings(Line.somebody_listens_in, Line.promotes))
def test_whoever_hears_beside_the_leader_hears_without_a_gap_and_goes_on_there_when_it_leads(
    happens: list[tuple[Callable[[Line, int], None], int]],
) -> None:
    line = Line()
    led: set[int] = set()
    for happening, number in happens:
        happening(line, number)
        if line.leader is not None:
            led.add(line.leader)
        for beside, session in line.sessions.items():
            heard = heard_by(session)
            if beside not in led and heard:
                assert heard == list(range(heard[0], heard[0] + len(heard)))
        for successor, (known, following, dropped) in line.goes_on.items():
            if line.tape.stats.first_words_dropped_frames == dropped:
                heard = heard_by(line.sessions[successor])[known:]
                assert heard == list(range(following, following + len(heard)))


@settings(max_examples=100, deadline=None)
@given(happenings(Line.begins_to_speak, Line.ends_to_speak))
def test_of_models_that_are_told_the_turns_each_hears_whole_turns_and_nothing_twice(
    happens: list[tuple[Callable[[Line, int], None], int]],
) -> None:
    line = Line(msgspec.structs.replace(PLAIN, turn_detector=TurnDetector.CLIENT))
    last = -1
    for happening, number in happens:
        if happening is Line.rewinds:
            continue
        happening(line, number)
        for number, session in line.sessions.items():
            turns = [command for command in session.commands if "activity" in command]
            assert turns == ["start_activity", "end_activity"] * (len(turns) // 2) + turns[len(turns) // 2 * 2 :]
            assert turns[-1:] != ["start_activity"] or number == line.leader or number in line.lost
            for heard in heard_by(session):
                assert heard > last, "by whichever session"
                last = heard
            session.heard.clear()
