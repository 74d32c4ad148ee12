"""When a still is due, of which track, and for whom: decided by events and time alone."""

from __future__ import annotations

from itertools import pairwise

from bridge.core.commands import SendImage
from bridge.core.words import ImageCaptured, ParticipantId, VideoOffered, VideoSource, VideoWithdrawn
from bridge.video.settings import VideoSettings
from bridge.video.watching import Watching

BOTH = VideoSettings(sources=("camera", "screen"), interval_s=1.0, idle_interval_s=5.0)
ADA, BEN = ParticipantId("ada"), ParticipantId("ben")


def offer(track: str, source: str = "camera", who: ParticipantId = ADA) -> VideoOffered:
    return VideoOffered(who, VideoSource(source), track)


def watching(*offers: VideoOffered, settings: VideoSettings = BOTH) -> Watching:
    made = Watching(settings)
    for one in offers:
        made.handle(one)
    return made


def still(track: str = "a") -> ImageCaptured:
    return ImageCaptured(ADA, VideoSource.CAMERA, track, b"jpeg", "image/jpeg", 64, 48)


def sent_at(made: Watching, until: float, *, speaks_from: float = 1e9, session: int | None = 1) -> list[float]:
    """The times of stills in a call with a beat each 20 ms, in which a still takes 50 ms to make."""
    sent: list[float] = []
    ready: float | None = None
    for beat in range(int(until * 50)):
        now = beat / 50
        if ready is not None and now >= ready:
            ready = None
            if made.captured(still(), now, session):
                sent.append(now)
        if ready is None and made.due(now, session, lambda now=now: now >= speaks_from):  # type: ignore[misc]
            made.taken(now)
            ready = now + 0.05
    return sent


def track(made: Watching) -> str | None:
    return None if made.target is None else made.target.track_id


def test_off_by_default() -> None:
    assert track(watching(offer("a"), settings=VideoSettings())) is None


def test_a_shared_screen_goes_before_a_camera_and_the_newest_of_each_counts() -> None:
    made = watching(offer("old"), offer("new", who=BEN))
    assert track(made) == "new"
    made.handle(offer("screen", "screen"))
    made.handle(offer("third"))
    assert track(made) == "screen"
    made.handle(offer("screen2", "screen", BEN))
    assert track(made) == "screen2"
    for gone, then in (("screen2", "screen"), ("screen", "third"), ("third", "new"), ("new", "old"), ("old", None)):
        made.handle(VideoWithdrawn(gone))
        assert track(made) == then
    made.handle(VideoWithdrawn("old"))


def test_only_what_is_switched_on_is_watched() -> None:
    made = watching(offer("screen", "screen"), offer("a"))
    made.switch([VideoSource.CAMERA])
    assert track(made) == "a"
    made.switch([])
    assert track(made) is None
    made.switch([VideoSource.SCREEN])
    assert track(made) == "screen"


def test_at_most_one_a_second_while_somebody_speaks_and_one_in_five_else() -> None:
    sent = sent_at(watching(offer("a")), 20.0, speaks_from=10.0)
    gaps = [round(after - before, 2) for before, after in pairwise(sent)]
    assert sent[0] <= 0.1
    assert all(gap >= 1.0 for gap in gaps)
    quiet = [at for at in sent if at < 10.0]
    assert len(quiet) == 2
    loud = [at for at in sent if at >= 10.0]
    assert loud[0] <= 10.2, "whoever begins to speak is shown as he is now"
    assert 8 <= len(loud) <= 10


def test_no_session_no_still() -> None:
    assert sent_at(watching(offer("a")), 10.0, speaks_from=0.0, session=None) == []


def test_a_new_session_and_a_new_track_are_shown_at_once_but_not_sooner_than_a_second() -> None:
    made = watching(offer("a"))
    assert made.due(0.0, 1, lambda: False)
    made.taken(0.0)
    made.captured(still(), 0.1, 1)
    assert not made.due(2.0, 1, lambda: False)
    assert made.due(2.2, 2, lambda: False), "another session leads"
    made.taken(2.2)
    made.captured(still(), 2.3, 2)
    made.handle(offer("b"))
    assert not made.due(3.2, 2, lambda: False)
    assert made.due(3.4, 2, lambda: False)


def test_a_frame_that_made_no_still_is_not_tried_again_at_once() -> None:
    made = watching(offer("a"))
    made.taken(10.0)
    assert not made.due(10.5, 1, lambda: True)
    assert made.due(11.0, 1, lambda: True)


def test_whether_somebody_speaks_is_asked_ten_times_a_second_at_most() -> None:
    made = watching(offer("a"))
    made.captured(still(), 0.0, 1)
    asked = 0

    def speaks() -> bool:
        nonlocal asked
        asked += 1
        return False

    for beat in range(50, 100):
        made.due(beat / 50, 1, speaks)
    assert asked <= 10


def test_a_still_of_what_was_switched_off_meanwhile_is_not_sent() -> None:
    made = watching(offer("a"))
    assert made.captured(still(), 1.0, 1) == [SendImage(still())]
    assert made.captured(still(), 1.0, None) == []
    assert made.captured(still("other"), 1.0, 1) == []
    made.switch([])
    assert made.captured(still(), 1.0, 1) == []


def test_an_idle_interval_below_the_interval_does_not_count() -> None:
    settings = VideoSettings(sources=("camera",), interval_s=4.0, idle_interval_s=1.0)
    assert len(sent_at(watching(offer("a"), settings=settings), 10.0)) == 3


def test_what_is_remembered_of_a_room_is_bounded() -> None:
    made = watching(*(offer(str(number)) for number in range(100)))
    for number in range(99, 35, -1):
        assert track(made) == str(number)
        made.handle(VideoWithdrawn(str(number)))
    assert track(made) is None
