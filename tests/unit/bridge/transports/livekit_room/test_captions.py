from __future__ import annotations

from bridge.core.words import Caption, ParticipantId
from bridge.transports.livekit_room.captions import CaptionQueue, SegmentTexts, stream_attributes

ANN = ParticipantId("ann")


def ours(text: str, final: bool = False, segment: str = "s1") -> Caption:
    return Caption(segment, None, text, final)


def theirs(text: str, final: bool = False, segment: str = "u1") -> Caption:
    return Caption(segment, ANN, text, final)


def test_the_agents_waiting_pieces_are_joined() -> None:
    queue = CaptionQueue()
    for caption in (ours("Good "), ours("morning."), ours("", final=True)):
        queue.put(caption)
    assert queue.get() == ours("Good morning.", final=True)
    assert queue.get() is None


def test_a_users_newer_text_replaces_the_waiting_one() -> None:
    queue = CaptionQueue()
    queue.put(theirs("good"))
    queue.put(theirs("Good morning", final=True))
    assert queue.get() == theirs("Good morning", final=True)
    assert queue.get() is None


def test_order_across_speakers_is_kept() -> None:
    queue = CaptionQueue()
    for caption in (theirs("Hello", final=True), ours("Hi"), theirs("So"), ours(" there")):
        queue.put(caption)
    got = [caption.text for caption in iter(queue.get, None)]
    assert got == ["Hello", "Hi", "So", " there"]


def test_a_finished_segment_is_not_reopened_by_a_neighbour() -> None:
    queue = CaptionQueue()
    queue.put(ours("One.", final=True))
    queue.put(ours("Two.", segment="s1"))
    assert len(queue) == 2


def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    queue = CaptionQueue(limit=2)
    for number in range(3):
        queue.put(theirs(str(number), final=True, segment=str(number)))
    assert queue.dropped == 1
    first = queue.get()
    assert first is not None
    assert first.text == "1"


def test_packets_carry_the_whole_segment() -> None:
    texts = SegmentTexts()
    assert texts.add(ours("Good ")) == "Good "
    assert texts.add(theirs("Yes")) == "Yes"
    assert texts.add(ours("morning.", final=True)) == "Good morning."
    assert texts.add(ours("New")) == "New"


def test_open_segments_are_bounded() -> None:
    texts = SegmentTexts(limit=2)
    for number in range(3):
        texts.add(ours(str(number), segment=str(number)))
    assert texts.add(ours("!", segment="0")) == "!"
    assert texts.add(ours("!", segment="2")) == "2!"


def test_stream_attributes_are_livekits() -> None:
    assert stream_attributes("s1", False, "TR_1") == {
        "lk.segment_id": "s1",
        "lk.transcription_final": "false",
        "lk.transcribed_track_id": "TR_1",
    }
    assert "lk.transcribed_track_id" not in stream_attributes("s1", True, "")
