"""A sentence encoder in an ONNX file, with its tokenizer: a tiny one, made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_service.question.encoder import UnknownEncoderError, load_question_encoder

onnx = pytest.importorskip("onnx", reason="the tests' extra makes the model")
tokenizers = pytest.importorskip("tokenizers", reason="the onnx extra is not installed")

WORDS = {"[PAD]": 0, "[UNK]": 1, "what": 2, "is": 3, "the": 4, "total": 5, "tax": 6, "?": 7}


def write(folder: Path, *, pooled: bool = False) -> Path:
    """A model that looks its tokens up in a table, and averages them itself if `pooled`."""
    helper: Any = onnx.helper
    table = np.random.default_rng(7).normal(size=(len(WORDS), 12)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["tokens"])]
    shape: list[Any] = ["N", "T", 12]
    if pooled:
        nodes.append(helper.make_node("ReduceMean", ["tokens"], ["pooled"], axes=[1], keepdims=0))
        shape = ["N", 12]
    kind = onnx.TensorProto
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", kind.INT64, ["N", "T"])],
        [helper.make_tensor_value_info("pooled" if pooled else "tokens", kind.FLOAT, shape)],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    folder.mkdir(exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_do_not_depend_on_company(tmp_path: Path, pooling: str) -> None:
    """Rows of length 1; padding beside a longer text changes nothing."""
    encoder = load_question_encoder(f"onnx:{write(tmp_path / 'm')}?pooling={pooling}")
    rows = encoder.encode(["total ?", "what is the tax ?"])
    assert rows.shape == (2, encoder.dimension) == (2, 12)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert np.allclose(encoder.encode(["total ?"])[0], rows[0], atol=1e-5)
    assert encoder.encode([]).shape == (0, 12)


def test_it_says_what_it_cannot_read(tmp_path: Path) -> None:
    """A text with an unknown token is not read, nor is an empty one."""
    encoder = load_question_encoder(f"onnx:{write(tmp_path / 'm')}")
    assert [encoder.readable(text) for text in ("what is the tax ?", "the 税", "", " ")] == [True, False, False, False]


def test_a_model_that_pools_itself_is_taken(tmp_path: Path) -> None:
    """An output of one row a text needs no pooling here."""
    encoder = load_question_encoder(f"onnx:{write(tmp_path / 'm', pooled=True)}")
    assert encoder.encode(["what is the total ?"]).shape == (1, 12)


def test_what_changes_vectors_changes_the_identity(tmp_path: Path) -> None:
    """Weights, pooling and prompt part the vectors."""
    one, other = write(tmp_path / "a"), write(tmp_path / "b", pooled=True)
    specs = (f"onnx:{one}", f"onnx:{other}", f"onnx:{one}?pooling=cls", f"onnx:{one}?prompt=what%20")
    assert len({load_question_encoder(spec).identity for spec in specs}) == 4


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("onnx:/nowhere", "no model.onnx"),
        ("onnx:{folder}?pooling=max", "mean or cls"),
        ("onnx:{folder}?speed=9", "no option speed"),
        ("onnx:{folder}?length=long", "can't load"),
        ("onnx:{broken}", "can't load"),
    ],
)
def test_a_folder_that_holds_none_is_named(tmp_path: Path, spec: str, said: str) -> None:
    """One line says what is wrong."""
    folder, broken = write(tmp_path / "m"), write(tmp_path / "x")
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(UnknownEncoderError, match=said):
        load_question_encoder(spec.format(folder=folder, broken=broken))
