"""An embedding server as the question encoder: whatever speaks OpenAI's `/embeddings`, such as Text Embeddings
Inference, vLLM, Infinity, or a hosted service.

    openai-embeddings:http://tei:8080/v1#BAAI/bge-m3
    openai-embeddings:https://api.example.com/v1#text-embedding-3-small?dimensions=512
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from dedup_service.question.batches import Batches
from dedup_service.question.encoder import EncoderFailedError, UnknownEncoderError, bounded, digest_of, unit

SCHEME = "openai-embeddings"
OPTIONS = ("prompt", "dimensions", "revision", "batch", "timeout")
STRANGE = ("\u16a0", "\u16a2", "\U00010000", "\U00010001", "\U00012000", "\U00012001", "\U00013000", "\U00013001")
"""Letters of runes, Linear B, cuneiform and hieroglyphs, two of each: what a vocabulary without bytes does not hold."""
EQUAL = 0.9999
"""Cosine from which two different letters have one vector: both are the unknown token."""
LETTERS = 20_000
"""Most letters whose verdict is remembered."""
MOST_DIMENSIONS = 8_192
START_SECONDS = 30.0
"""Least time for the first call, in which a server may still load its model."""


class EmbeddingsServer:
    """A client of one model on one server. For threads; calls that wait are sent together.

    Nobody says over this protocol which texts the tokenizer can read, so it is found out: texts of unknown tokens
    share one vector. At the start the letters of `STRANGE` are encoded; where two of them have the same vector, that
    is the unknown token's, and a letter whose own vector is the same can't be read. Where all differ, the tokenizer
    falls back to bytes and reads everything.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str = "",
        prompt: str = "",
        dimensions: int = 0,
        revision: str = "",
        batch: int = 64,
        timeout: float = 2.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` is what `/embeddings` is added to; `timeout` seconds bound one call. Asks the server once for its
        dimension. Raises UnknownEncoderError when it does not answer as it should."""
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(
            base_url=base_url.rstrip("/") + "/",
            headers=headers,
            follow_redirects=False,
            trust_env=False,
            transport=transport or httpx.HTTPTransport(retries=1),
        )
        self._model, self._prompt, self._dimensions, self._timeout = model, prompt, dimensions, timeout
        self._batches = Batches(self._ask, batch)
        self._letters: LRUCache[str, bool] = LRUCache(LETTERS)
        self.dimension = 0
        try:
            strange = self._ask(list(STRANGE), max(timeout, START_SECONDS))
        except EncoderFailedError as error:
            self.close()
            raise UnknownEncoderError(f"{SCHEME}: {base_url} gives no vectors of {model!r}: {error}") from error
        self.dimension = strange.shape[1]
        self._unknown = _shared(strange)
        named = re.sub(r"[^a-z0-9]+", "-", model.casefold()).strip("-")
        tail = digest_of("\0".join((model, prompt, revision)))
        self.identity = f"oe-{named}-{self.dimension}-{tail}"

    def readable(self, text: str) -> bool:
        """Whether no letter of the text is the unknown token; false for a text without any. Raises
        EncoderFailedError."""
        letters = {sign for sign in bounded(text) if unicodedata.category(sign)[0] in "LNMPS"}
        if not letters or self._unknown is None:
            return bool(letters)
        new = [sign for sign in letters if not sign.isascii() and sign not in self._letters]
        if new:
            rows = self._batches.run(new)
            self._letters.update(zip(new, (rows @ self._unknown < EQUAL).tolist(), strict=True))
        return all(self._letters.get(sign, True) for sign in letters)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts to (N, dimension), each row of length 1. Raises EncoderFailedError."""
        return self._batches.run(texts) if texts else np.zeros((0, self.dimension), np.float32)

    def close(self) -> None:
        """Ends the connections after the calls under way."""
        self._batches.close()
        self._client.close()

    def _ask(self, texts: list[str], timeout: float | None = None) -> NDArray[np.float32]:
        body: dict[str, Any] = {
            "model": self._model,
            "input": [self._prompt + bounded(text) for text in texts],
            "encoding_format": "float",
        }
        if self._dimensions:
            body["dimensions"] = self._dimensions
        try:
            reply = self._client.post("embeddings", json=body, timeout=timeout or self._timeout)
        except httpx.TimeoutException as error:
            raise EncoderFailedError("the server did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EncoderFailedError("the server can not be reached") from error
        if reply.status_code != 200:
            raise EncoderFailedError(f"the server answered {reply.status_code}")
        return unit(self._rows(reply, len(texts)))

    def _rows(self, reply: httpx.Response, count: int) -> NDArray[np.float32]:
        try:
            data = sorted(reply.json()["data"], key=lambda each: int(each["index"]))
            rows = np.array([each["embedding"] for each in data], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise EncoderFailedError("the server sent no such vectors") from error
        wanted = (count, self.dimension or (rows.shape[1] if rows.ndim == 2 else 0))
        if rows.shape != wanted or not 0 < wanted[1] <= MOST_DIMENSIONS or not np.isfinite(rows).all():
            raise EncoderFailedError("the server sent no such vectors")
        return rows


def load_embeddings_server(spec: str, api_key: str = "") -> EmbeddingsServer:
    """Opens `openai-embeddings:<base url>#<model>[?prompt=…&dimensions=…&revision=…&batch=…&timeout=…]`. What changes
    the vectors (model, prompt, dimensions, revision) is part of the identity. Raises UnknownEncoderError."""
    base_url, _, rest = spec.removeprefix(f"{SCHEME}:").partition("#")
    model, _, query = rest.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname or not model:
        raise UnknownEncoderError(
            f"{spec!r}: use {SCHEME}:<base url>#<model>, such as {SCHEME}:http://tei:8080/v1#bge-m3"
        )
    if unknown := sorted(given.keys() - set(OPTIONS)):
        raise UnknownEncoderError(f"{SCHEME} takes no option {unknown[0]}; known: {', '.join(OPTIONS)}")
    try:
        batch, dimensions = int(given.get("batch", 64)), int(given.get("dimensions", 0))
        timeout = float(given.get("timeout", 2.0))
    except ValueError as error:
        raise UnknownEncoderError(f"{SCHEME}: batch, dimensions and timeout are numbers") from error
    if not (1 <= batch <= 2_048 and 0 <= dimensions <= MOST_DIMENSIONS and 0 < timeout <= 60):
        raise UnknownEncoderError(
            f"{SCHEME}: batch from 1 to 2,048, dimensions up to {MOST_DIMENSIONS:,}, timeout above 0 and up to 60 s"
        )
    return EmbeddingsServer(
        base_url,
        model,
        api_key=api_key,
        prompt=given.get("prompt", ""),
        dimensions=dimensions,
        revision=given.get("revision", ""),
        batch=batch,
        timeout=timeout,
    )


def _shared(rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The vector (D,) that two of the rows (N, D) have in common; None when all differ."""
    pairs = itertools.combinations(range(len(rows)), 2)
    return next((rows[one] for one, other in pairs if float(rows[one] @ rows[other]) >= EQUAL), None)
