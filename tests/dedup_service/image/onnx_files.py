"""Descriptors as ONNX files, made for the tests."""

from pathlib import Path

import numpy as np
import pytest

SIDE = 32


def descriptor_file(path: Path, *, channels_first: bool = True, batch: int | str = "N", outputs: int = 48) -> None:
    """Writes a model that multiplies all pixels by random weights."""
    onnx = pytest.importorskip("onnx", reason="making ONNX files needs the package onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    shape = [batch, 3, SIDE, SIDE] if channels_first else [batch, SIDE, SIDE, 3]
    weights = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, outputs)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
        ],
        "descriptor",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("vector", onnx.TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"})
    onnx.save(model, str(path))
