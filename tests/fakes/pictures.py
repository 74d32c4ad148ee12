"""Video frames for tests: made from colours, watched for their release, read back from the JPEG."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from bridge.video.picture import Picture, Plane, Rotation

__all__ = ["FakeFrame", "Rgb", "four_colours", "noise", "opened", "picture"]

Rgb = npt.NDArray[np.uint8]
"""Height, width, three colours."""


def four_colours(width: int, height: int) -> Rgb:
    """Red and green above blue and white."""
    rgb = np.empty((height, width, 3), np.uint8)
    top, left = (height + 1) // 2, (width + 1) // 2
    rgb[:top, :left] = 220, 30, 30
    rgb[:top, left:] = 30, 200, 30
    rgb[top:, :left] = 30, 30, 220
    rgb[top:, left:] = 240, 240, 240
    return rgb


def noise(width: int, height: int, seed: int = 1) -> Rgb:
    """What no encoder can make small."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(rgb: Rgb, *, padding: int = 0, rotation: Rotation = 0, full_range: bool = False) -> Picture:
    """The frame that a decoder would give for these colours (BT.601); `padding` bytes follow each row."""
    height, width, _ = rgb.shape
    red, green, blue = (rgb[..., channel].astype(float) for channel in range(3))
    if full_range:
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        u = 128 + 0.5 / 0.886 * (blue - y)
        v = 128 + 0.5 / 0.701 * (red - y)
    else:
        y = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
        u = 128 + (-37.797 * red - 74.203 * green + 112 * blue) / 255
        v = 128 + (112 * red - 93.786 * green - 18.214 * blue) / 255
    return Picture(
        width,
        height,
        _plane(y, padding),
        _plane(_halved(u), padding),
        _plane(_halved(v), padding),
        rotation=rotation,
        full_range=full_range,
    )


def opened(jpeg: bytes) -> Image.Image:
    """The picture again, as RGB."""
    with Image.open(BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return image.convert("RGB")


class FakeFrame:
    """A frame that notes its release."""

    def __init__(self, shown: Picture | None = None) -> None:
        self.released = 0
        self._shown = shown or picture(four_colours(64, 48))

    def picture(self) -> Picture:
        assert not self.released, "read after it was given back"
        return self._shown

    def release(self) -> None:
        self.released += 1


def _halved(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    height, width = samples.shape
    even = np.pad(samples, ((0, height % 2), (0, width % 2)), mode="edge")
    halved: npt.NDArray[np.float64] = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3))
    return halved


def _plane(samples: npt.NDArray[np.float64], padding: int) -> Plane:
    rows = np.pad(np.clip(np.round(samples), 0, 255).astype(np.uint8), ((0, 0), (0, padding)))
    return Plane(rows.tobytes()[: rows.size - padding], rows.shape[1])
