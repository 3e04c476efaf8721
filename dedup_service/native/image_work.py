"""Decoding, features and the look-alike check in child processes: native code that reads clients' files."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from askonce.child_pool import ChildError, ChildPool, OpeningError
from dedup_service.image.encoder import EncoderUnavailable
from dedup_service.image.fingerprint import Fingerprint
from dedup_service.image.keypoints import Matrix
from dedup_service.image.load_encoder import load_image_encoder
from dedup_service.image.lookalike import ImageVerdict
from dedup_service.image.picture import PictureError
from dedup_service.store.records import MemoryUnavailableError
from dedup_service.usecases.image_features import Features, LocalImageWork, Opened
from dedup_service.usecases.warmup import warm_up_images

SECONDS = 10.0
"""Longest time for one step of one image; the usual is 20 to 150 ms."""
MEMORY = 2 << 30
"""Most bytes of a child's own data with the embedded encoder: 40 megapixels take 0.9 GB while they are decoded."""
ABANDON = 2.0
"""Seconds after which work on an image that nobody waits for is ended; a new child takes about one."""


class HostedImageWork(LocalImageWork):
    """The child's side."""

    def __init__(self, spec: str) -> None:
        super().__init__(load_image_encoder(spec))

    def warm_up(self) -> None:
        """Runs every step once, so that the first image does not pay for what is loaded late."""
        warm_up_images(self)

    def describe(self) -> tuple[str, int]:
        """What the parent must know."""
        return self.encoder.identity, self.encoder.dimension

    def open_digests(self, content: bytes) -> tuple[str, str]:
        """What `open` finds, without the file that the parent has anyway."""
        opened = self.open(content)
        return opened.byte_digest, opened.pixel_digest


class ChildImageWork:
    """Implements `ImageWork` by child processes."""

    def __init__(self, spec: str, size: int) -> None:
        """`spec` is what `load_image_encoder` takes, `size` the number of children. Raises EncoderUnavailable."""
        embedded = spec == "dct"
        self.pool = ChildPool(
            "images",
            "dedup_service.native.image_work:HostedImageWork",
            (spec,),
            size=size if embedded else 1,  # each child holds the encoder's weights
            limit=SECONDS,
            memory=MEMORY if embedded else None,
            abandon=ABANDON,
        )
        try:
            self.identity, self.dimension = self.pool.start()
        except OpeningError as error:
            cause = error.__cause__
            raise EncoderUnavailable(getattr(cause, "reason", "ENCODER_LOAD_FAILED"), str(cause or error)) from error

    def open(self, content: bytes) -> Opened:
        """See `ImageWork`. The child hands no pixels over: it keeps them for the next step."""
        key = hashlib.sha256(content).hexdigest()
        byte_digest, pixel_digest = self.call("open_digests", content, key=key)
        return Opened(byte_digest, pixel_digest, content)

    def extract(self, opened: Opened) -> Features:
        """See `ImageWork`."""
        features: Features = self.call("extract", opened, key=opened.byte_digest)
        return features

    def compare(self, stored: bytes | Fingerprint, query: Fingerprint, guess: Matrix | None = None) -> ImageVerdict:
        """See `ImageWork`. Raises ChildError."""
        verdict: ImageVerdict = self.pool.call("compare", stored, query, guess)
        return verdict

    def pack(self, fingerprint: Fingerprint) -> bytes:
        """See `ImageWork`."""
        packed: bytes = self.call("pack", fingerprint, key="")
        return packed

    def call(self, method: str, argument: object, *, key: str) -> Any:
        """A call whose failure is named: the file's fault where it ended a child, ours where no child was there."""
        try:
            return self.pool.call(method, argument, key=key)
        except MemoryError as error:
            raise PictureError("IMAGE_TOO_COMPLEX", "the image takes too much memory to decode") from error
        except ChildError as error:
            if error.cause in ("DOWN", "ABANDONED"):
                raise MemoryUnavailableError(str(error)) from error
            if error.cause == "OVERRAN":
                raise PictureError("IMAGE_TOO_COMPLEX", "the image takes too long to decode") from error
            raise PictureError("IMAGE_UNREADABLE", "the image can't be decoded") from error

    def warm_up(self) -> None:
        """Warms every child up, beside whatever they are asked already."""
        with ThreadPoolExecutor(self.pool.size) as threads:
            for warming in [threads.submit(self.pool.call, "warm_up") for _ in range(self.pool.size)]:
                with suppress(ChildError):
                    warming.result()

    def close(self) -> None:
        """Ends the children."""
        self.pool.close()
