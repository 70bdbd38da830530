"""TensorFlow: measurements of the device.  Reads side by side with `torch_probe.py`."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from job.core.recipe import Precision
from job.engines import Network
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
        self._wait()
        return time.perf_counter() - begun

    def kernels(self, run: Callable[[], object]) -> Kernels:
        with tempfile.TemporaryDirectory() as folder:
            tf.profiler.experimental.start(folder)
            try:
                run()
                self._wait()
            finally:
                tf.profiler.experimental.stop()
            space = XSpace.FromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
        seconds: Counter[str] = Counter()
        for plane in (plane for plane in space.planes if plane.name == ("/device:GPU:0" if self.gpu else "/host:CPU")):
            for line in (line for line in plane.lines if line.name.startswith("Stream" if self.gpu else "tf_Compute")):
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    operation = name if self.gpu else _operation(name)
                    if operation:
                        seconds[operation] += event.duration_ps / 1e12
        return [*seconds.most_common()]

    def _wait(self) -> None:
        """Until the device is done.  `tf.test.experimental.sync_devices` asks those of other workers, too, which is an error."""
        with tf.device(self.device):
            tf.raw_ops.SyncDevice()

    def peak_gpu_memory(self) -> int | None:
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if self.gpu else None

    def tf32(self, on: bool) -> bool:
        tf.config.experimental.enable_tensor_float_32_execution(on)
        details = tf.config.experimental.get_device_details(tf.config.get_visible_devices("GPU")[0]) if self.gpu else {}
        return bool(details.get("compute_capability", (0, 0)) >= (8, 0))

    def checksums(self, network: Network) -> Callable[[], tf.Tensor]:
        tensors = [t for held in (network.averages, *network.optimizer_slots.values()) for t in held.values()]

        def sums() -> tf.Tensor:
            with tf.device(self.device):
                return tf.stack([tf.reduce_sum(tf.cast(tf.bitcast(t, tf.uint32), tf.int64)) for t in tensors])

        found: Callable[[], tf.Tensor] = tf.function(sums)
        return found

    def read_checksums(self, taken: Sequence[tf.Tensor]) -> NDArray[np.uint64]:
        found: NDArray[np.uint64] = tf.stack([*taken]).numpy().view(np.uint64)
        return found

    def copies(self, size: int) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
        host = np.zeros(size // 4, np.float32)
        with tf.device(self.device):
            here = tf.raw_ops.DeepCopy(x=host)

        def to_device() -> tf.Tensor:
            with tf.device(self.device):
                return tf.raw_ops.DeepCopy(x=host)  # a constant may share the host's memory

        return to_device, here.numpy, lambda: tf.add(here, 1)

    def pattern(self, words: int, factor: int, value: int) -> tf.Tensor:
        with tf.device(self.device):
            positions = tf.bitcast(tf.cast(tf.range(words, dtype=tf.int64), tf.int32), tf.uint32)
            return tf.bitwise.bitwise_xor(positions * tf.constant(factor, tf.uint32), tf.constant(value, tf.uint32))

    def wrong_words(self, found: tf.Tensor, factor: int, value: int) -> int:
        with tf.device(self.device):
            differ = tf.not_equal(found, self.pattern(len(found), factor, value))
            return int(tf.reduce_sum(tf.cast(differ, tf.int64)))

    def release(self) -> None:
        """TensorFlow keeps what it has taken."""


def _operation(event: str) -> str | None:
    """`LAYER/BiasAdd:_MklNativeFusedConv2D` → `_MklNativeFusedConv2D`; None for the executor's own, as `ExecutorState::Process`."""
    _, colon, operation = event.partition(":")
    return operation if colon and not operation.startswith(":") else None


PROBE = TensorflowProbe
