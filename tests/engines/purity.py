"""`python -m tests.engines.purity torch|tensorflow`: does a step leave the host and the device apart?  Prints one JSON object,
what was tried → complaints.

PyTorch runs on its `meta` device, which has shapes and no numbers: whatever the host reads raises.  TensorFlow's graph is walked:
each operation must have a GPU kernel for its types, and none may compute on int32, whose kernels for GPUs work on the host.
"""

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from job import engines
from job.core.recipe import Recipe
from job.core.sampling import plan
from tests.engines.probe import pictures

SMALL = Recipe(batch_size=8, image_size=64, width=1 / 16, precision="fp32")
RECIPES = {
    "default": SMALL,
    "bf16": SMALL.with_values({"precision": "bf16"}),
    "fp64": SMALL.with_values({"precision": "fp64"}),
    "adam": SMALL.with_values({"optimizer": "adam", "nesterov": False}),
    "keras": SMALL.with_values(
        {"optimizer": "adam-keras", "normalization": "per-image", "conv1_padding": "same", "dropout_position": "after", "clip_norm": 0}
    ),
    "cutout-ema": SMALL.with_values({"cutout": 8, "ema_decay": 0.9}),
    "growing": SMALL.with_values({"image_size": 97, "progressive_resizing": "64:0.5", "conv1_padding": "same"}),
}


def plan_of(recipe: Recipe, step: int) -> Any:
    """Of each image size in turn."""
    chosen = plan(recipe, recipe.architecture(), 3, np.arange(32), epoch=0, step=step)
    return replace(chosen, image_size=recipe.image_sizes[step % len(recipe.image_sizes)])


def network_for(name: str, device: str, recipe: Recipe) -> Any:
    engine = engines.open_engine(name, device=device, threads=1)
    network = engine.network(recipe, recipe.architecture(), {"features.0.weight": 0.1})
    for split in ("train", "test"):
        network.place(split, *pictures(32))
    return network


def torch_complaints() -> dict[str, list[str]]:
    import torch

    from job.engines import torch_engine as module

    library = torch.library.Library("aten", "IMPL")
    library.impl("_fused_sgd_", lambda *_, **__: None, "Meta")  # torch has none: nothing to compute, and shapes stay

    def complaints(recipe: Recipe) -> list[str]:
        try:
            network = network_for("torch", "meta", recipe)
            for step in range(2):
                network.step(plan_of(recipe, step), rate=0.01, number=step + 1)
            with torch.inference_mode():
                logits = network.forward(network._gather("test", np.arange(8))[0], None, recipe.image_size)
        except (RuntimeError, NotImplementedError) as error:
            return [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
        places = {t.device.type for t in (logits, *network.outcomes, *network.parameters.values())}
        return [] if places == {"meta"} and len(network.outcomes) == 2 else [f"ran on {places}"]

    found = {label: complaints(recipe) for label, recipe in RECIPES.items()}
    found["checksums"] = checksum_complaints(network_for("torch", "meta", SMALL))
    original = module.normalize, module.clip

    def reads_a_number(images: Any, how: str) -> Any:
        images.max().item()
        return original[0](images, how)

    def copies_to_host(gradients: Any, limit: float) -> None:
        gradients[0].cpu()
        original[1](gradients, limit)

    def branches(gradients: Any, limit: float) -> None:
        if gradients[0].sum() > limit:
            original[1](gradients, limit)

    for label, name, planted in (
        ("planted item", "normalize", reads_a_number),
        ("planted copy", "clip", copies_to_host),
        ("planted branch", "clip", branches),
    ):
        setattr(module, name, planted)
        found[label] = complaints(SMALL)
        module.normalize, module.clip = original
    return found


def checksum_complaints(network: Any) -> list[str]:
    from job.engines.torch_probe import TorchProbe

    try:
        place = TorchProbe(gpu=False).checksums(network)().device.type
    except (RuntimeError, NotImplementedError) as error:
        return [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
    return [] if place == "meta" else [f"ran on {place}"]


STRUCTURAL = {"Placeholder", "Const", "NoOp", "Identity", "IdentityN", "_Arg", "_Retval", "PartitionedCall", "StatefulPartitionedCall"}
ARITHMETIC = {
    *("Add", "AddV2", "AddN", "Sub", "Mul", "Div", "RealDiv", "FloorDiv", "FloorMod", "TruncateDiv", "Maximum", "Minimum", "Neg", "Square"),
    *("Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual", "Sum", "Prod", "Max", "Min", "Mean", "MatMul", "BatchMatMulV2"),
    *("RightShift", "LeftShift", "BitwiseXor", "BitwiseAnd", "BitwiseOr", "Invert"),
}


def graph_complaints(concrete: Any) -> list[str]:
    """Operations of a concrete function, and of the functions that it calls, that would take the numbers to the host."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import kernels

    definition = concrete.graph.as_graph_def()
    kept = live(concrete.graph)
    own = [node for node in definition.node if node.name in kept]
    nodes = [*own, *(node for function in definition.library.function for node in function.node_def)]
    assert len(nodes) > 3
    found = set()
    for node in nodes:
        types = {name: value.type for name, value in node.attr.items() if value.WhichOneof("value") == "type"}
        shown = ", ".join(f"{name}={types_pb2.DataType.Name(value)}" for name, value in sorted(types.items()))
        if node.op in ARITHMETIC and types.get("T") == types_pb2.DT_INT32:
            found.add(f"{node.op}({shown}) computes on int32, thus on the host")
        if "PyFunc" in node.op:
            found.add(f"{node.op} runs Python")
        if node.op in STRUCTURAL or node.op in {function.signature.name for function in definition.library.function}:
            continue
        if not any(
            kernel.device_type in ("GPU", "DEFAULT")
            and all(c.name not in types or types[c.name] in c.allowed_values.list.type for c in kernel.constraint)
            for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
        ):
            found.add(f"{node.op}({shown}) has no kernel for GPUs")
    return sorted(found)


def live(graph: Any) -> set[str]:
    """Names of the operations that run: those that an output or an effect needs.  The gradient of `reduce_sum` leaves a division
    of constant shapes behind that nothing uses."""
    ahead = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    ahead += [operation for operation in graph.get_operations() if operation.op_def.is_stateful]
    names: set[str] = set()
    while ahead:
        operation = ahead.pop()
        if operation.name not in names:
            names.add(operation.name)
            ahead += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return names


def checksum_complaints_tensorflow(network: Any) -> list[str]:
    import tensorflow as tf

    from job.engines.tensorflow_probe import TensorflowProbe

    probe = TensorflowProbe(gpu=False)
    sums = probe.checksums(network).get_concrete_function()  # type: ignore[attr-defined]
    words = tf.function(lambda block: tf.not_equal(block, probe.pattern(64, 3, 5))).get_concrete_function(tf.zeros(64, tf.uint32))
    return graph_complaints(sums) + graph_complaints(words)


def tensorflow_complaints() -> dict[str, list[str]]:
    import tensorflow as tf
    from tensorflow.python.framework import kernels

    if not any(kernel.device_type == "GPU" for kernel in kernels.get_registered_kernels_for_op("MatMul").kernel):
        return {"skip": ["this build of TensorFlow has no kernels for GPUs"]}
    from job.engines import tensorflow_engine as module

    def arguments(recipe: Recipe, step: int) -> list[Any]:
        chosen = plan_of(recipe, step)
        scalars = np.ones(4, np.float64 if recipe.precision == "fp64" else np.float32)
        arrays = (chosen.indices, chosen.rows, chosen.columns, chosen.centres, chosen.dropout, scalars)
        return [*map(tf.constant, arrays), chosen.image_size]

    def complaints(recipe: Recipe) -> list[str]:
        network = network_for("tensorflow", "cpu", recipe)
        functions = [network._step.get_concrete_function(*arguments(recipe, step)) for step in range(len(recipe.image_sizes))]
        functions.append(network._logits["test"].get_concrete_function(tf.constant(np.arange(8))))
        return [complaint for function in functions for complaint in graph_complaints(function)]

    found = {label: complaints(recipe) for label, recipe in RECIPES.items()}
    found["checksums"] = checksum_complaints_tensorflow(network_for("tensorflow", "cpu", SMALL))
    growing = RECIPES["growing"]
    network = network_for("tensorflow", "cpu", growing)
    for step in range(4):
        network.step(plan_of(growing, step), rate=0.01 / (step + 1), number=step + 1)
    for start in range(3):
        network.logits("test", np.arange(8) + start)
    counts = [f.experimental_get_tracing_count() for f in (network._step, network._logits["test"])]
    found["traced once"] = [] if counts == [2, 1] else [f"traced {counts} times"]

    original = module.normalize

    def calls_python(images: Any, how: str) -> Any:
        x = original(images, how)
        return tf.ensure_shape(tf.py_function(lambda a: a, [x], x.dtype), x.shape)

    def multiplies_int32(images: Any, how: str) -> Any:
        whole = tf.cast(images, tf.int32)
        return original(tf.cast(whole * whole, images.dtype), how)

    def sorts_text(images: Any, how: str) -> Any:
        return original(images, how) + tf.strings.to_number(tf.strings.as_string(images[0, 0, 0, 0]), images.dtype)

    for label, planted in (("planted Python", calls_python), ("planted int32", multiplies_int32), ("planted text", sorts_text)):
        module.normalize = planted
        found[label] = complaints(SMALL)
    return found


if __name__ == "__main__":
    print(json.dumps({"torch": torch_complaints, "tensorflow": tensorflow_complaints}[sys.argv[1]]()))
