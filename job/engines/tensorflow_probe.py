"""TensorFlow: measurements of the device.  Reads side by side with `torch_probe.py`."""

import time
from collections.abc import Callable

import tensorflow as tf

from job.core.recipe import Precision
from job.engines.probe import Kernels, Probe

DTYPES = {"bf16": tf.bfloat16, "fp32": tf.float32, "fp64": tf.float64}


class TensorflowProbe(Probe):
    def __init__(self, *, gpu: bool) -> None:
        self.gpu = gpu
        self.device = "/GPU:0" if gpu else "/CPU:0"

    def product(self, size: int, precision: Precision) -> Callable[[], object]:
        with tf.device(self.device):
            a, b = (tf.cast(tf.random.stateless_normal((size, size), (0, seed)), DTYPES[precision]) for seed in range(2))
        return lambda: tf.linalg.matmul(a, b)

    def seconds(self, run: Callable[[], object]) -> float:
        begun = time.perf_counter()
        run()
        tf.test.experimental.sync_devices()
        return time.perf_counter() - begun

    def kernels(self, run: Callable[[], object]) -> Kernels:
        return []  # what tf.profiler writes needs a plugin of TensorBoard to be read

    def peak_gpu_memory(self) -> int | None:
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if self.gpu else None


PROBE = TensorflowProbe
