"""`python -m tests.engines.faults torch|tensorflow FOLDER`: what the framework's own errors, raised by a step, come to.

Prints one JSON object: error → [class, exit code, message], the code being null where the error is not the GPU's.  The first of them ends a
real attempt on a run in FOLDER.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from job import engines
from job.core.exits import JobError
from job.runs.run import Run
from job.storage.folder import FolderStore
from job.training import start
from job.training.options import Options
from job.training.stopping import StopSignal
from tests.support.trainer import DATA, RECIPE, Log


def torch_errors() -> dict[str, Callable[[], Any]]:
    import torch

    def raising(error: Exception) -> Callable[[], Any]:
        def step() -> None:
            raise error

        return step

    return {
        "illegal access": raising(torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines")),
        "ECC": raising(torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")),
        "cuDNN": raising(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")),
        "launch": raising(RuntimeError("CUDA error: unspecified launch failure")),
        "GPU memory": raising(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB in all.")),
        "host memory": lambda: torch.empty(10**15),
        "assertion": raising(torch.AcceleratorError("CUDA error: device-side assert triggered")),
        "shapes": lambda: torch.ones(2, 3) @ torch.ones(2, 3),
        "program": lambda: 1 / 0,
    }


def tensorflow_errors() -> dict[str, Callable[[], Any]]:
    import tensorflow as tf

    def raising(kind: Any, text: str) -> Callable[[], Any]:
        def step() -> None:
            raise kind(None, None, text)

        return step

    on_gpu = "/job:localhost/replica:0/task:0/device:GPU:0"
    return {
        "illegal access": raising(tf.errors.InternalError, "CUDA error: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access\nmore lines"),
        "ECC": raising(tf.errors.InternalError, "Failed to synchronize: CUDA_ERROR_ECC_UNCORRECTABLE"),
        "cuDNN": raising(tf.errors.UnknownError, "CUDNN_STATUS_EXECUTION_FAILED in cudnnConvolutionForward"),
        "launch": raising(tf.errors.InternalError, "Failed to launch kernel: CUDA_ERROR_LAUNCH_FAILED"),
        "GPU memory": raising(tf.errors.ResourceExhaustedError, f"OOM when allocating tensor on {on_gpu} by allocator GPU_0_bfc"),
        "host memory": lambda: tf.fill([10**15], 1.0),
        "assertion": raising(tf.errors.InternalError, "CUDA error: device-side assert triggered"),
        "shapes": raising(tf.errors.InvalidArgumentError, f"{{{{function_node on {on_gpu}}}}} Matrix size-incompatible: In[0]: [2,3]"),
        "program": lambda: 1 / 0,
    }


def attempt(engine: engines.Engine, step: Callable[[], Any], folder: Path) -> None:
    """A run whose second step ends so."""
    network_of = engine.network

    def network(*words: Any) -> Any:
        made = network_of(*words)
        take = made.step
        made.step = lambda chosen, *, rate, number: take(chosen, rate=rate, number=number) if number < 2 else step()  # type: ignore[method-assign]
        return made

    engine.network = network  # type: ignore[method-assign]
    options, stop = Options(engine=engine.name, threads=1, spool=folder / "spools", flush_timeout=5.0), StopSignal(20.0)
    run = Run(FolderStore(folder / "runs"), "r")
    initial = start.initial_state(RECIPE, len(DATA.classes), options, Log())
    start.attempt(run, engine, RECIPE, DATA, options, initial=initial, stop=stop, display=Log())


def main(name: str, folder: Path) -> None:
    engine = engines.find_engine(name, device="cpu")
    errors = torch_errors() if name == "torch" else tensorflow_errors()
    found = {}
    for number, (what, step) in enumerate(errors.items()):
        try:
            if number == 0:
                attempt(engine, step, folder)
            with engines.translated(engine):
                step()
        except Exception as error:
            found[what] = [type(error).__name__, error.code if isinstance(error, JobError) else None, str(error)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
