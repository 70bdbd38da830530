"""TensorFlow: what the workers of a run exchange, by its coordination service and its collectives (gRPC, or NCCL between GPUs).

Reads side by side with `torch_exchange.py`.
"""

import itertools
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context

from job.core.exits import Exit, JobError
from job.core.place import Place
from job.core.sharding import pairs
from job.engines.exchange import JOIN_SECONDS, Exchange

EVERYONE = 1_000
"""key of the group of all workers; those of the pairs follow"""
HEALTH_SECONDS = 2.0
"""between two questions for the health of the others, and for which an answer is waited"""
PIECE = 1 << 22
"""numbers that are sent at a time, 16 MiB in float32: 57 million at once take gRPC twice as long (docs/scaling.md)"""
PAUSE = 0.5
"""seconds between two looks for the others, and for each of them"""
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class TensorflowExchange(Exchange):
    def __init__(self, place: Place, shards: int, device: str, silence: float) -> None:
        super().__init__(place, shards)
        self._device, self._silence = device, silence
        self._numbers = itertools.count(1)
        """of the collectives, the same on each worker"""
        if len(place.addresses) < place.workers:
            raise JobError(
                Exit.USAGE,
                f"tensorflow needs the address of every worker, and those of {place.workers} do not follow from {place.addresses[0]}. "
                "Expected a host whose first label ends with -0, as the pods of a JobSet are named, or TF_CONFIG.",
            )
        levels = [[pair for pair in level if place.rank in pair] for level in pairs(place.workers)]
        self._pairs = [EVERYONE + 1 + place.workers * level + mine[0][0] for level, mine in enumerate(levels)]
        handlers = {number: signal.getsignal(number) for number in HANDLED}
        self._meet(self._connect)
        for number, handler in handlers.items():  # TensorFlow has put its own in the place of SIGTERM's
            signal.signal(number, handler)
        self._closing = threading.Event()
        threading.Thread(target=self._watch, name="workers' health", daemon=True).start()

    def _connect(self) -> None:
        place = self.place
        self._await_all()
        context.context().configure_coordination_service(
            service_type="standalone",
            service_leader="/job:worker/replica:0/task:0",
            cluster_register_timeout_in_ms=int(1000 * JOIN_SECONDS),
            heartbeat_timeout_in_ms=int(1000 * self._silence),
            coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=place.workers)],
        )
        cluster = tf.train.ClusterSpec({"worker": [*place.addresses]})
        tf.distribute.MultiWorkerMirroredStrategy(
            tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type="worker", task_id=place.rank, rpc_layer="grpc")
        )

    def _await_all(self) -> None:
        """Until each worker listens at its port, here or in TensorFlow.  Raises TimeoutError with the ranks of those that do not.

        TensorFlow's own wait for the others does not end in time, and meanwhile lets no Python run, nor the handler of a signal."""
        end = time.monotonic() + JOIN_SECONDS - 2
        missing = dict(enumerate(self.place.addresses))
        port = int(missing[self.place.rank].rpartition(":")[2])
        both = socket.has_dualstack_ipv6()
        with socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both):
            while missing and time.monotonic() < end:
                for rank, address in [*missing.items()]:
                    host, _, port_there = address.rpartition(":")
                    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port_there)), PAUSE):
                        del missing[rank]
                time.sleep(PAUSE)
        if missing:
            raise TimeoutError(f"worker {' and '.join(map(str, missing))} did not come")

    def total(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        with self._missing_nobody(), tf.device("/CPU:0"):
            found: NDArray[np.int32] = self._sum(tf.constant(values), EVERYONE, self.place.workers).numpy()
            return found

    def add(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        with self._missing_nobody(), tf.device(self._device):
            flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)
            pieces = tf.split(flat, [min(PIECE, len(flat) - at) for at in range(0, len(flat), PIECE)])
            for group in self._pairs:
                pieces = [self._sum(piece, group, 2) for piece in pieces]
            parts = tf.split(tf.concat(pieces, 0), [tensor.shape.num_elements() for tensor in tensors])
            return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def _sum(self, tensor: tf.Tensor, group: int, size: int) -> tf.Tensor:
        return tf.raw_ops.CollectiveReduceV2(
            input=tensor,
            group_size=size,
            group_key=group,
            instance_key=next(self._numbers),
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
            communication_hint="auto",
            timeout_seconds=self._silence,
        )

    def put(self, key: str, text: str) -> None:
        context.context().set_config_key_value(key, text)

    def get(self, key: str, seconds: float) -> str | None:
        try:
            found: str = context.context().get_config_key_value(key, timeout_in_ms=int(1000 * seconds))
        except (tf.errors.NotFoundError, tf.errors.DeadlineExceededError):
            return None
        return found

    def close(self) -> None:
        self._closing.set()

    def _watch(self) -> None:
        """Abort what waits for a worker that was killed.  The coordination service notices that too, but only as it does a frozen one."""
        others = [rank for rank in range(self.place.workers) if rank != self.place.rank]
        failures = dict.fromkeys(others, 0)
        while not self._closing.wait(HEALTH_SECONDS):
            for rank in others:
                task = f"/job:worker/replica:0/task:{rank}"
                try:
                    context.context().check_collective_ops_peer_health(task, timeout_in_ms=int(1000 * HEALTH_SECONDS))
                    failures[rank] = 0
                except (tf.errors.UnavailableError, tf.errors.FailedPreconditionError):
                    failures[rank] += 1
                except tf.errors.OpError:  # a slow one, or an end that is under way
                    pass
                if failures[rank] == 2 and not self._closing.is_set():
                    context.context().abort_collective_ops(tf.errors.UNAVAILABLE, f"worker {rank} is gone")
                    return

    @contextmanager
    def _missing_nobody(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            raise self.missed(error) from error
