"""Any sentence encoder that comes as an ONNX file with its tokenizer: the encoder `onnx:<folder>`.

The folder holds `tokenizer.json` and `model.onnx` (or `onnx/model.onnx`, as model hubs lay it out). The first output is
(N, T, D), one vector a token, or (N, D).

    onnx:/models/bge-m3?pooling=cls&prompt=query:%20
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from dedup_service.question.batches import Batches
from dedup_service.question.encoder import UnknownEncoderError, bounded, digest_of, unit

OPTIONS = ("pooling", "prompt", "length")
POOLINGS = ("mean", "cls")
MOST_TOKENS = 512
BATCH = 32


class OnnxSentences:
    """A model run by ONNX Runtime with the tokenizer of the `tokenizers` library."""

    def __init__(self, session: Any, tokenizer: Any, *, identity: str, pooling: str = "mean", prompt: str = "") -> None:
        """`session` is an onnxruntime.InferenceSession, `tokenizer` a tokenizers.Tokenizer. Raises ValueError for a
        model of another form."""
        self._session, self._tokenizer, self._pooling, self._prompt = session, tokenizer, pooling, prompt
        self._inputs = {each.name for each in session.get_inputs()}
        if unknown := self._inputs - {"input_ids", "attention_mask", "token_type_ids"}:
            raise ValueError(f"the model asks for {', '.join(sorted(unknown))}")
        self._unknown = _unknown_id(tokenizer)
        self._batches = Batches(self._run, BATCH)
        self.identity = identity
        self.dimension = int(self._run(["?"]).shape[1])

    def readable(self, text: str) -> bool:
        """Whether the tokenizer knows all of the text."""
        if not text.strip():
            return False
        ids = self._tokenizer.encode(bounded(text), add_special_tokens=False).ids
        return bool(ids) and self._unknown not in ids

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts to (N, dimension), each row of length 1."""
        return self._batches.run(texts) if texts else np.zeros((0, self.dimension), np.float32)

    def close(self) -> None:
        """Ends the worker after the calls under way."""
        self._batches.close()

    def _run(self, texts: list[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch([self._prompt + bounded(text) for text in texts])
        ids = np.array([each.ids for each in encoded], np.int64)
        mask = np.array([each.attention_mask for each in encoded], np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        found = self._session.run(None, {name: feed[name] for name in self._inputs})[0].astype(np.float32)
        if found.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            means = (found * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
            found = found[:, 0] if self._pooling == "cls" else means
        if found.ndim != 2 or len(found) != len(texts):
            raise ValueError(f"the model's first output must be (N, T, D) or (N, D), not {found.shape}")
        return unit(found)


def load_onnx_sentences(spec: str) -> OnnxSentences:
    """Loads `<folder>[?pooling=mean|cls&prompt=…&length=…]`; `length` bounds the tokens. The identity holds the digests
    of both files and what changes the vectors. Raises UnknownEncoderError."""
    name, _, query = spec.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - set(OPTIONS)):
        raise UnknownEncoderError(f"onnx takes no option {unknown[0]}; known: {', '.join(OPTIONS)}")
    pooling = given.get("pooling", "mean")
    if pooling not in POOLINGS:
        raise UnknownEncoderError(f"onnx: pooling is {' or '.join(POOLINGS)}, not {pooling!r}")
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as missing:
        raise UnknownEncoderError("onnx needs the extra askonce[onnx]") from missing
    folder = Path(name)
    models = [path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()]
    vocabulary = folder / "tokenizer.json"
    if not models or not vocabulary.is_file():
        raise UnknownEncoderError(f"onnx: {name!r} has no model.onnx with a tokenizer.json beside it")
    try:
        length = int(given.get("length", MOST_TOKENS))
        tokenizer = Tokenizer.from_file(str(vocabulary))
        tokenizer.enable_truncation(max_length=length)
        tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(models[0]), options, providers=onnxruntime.get_available_providers())
        prompt = given.get("prompt", "")
        tail = digest_of("\0".join((_digest(models[0]), _digest(vocabulary), pooling, prompt, str(length))))
        return OnnxSentences(session, tokenizer, identity=f"onnx-{tail}", pooling=pooling, prompt=prompt)
    except Exception as error:  # both libraries raise errors of their own, which share no base
        raise UnknownEncoderError(f"onnx can't load {name!r}: {error}") from error


def _unknown_id(tokenizer: Any) -> int:
    """The id of the unknown token; -1 for a vocabulary that has none, since it spells everything in bytes."""
    token = getattr(tokenizer.model, "unk_token", None)
    named = [token] if token else ["[UNK]", "<unk>"]
    return next((found for each in named if (found := tokenizer.token_to_id(each)) is not None), -1)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
