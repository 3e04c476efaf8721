"""Reads the text in an image: RapidOCR's PP-OCR models on ONNX Runtime. Blocking; runs on a worker thread."""

from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from rapidocr import RapidOCR
from rapidocr.utils.output import RapidOCROutput

from askonce.picture import FORMATS, flatten
from inference_service.engine import BadAskError
from inference_service.reader.page import Line, Page, arrange

DECODED_PIXELS = 50_000_000
"""An image that unpacks to more is refused before it is unpacked."""
ASPECT = 200.0
"""The largest ratio of the sides; the hosted vision-language model's processor refuses more."""
SIDE = 8
"""The least width and height in pixels."""


class Recogniser:
    """Detects and reads lines of Chinese and English text."""

    def __init__(self, threads: int, max_side: int) -> None:
        """Loads the weights from the wheel. `threads` bounds ONNX Runtime; longer sides than `max_side` are scaled."""
        cv2.setNumThreads(1)
        self.engine = RapidOCR(
            params={
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Global.log_level": "warning",
                "Global.max_side_len": max_side,
                "Global.use_cls": False,
            }
        )

    def read(self, content: bytes, max_pixels: int) -> Page:
        """The page in an encoded file, looked at with at most `max_pixels`. Raises BadAskError."""
        pixels = decode(content, max_pixels)
        height, width = pixels.shape[:2]
        found = self.engine(pixels)
        if not isinstance(found, RapidOCROutput) or found.boxes is None or not found.txts or not found.scores:
            return arrange(width, height, ())
        lines = (to_line(*each) for each in zip(found.boxes, found.txts, found.scores, strict=True))
        return arrange(width, height, lines)


def to_line(box: npt.NDArray[np.float32], text: str, score: float) -> Line:
    """A line from the four corners of its box, shape (4, 2)."""
    left, top = box.min(axis=0)
    right, bottom = box.max(axis=0)
    return Line(text.strip(), float(left), float(top), float(right), float(bottom), float(score))


def decode(content: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Pixels of an encoded file, shape (height, width, 3), BGR, decoded as everywhere (`askonce.picture`).

    Raises BadAskError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                check_size(*image.size)
                flat = flatten(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise BadAskError(
            "IMAGE_UNREADABLE", "The image can't be decoded; send a whole JPEG, PNG or WebP file."
        ) from error
    scale = (max_pixels / (flat.width * flat.height)) ** 0.5
    if scale < 1:
        size = max(1, int(flat.width * scale)), max(1, int(flat.height * scale))
        flat = flat.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    return np.ascontiguousarray(np.asarray(flat)[:, :, ::-1])


def check_size(width: int, height: int) -> None:
    """Refuses sizes that can't be worked with. Raises BadAskError."""
    if width * height > DECODED_PIXELS:
        raise BadAskError("IMAGE_TOO_MANY_PIXELS", f"{width}×{height} pixels are too many; scale the image down.")
    if min(width, height) < SIDE:
        raise BadAskError("IMAGE_TOO_SMALL", f"{width}×{height} pixels are too few; each side needs {SIDE}.")
    if max(width, height) > ASPECT * min(width, height):
        raise BadAskError("IMAGE_ASPECT_UNSUPPORTED", f"{width}×{height} is too narrow; the sides may differ 200-fold.")
