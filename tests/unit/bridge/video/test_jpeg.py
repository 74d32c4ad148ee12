"""A frame becomes a JPEG that shows the same, upright, within the bounds in pixels and bytes."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from bridge.video.jpeg import JpegTooLarge, encode, pillow_problem
from bridge.video.picture import Picture, Plane, Rotation
from tests.fakes.pictures import four_colours, noise, opened, picture

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (240, 240, 240)


def quarters(jpeg: bytes) -> list[tuple[int, int, int]]:
    image = opened(jpeg)
    width, height = image.size
    places = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    seen = [image.getpixel(place) for place in places]
    known = [RED, GREEN, BLUE, WHITE]

    def distance(a: Any, b: tuple[int, int, int]) -> int:
        return max(int(abs(one - other)) for one, other in zip(a, b, strict=True))

    nearest = [min(known, key=lambda colour: distance(pixel, colour)) for pixel in seen]
    assert all(distance(pixel, colour) <= 8 for pixel, colour in zip(seen, nearest, strict=True)), seen
    return nearest


def jpeg_of(shown: Picture, *, side: int = 1024, quality: int = 75, most: int = 150_000) -> tuple[bytes, int, int]:
    made = encode(shown, max_side_px=side, quality=quality, max_bytes=most)
    assert opened(made.data).size == (made.width, made.height)
    assert len(made.data) <= most
    return made.data, made.width, made.height


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_those_of_the_frame(padding: int, full_range: bool) -> None:
    data, width, height = jpeg_of(picture(four_colours(320, 240), padding=padding, full_range=full_range))
    assert (width, height) == (320, 240)
    assert quarters(data) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1920, 1080), (1024, 576)),
        ((1080, 1920), (576, 1024)),
        ((1024, 768), (1024, 768)),
        ((641, 359), (641, 359)),
        ((3001, 17), (1024, 6)),
        ((64, 64), (64, 64)),
    ],
)
def test_the_longest_side_is_bounded_the_aspect_kept_and_nothing_is_made_larger(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    _, width, height = jpeg_of(picture(four_colours(*size)))
    assert (width, height) == wanted


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 3), (17, 5), (5, 17), (333, 111)])
def test_odd_sizes_are_whole(size: tuple[int, int]) -> None:
    _, width, height = jpeg_of(picture(four_colours(*size)))
    assert (width, height) == size


@pytest.mark.parametrize(
    ("rotation", "wanted"),
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        (90, [BLUE, RED, WHITE, GREEN]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_a_turned_frame_stands_upright(rotation: Rotation, wanted: list[tuple[int, int, int]]) -> None:
    data, width, height = jpeg_of(picture(four_colours(200, 100), rotation=rotation), side=120)
    assert (width, height) == ((120, 60) if rotation in (0, 180) else (60, 120))
    assert quarters(data) == wanted


def test_a_still_that_is_too_large_loses_quality_first_and_pixels_then() -> None:
    shown = picture(noise(640, 480))
    full = encode(shown, max_side_px=640, quality=90, max_bytes=1_000_000)
    coarse = encode(shown, max_side_px=640, quality=90, max_bytes=len(full.data) // 2)
    small = encode(shown, max_side_px=640, quality=90, max_bytes=20_000)
    assert (full.width, full.quality) == (640, 90)
    assert (coarse.width, coarse.quality < 90) == (640, True)
    assert small.width < 640 and small.width / small.height == pytest.approx(4 / 3, abs=0.02)
    assert len(small.data) <= 20_000


def test_what_cannot_be_small_enough_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(JpegTooLarge, match="300 are allowed"):
        encode(picture(noise(640, 480)), max_side_px=640, quality=75, max_bytes=300)


@pytest.mark.parametrize(
    "torn",
    [
        Picture(0, 10, Plane(b"", 0), Plane(b"", 0), Plane(b"", 0)),
        Picture(10, 10, Plane(bytes(90), 10), Plane(bytes(25), 5), Plane(bytes(25), 5)),
        Picture(10, 10, Plane(bytes(100), 8), Plane(bytes(25), 5), Plane(bytes(25), 5)),
        Picture(10, 10, Plane(bytes(100), 10), Plane(bytes(25), 5), Plane(bytes(24), 5)),
        Picture(100_000, 100_000, Plane(bytes(100), 10), Plane(bytes(25), 5), Plane(bytes(25), 5)),
    ],
    ids=["empty", "short", "narrow", "short-chroma", "huge"],
)
def test_a_torn_frame_is_refused(torn: Picture) -> None:
    with pytest.raises(ValueError, match=r"a plane of|a frame of"):
        encode(torn, max_side_px=1024, quality=75, max_bytes=150_000)


def test_a_missing_library_is_told_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pillow_problem() is None
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert "roombridge[video]" in str(pillow_problem())
