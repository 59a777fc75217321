"""The same MLP as an ONNX Runtime session on one thread."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Layers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]


def session_of(layers: Layers) -> onnxruntime.InferenceSession:
    """Builds the graph of dense layers with ReLU between them, and a session for it."""
    n_features = layers[0][0].shape[1]
    nodes, tensors, name = [], [], "features"
    for index, (weight, bias) in enumerate(layers):
        tensors += [numpy_helper.from_array(weight.T.copy(), f"w{index}")]
        tensors += [numpy_helper.from_array(bias, f"b{index}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{index}", f"b{index}"], [f"dense{index}"]))
        name = f"dense{index}"
        if index + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [name], [f"relu{index}"]))
            name = f"relu{index}"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", n_features])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
