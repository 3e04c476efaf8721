"""From an image file to upright RGB pixels."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from inference_service.engine import BadAskError

FORMATS = ("JPEG", "PNG", "WEBP")

LONGEST_RATIO = 200
"""Between the sides of an image; the model's own resizing refuses more."""


def upright(content: bytes, max_pixels: int) -> Image.Image:
    """Decodes a file and turns the picture the way its EXIF orientation says; transparency is laid over white.

    Raises BadAskError for a file that is no JPEG, PNG or WebP, is damaged, holds more than `max_pixels` pixels, or is
    more than 200 times as long as wide.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is judged by our own limit below
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise BadAskError(
                        "IMAGE_TOO_MANY_PIXELS", f"{width * height} pixels are too many; at most {max_pixels}"
                    )
                if max(width, height) > LONGEST_RATIO * min(width, height):
                    raise BadAskError("IMAGE_ASPECT_UNSUPPORTED", f"one side is over {LONGEST_RATIO} times the other")
                picture.load()
                turned = ImageOps.exif_transpose(picture)
                if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
                    layer = turned.convert("RGBA")
                    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
                    turned = Image.alpha_composite(white, layer)
                return turned.convert("RGB")
    except BadAskError:
        raise
    except UnidentifiedImageError as error:
        raise BadAskError("IMAGE_UNREADABLE", "the image is no readable JPEG, PNG or WebP file") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise BadAskError("IMAGE_UNREADABLE", "the image file is damaged") from error
