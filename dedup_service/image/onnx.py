"""Any image descriptor that comes as an ONNX file, such as a copy detector: the encoder `onnx:<path>`.

The file has one input of shape (N, 3, H, W) or (N, H, W, 3) and a first output of shape (N, D), or (N, D, 1, 1). How
pixels are scaled is said in the file's metadata, or by the file's name with `?`:

    onnx:/models/sscd.onnx?mean=0.485,0.456,0.406&std=0.229,0.224,0.225&size=288
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.encoder import EncoderUnavailable
from dedup_service.image.picture import Picture, fit_within

OPTIONS = ("mean", "std", "size")
SIZE = 224
"""Side of the square that pictures are fitted to where neither the file nor the setting says one."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, 0..1: what most image models were trained with."""
MAX_SIZE = 1024


class OnnxEncoder:
    """A model run by ONNX Runtime, in the thread that asks. Pictures are stretched to the model's square."""

    def __init__(self, session: Any, *, identity: str, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """`session` is an onnxruntime.InferenceSession; `mean` and `std` are of colours 0..1. Raises ValueError for a
        model of another shape."""
        (source,) = session.get_inputs()
        if len(source.shape) != 4 or 3 not in (source.shape[1], source.shape[3]):
            raise ValueError(f"the model's input must be (N, 3, H, W) or (N, H, W, 3), not {source.shape}")
        self.identity = identity
        self._session: Any = session
        self._input = source.name
        self._channels_first = source.shape[1] == 3
        self._single = source.shape[0] == 1
        height = source.shape[2 if self._channels_first else 1]
        self._size = height if isinstance(height, int) else size
        self._type = np.float16 if source.type == "tensor(float16)" else np.float32
        self._mean, self._std = np.array(mean, np.float32), np.array(std, np.float32)
        self.dimension = int(self._run([np.zeros((64, 64, 3), np.uint8)]).shape[1])

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """(N, D) float32 rows of length 1. Raises RuntimeError when the encoder is closed."""
        return self._run([picture.rgb for picture in pictures])

    def encode_turns(self, picture: Picture) -> NDArray[np.float32]:
        """(4, D): the picture turned counter-clockwise by 0, 90, 180, 270 degrees."""
        return self._run([np.rot90(picture.rgb, turn) for turn in range(4)])

    def close(self) -> None:
        """Lets the model go. Safe to repeat."""
        self._session = None

    def _run(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if self._session is None:
            raise RuntimeError("the image encoder is closed")
        if not images:
            return np.zeros((0, self.dimension), np.float32)
        batch = np.stack([self._prepare(image) for image in images])
        parts = [batch[i : i + 1] for i in range(len(batch))] if self._single else [batch]
        rows = np.concatenate([self._session.run(None, {self._input: part})[0] for part in parts]).astype(np.float32)
        if rows.size % len(images) or rows.reshape(len(images), -1).shape[1] != rows.shape[1]:
            raise ValueError(f"the model's first output must be (N, D), not {rows.shape}")
        rows = rows.reshape(len(images), -1)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)

    def _prepare(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
        small = fit_within(np.ascontiguousarray(rgb), side=2 * self._size)
        square = cv2.resize(small, (self._size, self._size), interpolation=cv2.INTER_AREA)
        scaled = (np.asarray(square, np.float32) / 255 - self._mean) / self._std
        return (scaled.transpose(2, 0, 1) if self._channels_first else scaled).astype(self._type)


def load_onnx(spec: str) -> OnnxEncoder:
    """Load `<path>[?mean=R,G,B&std=R,G,B&size=S]`. What is not given is taken from the file's metadata of these names.

    Raises:
        EncoderUnavailable: onnxruntime is missing, an option is unknown or no number, or the file can't be read.
    """
    name, _, query = spec.partition("?")
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderUnavailable("ENCODER_NOT_INSTALLED", "onnx needs the extra askonce[onnx]") from error
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - set(OPTIONS)):
        raise EncoderUnavailable("ENCODER_UNKNOWN", f"unknown option {unknown[0]!r}; known: {', '.join(OPTIONS)}")
    path = Path(name)
    if not path.is_file():
        raise EncoderUnavailable("ENCODER_LOAD_FAILED", f"{name!r} is not a file")
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
        stated = {key: value for key, value in session.get_modelmeta().custom_metadata_map.items() if key in OPTIONS}
        chosen = {**stated, **given}
        size = int(chosen.get("size", SIZE))
        mean, std = (numbers(chosen[key]) if key in chosen else usual for key, usual in (("mean", MEAN), ("std", STD)))
        if not 16 <= size <= MAX_SIZE or min(std) <= 0:
            raise ValueError(f"size must be 16 to {MAX_SIZE}, and std above 0")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        # Another scaling makes other vectors, so it belongs to the identity as the weights do.
        scaling = ",".join(f"{value:g}" for value in (size, *mean, *std))
        return OnnxEncoder(session, identity=f"onnx-sha256-{digest}-{scaling}", size=size, mean=mean, std=std)
    except Exception as error:  # onnxruntime raises its own errors, which share no base
        raise EncoderUnavailable("ENCODER_LOAD_FAILED", f"onnx {name}: {error}") from error


def numbers(text: str) -> tuple[float, float, float]:
    """Three numbers with commas between. Raises ValueError for anything else."""
    red, green, blue = (float(part) for part in text.split(","))
    return red, green, blue
