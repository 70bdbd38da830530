"""PyTorch: measurements of the device.  Reads side by side with `tensorflow_probe.py`."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from job.core.recipe import Precision
from job.engines import Network
from job.engines.probe import Kernels, Probe

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


class TorchProbe(Probe):
    def __init__(self, *, gpu: bool) -> None:
        self.gpu = gpu
        self.device = torch.device("cuda" if gpu else "cpu")

    def product(self, size: int, precision: Precision) -> Callable[[], object]:
        a, b = (torch.randn(size, size, device=self.device).to(DTYPES[precision]) for _ in range(2))
        out = torch.zeros_like(a)
        return lambda: torch.mm(a, b, out=out)

    def seconds(self, run: Callable[[], object]) -> float:
        if not self.gpu:
            begun = time.perf_counter()
            run()
            return time.perf_counter() - begun
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def kernels(self, run: Callable[[], object]) -> Kernels:
        with profile(activities=[ProfilerActivity.CUDA if self.gpu else ProfilerActivity.CPU]) as seen:
            run()
            if self.gpu:
                torch.cuda.synchronize()
        microseconds = {
            one.key: one.self_device_time_total if self.gpu else one.self_cpu_time_total for one in seen.key_averages() if one.count
        }
        return sorted(((name, time / 1e6) for name, time in microseconds.items() if time), key=lambda kernel: -kernel[1])

    def peak_gpu_memory(self) -> int | None:
        return torch.cuda.max_memory_allocated() if self.gpu else None

    def tf32(self, on: bool) -> bool:
        torch.backends.cuda.matmul.allow_tf32 = on
        torch.backends.cudnn.allow_tf32 = on
        return self.gpu and torch.cuda.get_device_capability() >= (8, 0)

    def checksums(self, network: Network) -> Callable[[], Tensor]:
        tensors = [t.detach() for held in (network.averages, *network.optimizer_slots.values()) for t in held.values()]
        return lambda: torch.stack([t.view(torch.int32).sum(dtype=torch.int64) for t in tensors])

    def read_checksums(self, taken: Sequence[Tensor]) -> NDArray[np.uint64]:
        return torch.stack([*taken]).cpu().numpy().view(np.uint64)

    def copies(self, size: int) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
        host = torch.zeros(size // 4, pin_memory=self.gpu)
        here, there = (torch.zeros(size // 4, device=self.device) for _ in range(2))
        return lambda: here.copy_(host), lambda: host.copy_(here), lambda: torch.add(here, 1, out=there)

    def pattern(self, words: int, factor: int, value: int) -> Tensor:
        factor, value = (number - 2**32 if number >= 2**31 else number for number in (factor, value))
        return torch.arange(words, dtype=torch.int32, device=self.device).mul_(factor).bitwise_xor_(value)

    def wrong_words(self, found: Tensor, factor: int, value: int) -> int:
        return int((found != self.pattern(len(found), factor, value)).sum())

    def release(self) -> None:
        torch.cuda.empty_cache()


PROBE = TorchProbe
