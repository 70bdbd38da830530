"""`python -m tools.kernels torch|tensorflow`: CPU milliseconds of the operations that docs/performance.md speaks of; one thread, bf16.

Those of the default network's layers stand beside a product of 2048 × 2048 matrices through the same library, of the same FLOPs.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from job.core.architecture import alexnet
from job.core.sampling import resize_matrix

BATCH, TRIES = 128, 5
SHAPE = (4096, 9216)
"""of the largest weight matrix"""


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    {"torch": torch_kernels, "tensorflow": tensorflow_kernels}[sys.argv[1]]()


def milliseconds(name: str, action: Callable[[], Any]) -> float:
    """Of the quickest try."""
    action()
    found = []
    for _ in range(TRIES):
        begun = time.process_time()
        action()
        found.append(1e3 * (time.process_time() - begun))
    print(f"{name:60s} {min(found):8.1f} ms", flush=True)
    return min(found)


def torch_kernels() -> None:
    import torch
    import torch.nn.functional as F
    from torch.optim.sgd import sgd

    from job.engines.torch_engine import drop, normalize

    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0), libc.mallopt(-1, -1)
    torch.set_num_threads(1)
    last, half = torch.channels_last, torch.bfloat16
    images = torch.randn(BATCH, 3, 224, 224)
    milliseconds("cast, then channels-last", lambda: images.to(half).contiguous(memory_format=last))
    milliseconds("cast and channels-last in one", lambda: images.to(half, memory_format=last))
    resize, small = torch.tensor(resize_matrix(32, 224), dtype=torch.float32), torch.rand(BATCH, 3, 32, 32)
    milliseconds("normalisation, then resizing", lambda: resize @ normalize(small, "cifar10") @ resize.T)
    milliseconds("resizing alone", lambda: resize @ small @ resize.T)
    features, rows, columns = (
        torch.randn(BATCH, SHAPE[1]).to(half),
        *(torch.randint(2**31, (n,), dtype=torch.int32) for n in (BATCH, SHAPE[1])),
    )
    milliseconds("dropout of the first dense layer, its masks included", lambda: drop(features, rows, columns, 0.5))
    w, v, g = (torch.randn(SHAPE) for _ in range(3))
    norms = {"whole": lambda: torch.linalg.vector_norm(g), "by rows": lambda: torch.linalg.vector_norm(torch.linalg.vector_norm(g, dim=1))}
    exact = g.double().norm()
    for name, norm in {**norms, "get_total_norm": lambda: torch.nn.utils.get_total_norm([g])}.items():
        milliseconds(f"norm, {name} (off by {abs(norm().double() - exact) / exact:.1e})", norm)
    rule: Any = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "dampening": 0.0, "maximize": False, "fused": True}
    milliseconds("update in one pass", lambda: sgd([w], [g], [v], **rule))
    milliseconds("update in one pass that scales as well", lambda: sgd([w], [g], [v], grad_scale=torch.ones(()), **rule))
    milliseconds("scaling by itself", lambda: g.mul_(torch.ones(())))
    square = torch.randn(2048, 2048).to(half)
    peak = 2 * 2048**3 / milliseconds("product of 2048 × 2048 matrices", lambda: square @ square)
    least = total = 0.0
    for layer in alexnet().weighted:
        x, weight = torch.randn(BATCH, *layer.in_shape).to(half), torch.randn(layer.weight_shape).to(half)
        if layer.kind == "conv":
            x, weight = x.to(memory_format=last), weight.to(memory_format=last)
        x.requires_grad_(bool(total))  # the images need no gradient
        weight.requires_grad_()

        def forward(x: Any = x, weight: Any = weight, layer: Any = layer) -> Any:
            return F.conv2d(x, weight, None, layer.stride, layer.padding[0]) if layer.kind == "conv" else F.linear(x, weight)

        y = forward()
        asked, given = [t for t in (x, weight) if t.requires_grad], torch.randn_like(y)
        spent = milliseconds(f"{layer.name} forward", forward)
        spent += milliseconds(f"{layer.name} backward", lambda y=y, a=asked, g=given: torch.autograd.grad(y, a, g, retain_graph=True))
        least += 2 * layer.macs * BATCH * (1 + len(asked)) / peak
        total += spent
    print(f"all layers {total:.0f} ms; as products of 2048 × 2048 matrices {least:.0f} ms: {least / total:.2f} of that speed")


def tensorflow_kernels() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    def run(name: str, function: Any, *arguments: Any) -> float:
        compiled = tf.function(function)
        return milliseconds(name, lambda: compiled(*arguments))

    def normal(*shape: int) -> Any:
        return tf.constant(np.random.default_rng(0).standard_normal(shape, np.float32))

    resize, images = tf.constant(resize_matrix(32, 224), tf.float32), normal(BATCH, 3, 32, 32)
    run("resize, then channels-last", lambda x: tf.transpose(resize @ x @ tf.transpose(resize), (0, 2, 3, 1)), images)
    run("resize to channels-last by einsum", lambda x: tf.einsum("hi,bicw->bhwc", resize, tf.einsum("wj,bcij->bicw", resize, x)), images)
    w, v, g = tf.Variable(normal(*SHAPE)), tf.Variable(normal(*SHAPE)), normal(*SHAPE)
    run("norm by squares and sum", lambda g: tf.sqrt(tf.reduce_sum(tf.square(g))), g)
    run("norm by global_norm", lambda g: tf.linalg.global_norm([g]), g)

    def operations(g: Any) -> None:
        v.assign(0.9 * v + g)
        w.assign_sub(0.01 * (g + 0.9 * v))

    def one_kernel(g: Any) -> None:
        tf.raw_ops.ResourceApplyMomentum(var=w.handle, accum=v.handle, lr=0.01, grad=g, momentum=0.9, use_nesterov=True)

    run("update by operations", operations, g)
    run("update by ResourceApplyMomentum", one_kernel, g)
    square = tf.cast(normal(2048, 2048), tf.bfloat16)
    run("product of 2048 × 2048 matrices", tf.matmul, square, square)
    for layer in alexnet().weighted:
        if layer.kind != "conv" or layer.stride != 1:
            continue
        (channels, side, _), (outputs, _, kernel, _), pad = layer.in_shape, layer.weight_shape, layer.padding[0]
        x, y = (tf.cast(normal(BATCH, side, side, count), tf.bfloat16) for count in (channels, outputs))
        padded = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        for padding, given in (("SAME", x), ("VALID", padded)):

            def gradient(x: Any, y: Any, shape: Any = (kernel, kernel, channels, outputs), padding: str = padding) -> Any:
                return tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=shape, out_backprop=y, strides=[1, 1, 1, 1], padding=padding)

            run(f"{layer.name} weight gradient, {padding} {'of the padded copy' if padding == 'VALID' else ''}", gradient, given, y)


if __name__ == "__main__":
    main()
