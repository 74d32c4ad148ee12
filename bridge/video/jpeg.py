"""A decoded frame as a JPEG that a model takes: turned upright, no larger than asked, in pixels and in bytes.

The planes of the decoder are scaled as they are and handed to the encoder as they are: YCbCr is what JPEG holds, so no
colours are converted. For a frame of 1280x720 that is 8 ms, most of it in native code without the lock of the
interpreter. It still belongs into a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bridge.video.picture import Picture, Plane

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Jpeg", "JpegTooLarge", "encode", "pillow_problem"]

MIME_TYPE = "image/jpeg"

_LEAST_QUALITY = 40
"""Below it text on a screen is lost sooner than by fewer pixels."""
_QUALITY_STEP = 15
_SHRINK = 0.75
_LEAST_SIDE_PX = 48
_MOST_PIXELS = 64_000_000
"""No camera has more; a frame that says so is torn."""

_LUMA = [min(255, max(0, round((value - 16) * 255 / 219))) for value in range(256)]
_CHROMA = [min(255, max(0, round((value - 128) * 255 / 224 + 128))) for value in range(256)]


class JpegTooLarge(ValueError):
    """No quality and size were small enough."""


class Jpeg(msgspec.Struct, frozen=True, gc=False):
    data: bytes
    width: int
    height: int
    quality: int
    """What it was encoded with in the end."""


def pillow_problem() -> str | None:
    """Why no JPEG can be made here; None if one can. Loads the library."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return "install the extra: pip install 'roombridge[video]'"
    return None


def encode(picture: Picture, *, max_side_px: int, quality: int, max_bytes: int) -> Jpeg:
    """The picture, upright, with its own aspect.

    Raises: ValueError for planes that do not hold what the picture says, JpegTooLarge if it does not fit `max_bytes`
    however small.
    """
    turned = picture.rotation in (90, 270)
    width, height = _fitting(picture.width, picture.height, max_side_px)
    while True:
        image = _image(picture, width, height)
        for chosen in _qualities(quality):
            data = _saved(image, chosen)
            if len(data) <= max_bytes:
                return Jpeg(data, image.width, image.height, chosen)
        longest = max(width, height)
        if longest * _SHRINK < _LEAST_SIDE_PX:
            size = f"{height}x{width}" if turned else f"{width}x{height}"
            raise JpegTooLarge(f"{len(data)} bytes at {size} px, {max_bytes} are allowed")
        width, height = _fitting(picture.width, picture.height, int(longest * _SHRINK))


def _qualities(quality: int) -> list[int]:
    """From the one asked for down to the least that is worth it."""
    steps = range(quality, _LEAST_QUALITY, -_QUALITY_STEP)
    return [*steps, min(quality, _LEAST_QUALITY)]


def _fitting(width: int, height: int, max_side_px: int) -> tuple[int, int]:
    if width < 1 or height < 1 or width * height > _MOST_PIXELS:
        raise ValueError(f"a frame of {width}x{height} px")
    scale = min(1.0, max_side_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _image(picture: Picture, width: int, height: int) -> Image:
    """Upright, of this size before it is turned."""
    from PIL import Image

    half = (picture.width + 1) // 2, (picture.height + 1) // 2
    luma = _plane(picture.y, picture.width, picture.height)
    chroma = [_plane(plane, *half) for plane in (picture.u, picture.v)]
    # A step to a simple fraction first, then a true filter: as good, and a large frame costs half as much.
    planes = [
        plane if plane.size == (width, height) else plane.resize((width, height), Image.Resampling.BILINEAR, None, 2.0)
        for plane in (luma, *chroma)
    ]
    if not picture.full_range:
        planes = [planes[0].point(_LUMA), planes[1].point(_CHROMA), planes[2].point(_CHROMA)]
    image = Image.merge("YCbCr", planes)
    match picture.rotation:
        case 90:
            return image.transpose(Image.Transpose.ROTATE_270)  # Pillow turns the other way round
        case 180:
            return image.transpose(Image.Transpose.ROTATE_180)
        case 270:
            return image.transpose(Image.Transpose.ROTATE_90)
        case _:
            return image


def _plane(plane: Plane, width: int, height: int) -> Image:
    from PIL import Image

    data = memoryview(plane.data).cast("B")
    needed = plane.stride * (height - 1) + width
    if plane.stride < width or len(data) < needed:
        raise ValueError(f"a plane of {len(data)} bytes, stride {plane.stride}, for {width}x{height} samples")
    rows: Any = data  # any buffer will do, whatever the stubs say
    if len(data) < plane.stride * height:
        rows = bytearray(plane.stride * height)  # Pillow reads whole rows
        rows[: len(data)] = data
    return Image.frombuffer("L", (width, height), rows, "raw", "L", plane.stride, 1)


def _saved(image: Image, quality: int) -> bytes:
    from io import BytesIO

    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()
