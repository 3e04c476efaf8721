"""CLIP through open_clip: the image encoder for production. torch is imported here and only when it is asked for."""

import hashlib
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dedup_service.image.encoder import EncoderUnavailable
from dedup_service.image.picture import Picture, fit_within

if TYPE_CHECKING:
    import torch

# Images that one pass through the model takes together, and how long it waits for company. A query's four turns arrive
# as one request and never wait for each other.
MAX_BATCH = 16
MAX_WAIT = 0.002
# Requests that may wait. More than these are refused: a queue longer than a deadline helps nobody.
MAX_QUEUE = 64
# Pictures are shrunk to this before they leave the caller's thread, so that what waits in the queue is small.
_SIDE = 512


class OpenClipEncoder:
    """A CLIP image tower on one worker thread, which batches what concurrent callers ask for.

    Args:
        model: an open_clip model in evaluation mode.
        preprocess: its evaluation transform, PIL image to (3, S, S) float tensor.
        identity: names architecture and weights.
        device: torch device name.
        half: compute in bfloat16.
    """

    def __init__(self, model: Any, preprocess: Any, *, identity: str, device: str, half: bool) -> None:
        import torch

        self.identity = identity
        self._torch = torch
        self._model = model.to(device=device, dtype=torch.bfloat16 if half else torch.float32)
        self._preprocess = preprocess
        self._device = device
        self._dtype = torch.bfloat16 if half else torch.float32
        self._queue: queue.Queue[tuple[list[torch.Tensor], Future[NDArray[np.float32]]] | None] = queue.Queue(MAX_QUEUE)
        self._closed = False
        self._gate = threading.Lock()
        self.dimension = int(self._forward([self._prepare(np.zeros((64, 64, 3), np.uint8))]).shape[1])
        self._worker = threading.Thread(target=self._serve, name="open-clip", daemon=True)
        self._worker.start()

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """(N, D) float32 rows of length 1. Blocks until the worker has done it.

        Raises:
            RuntimeError: the encoder is closed, or MAX_QUEUE requests wait already.
        """
        return self._ask([self._prepare(fit_within(picture.rgb, side=_SIDE)) for picture in pictures])

    def encode_turns(self, picture: Picture) -> NDArray[np.float32]:
        """(4, D): the picture turned counter-clockwise by 0, 90, 180, 270 degrees, in one batch."""
        small = fit_within(picture.rgb, side=_SIDE)
        return self._ask([self._prepare(np.ascontiguousarray(np.rot90(small, turn))) for turn in range(4)])

    def close(self) -> None:
        """Finish what waits, then stop the worker. Idempotent."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._worker.join()

    def _prepare(self, rgb: NDArray[np.uint8]) -> "torch.Tensor":
        prepared: torch.Tensor = self._preprocess(Image.fromarray(rgb))
        return prepared

    def _ask(self, prepared: "list[torch.Tensor]") -> NDArray[np.float32]:
        if not prepared:
            return np.zeros((0, self.dimension), np.float32)
        outcome: Future[NDArray[np.float32]] = Future()
        with self._gate:
            if self._closed:
                raise RuntimeError("the image encoder is closed")
            try:
                self._queue.put_nowait((prepared, outcome))
            except queue.Full:
                raise RuntimeError("the image encoder's queue is full") from None
        return outcome.result()

    def _serve(self) -> None:
        ending = False
        while not ending:
            first = self._queue.get()
            if first is None:
                return
            requests = [first]
            count = len(first[0])
            while count < MAX_BATCH:
                try:
                    further = self._queue.get(timeout=MAX_WAIT)
                except queue.Empty:
                    break
                if further is None:
                    ending = True
                    break
                requests.append(further)
                count += len(further[0])
            try:
                rows = self._forward([one for prepared, _ in requests for one in prepared])
            except Exception as error:  # whatever the model raises belongs to those who asked, not to this thread
                for _, outcome in requests:
                    outcome.set_exception(error)
                continue
            start = 0
            for prepared, outcome in requests:
                outcome.set_result(rows[start : start + len(prepared)])
                start += len(prepared)

    def _forward(self, prepared: "list[torch.Tensor]") -> NDArray[np.float32]:
        torch = self._torch
        parts = []
        with torch.inference_mode():
            for start in range(0, len(prepared), MAX_BATCH):
                batch = torch.stack(prepared[start : start + MAX_BATCH]).to(self._device, self._dtype)
                vectors = self._model.encode_image(batch).float()
                parts.append(torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy())
        return np.concatenate(parts).astype(np.float32)


def load_open_clip(model: str, pretrained: str) -> OpenClipEncoder:
    """Load architecture `model` with weights `pretrained`, a tag known to open_clip or the path of a checkpoint.

    The GPU is used where there is one. bfloat16 is used where the device computes in it natively.

    Raises:
        EncoderUnavailable: open_clip or torch is missing, or the model can't be built or read.
    """
    try:
        import open_clip
        import torch
    except ImportError as error:
        raise EncoderUnavailable("ENCODER_NOT_INSTALLED", "open-clip needs the extra askonce[clip]") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    path = Path(pretrained)
    known = pretrained in open_clip.list_pretrained_tags_by_model(model)
    if not known and not path.is_file():
        raise EncoderUnavailable("ENCODER_LOAD_FAILED", f"{pretrained!r} is neither a tag of {model} nor a file")
    try:
        built, _, preprocess = open_clip.create_model_and_transforms(model, pretrained=pretrained, device=device)
    except Exception as error:  # open_clip raises RuntimeError, ValueError, KeyError, OSError and its hub's own errors
        raise EncoderUnavailable("ENCODER_LOAD_FAILED", f"open-clip {model}/{pretrained}: {error}") from error
    half = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bfloat16()
    # A file is named by what is in it: another checkpoint under the same name is another encoder.
    weights = pretrained if known else f"sha256-{_file_digest(path)[:16]}"
    identity = f"open-clip-{model}-{weights}"
    return OpenClipEncoder(built.eval(), preprocess, identity=identity, device=device, half=half)


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively; emulated, it is slower than float32."""
    import torch

    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.exists() else set()
    return bool(torch.backends.mkldnn.is_available() and words & {"avx512_bf16", "amx_bf16", "bf16"})  # type: ignore[no-untyped-call,unused-ignore]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
