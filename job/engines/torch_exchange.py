"""PyTorch: what the workers of a run exchange, by c10d's store, Gloo on the host and NCCL between GPUs.

Reads side by side with `tensorflow_exchange.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from job.core.place import Place
from job.core.sharding import pairs
from job.engines.exchange import JOIN_SECONDS, Exchange


class TorchExchange(Exchange):
    def __init__(self, place: Place, shards: int, device: torch.device, silence: float) -> None:
        super().__init__(place, shards)
        self._device, self._silence = device, timedelta(seconds=silence)
        self._meet(self._connect)

    def _connect(self) -> None:
        join, place = timedelta(seconds=JOIN_SECONDS), self.place
        backend = "gloo"
        if self._device.type == "cuda":
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(self._device)  # of this thread
        self._store, rank, workers = next(dist.rendezvous(f"tcp://{place.addresses[0]}", place.rank, place.workers, timeout=join))
        dist.init_process_group(backend, store=self._store, rank=rank, world_size=workers, timeout=join)
        self._all = dist.new_group([*range(workers)], timeout=self._silence, backend="gloo")
        groups = [
            dist.new_group([*pair], timeout=self._silence, backend=backend)  # each of all workers, as c10d wants it
            for level in pairs(workers)
            for pair in level
        ]
        self._pairs = [group for group in groups if isinstance(group, dist.ProcessGroup)]

    def total(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        tensor = torch.from_numpy(values.copy())
        with self._missing_nobody():
            dist.all_reduce(tensor, group=self._all)
        found: NDArray[np.int32] = tensor.numpy()
        return found

    def add(self, tensors: list[Tensor]) -> list[Tensor]:
        """In their own memory and its layout, as they would be without other workers."""
        with self._missing_nobody():
            for group in self._pairs:
                for work in [dist.all_reduce(tensor, group=group, async_op=True) for tensor in tensors]:
                    work.wait()
        return tensors

    def put(self, key: str, text: str) -> None:
        self._store.set(key, text)

    def get(self, key: str, seconds: float) -> str | None:
        try:
            self._store.wait([key], timedelta(seconds=seconds))
        except dist.DistStoreError:
            return None
        found: str = self._store.get(key).decode()
        return found

    def close(self) -> None:
        dist.destroy_process_group()

    @contextmanager
    def _missing_nobody(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self.missed(error) from error
