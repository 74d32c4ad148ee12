"""A frame of a caller's decoder becomes the same picture, whatever its format, and is let go of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from av import VideoFrame

from bridge.transports.webrtc_call.frame import AvFrame
from bridge.video.jpeg import encode
from tests.fakes.pictures import four_colours, opened


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (322, 182)])
@pytest.mark.parametrize("pixels", ["rgb24", "yuv420p", "yuvj420p", "yuv444p"])
def test_it_shows_the_same_colours(size: tuple[int, int], pixels: str) -> None:
    width, height = size
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(four_colours(width, height)), format="rgb24")
    held = AvFrame(frame.reformat(format=pixels))
    made = encode(held.picture(), max_side_px=1024, quality=90, max_bytes=150_000)
    held.release()
    assert (made.width, made.height) == size
    picture = opened(made.data)
    for place, wanted in (((1, 1), (220, 30, 30)), ((3, 1), (30, 200, 30)), ((1, 3), (30, 30, 220))):
        pixel: Any = picture.getpixel((width * place[0] // 4, height * place[1] // 4))
        assert all(abs(got - want) < 20 for got, want in zip(pixel, wanted, strict=True)), (place, pixel)


def test_what_was_given_back_is_not_read() -> None:
    held = AvFrame(VideoFrame(64, 48, "yuv420p"))
    held.release()
    held.release()
    with pytest.raises(ValueError, match="given back"):
        held.picture()
