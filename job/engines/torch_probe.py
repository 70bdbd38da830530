"""PyTorch: measurements of the device.  Reads side by side with `tensorflow_probe.py`."""

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from job.core.recipe import Precision
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


PROBE = TorchProbe
