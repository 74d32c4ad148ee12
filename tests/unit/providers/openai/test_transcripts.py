from __future__ import annotations

from providers.openai.transcripts import InputTranscripts, missing_tail


def test_pieces_add_up_and_items_stay_apart() -> None:
    heard = InputTranscripts()
    assert heard.append("a", "one") == "one"
    assert heard.append("b", "uno") == "uno"
    assert heard.append("a", " two") == "one two"


def test_empty_pieces_say_nothing() -> None:
    assert InputTranscripts().append("a", "") is None


def test_segments_are_joined_by_a_space() -> None:
    heard = InputTranscripts()
    heard.append_segment("a", "hello")
    assert heard.append_segment("a", "you") == "hello you"
    assert heard.append_segment("a", " there") == "hello you there"


def test_a_whole_text_takes_the_place_of_the_one_before() -> None:
    heard = InputTranscripts()
    assert heard.replace("a", "good") == "good"
    assert heard.replace("a", "good") is None
    assert heard.replace("a", "god") == "god"


def test_nothing_comes_after_the_final_text() -> None:
    heard = InputTranscripts()
    heard.append("a", "x")
    assert heard.complete("a")
    assert not heard.complete("a")
    assert heard.append("a", "y") is None
    assert heard.replace("a", "z") is None


def test_memory_is_bounded() -> None:
    heard = InputTranscripts()
    for number in range(1000):
        heard.append(f"i{number}", "x")
    assert heard.append("i0", "y") == "y"
    assert heard.append("i999", "y") == "xy"


def test_what_the_pieces_left_out_is_found() -> None:
    assert missing_tail("Hello", "Hello there") == " there"
    assert missing_tail("", "Hello") == "Hello"
    assert missing_tail("Hullo", "Hello") == ""
