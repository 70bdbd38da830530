"""The GPUs of this node, each examined by a process of its own, all at once: started, listened to, judged, their verdicts stored."""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from job.acceptance.judgement import Facts, evidence, of_doctor, of_measurements, sorted_evidence, untested, verdict
from job.acceptance.process import Worker
from job.acceptance.record import checked, claim, group, short, started, work
from job.acceptance.worker import Measured, Order
from job.bench.machine import describe
from job.core.acceptance_records import Evidence, Steps, Verdict
from job.core.exits import Exit, JobError
from job.core.identity_records import Environment
from job.core.recipe import Recipe
from job.core.records import FORMAT
from job.core.resource_records import GpuIdentity
from job.data.sources import digits
from job.doctor import examine
from job.doctor import page as doctor
from job.doctor.page import Line
from job.storage.files import encoded
from job.storage.store import Store
from job.telemetry.gpu import opened

SILENCE = 900.0
"""seconds without a sign from a process after which its GPU counts as hung; the first step of a large network on a slow CPU takes many"""
OF_CHECKPOINTS = ("disk of --output", "disk of the spool", "throughput")
"""checks of the doctor that are of no account here: the verdict and its checksums are small, and nothing else is stored"""
NETWORKS = 2
"""that a CPU has in its memory, one for each precision; in a GPU's there is room"""
NOT_THE_GPU = (Exit.USAGE, Exit.CONFIGURATION)
"""a process that ends with one of these was asked for what cannot be"""


@dataclass(frozen=True, kw_only=True)
class Setup:
    engine: str
    recipe: Recipe
    seed: int
    device: str
    threads: int
    """of all GPUs together"""
    steps: int
    traced: int
    """step whose operations are recorded, from 1"""
    rounds: int
    """of each precision; 0: as many as there is time for"""
    minutes: float
    store: Store | None
    name: str | None
    """under which results are stored; None: node and GPU"""


def gpus(device: str, nvml: Any = None) -> list[GpuIdentity]:
    """Those that are visible; of a machine without, or with `--device cpu`, its CPU."""
    found = [] if device == "cpu" else [one.identity(position) for position, one in enumerate(opened(nvml))]
    return found or [{"name": describe()["cpu"], "uuid": "", "position": 0, "mig": False}]


def checks(setup: Setup) -> list[Line]:
    """What the doctor says of this node and of the store."""
    given = doctor.Setup(
        recipe=setup.recipe,
        engines=(setup.engine,),
        device=setup.device,
        output=setup.store.url if setup.store else None,
        data=None,
        mirror=None,
        cache=Path(tempfile.gettempdir()),
        spool=None,
        grace=30.0,
        networks=NETWORKS,
    )
    return [line for line in examine(given) if line.check not in OF_CHECKPOINTS]


def accept(setup: Setup, found: Sequence[GpuIdentity], look: Callable[[Setup], list[Line]], say: Callable[[str], None]) -> list[Verdict]:
    """One verdict for each of `found`, in order, stored.  `look`: what is said of the node, as by `checks`.

    Raises JobError: what is asked for cannot be (2, 78), or the store failed."""
    images = len(digits().train)
    if setup.recipe.batch_size > images:
        raise JobError(Exit.USAGE, f"batch_size = {setup.recipe.batch_size}: there are {images} images. Expected at most so many.")
    if setup.traced > setup.steps:
        raise JobError(Exit.USAGE, f"--trace {setup.traced}: a round has {setup.steps} steps. Expected at most so many.")
    threads = max(1, setup.threads // len(found))
    examinations = [Examination(setup, gpu, len(found), threads, say) for gpu in found]
    lines = look(setup)
    with ThreadPoolExecutor(len(found)) as pool:
        return list(pool.map(lambda one: one.run(lines), examinations))


class Examination:
    """Of one GPU."""

    def __init__(self, setup: Setup, gpu: GpuIdentity, gpus: int, threads: int, say: Callable[[str], None]) -> None:
        self.setup, self.gpu, self.threads = setup, gpu, threads
        self.label = f"GPU {gpu['position']}: " if gpus > 1 else ""
        self._say = say
        self._begun = time.monotonic()
        self.started = started(setup.engine, gpu, setup.store.now() if setup.store else time.time())
        name = setup.name and (f"{setup.name}-{short(gpu['uuid'])}" if gpus > 1 else setup.name)
        self.name = checked(name or f"{self.started['node'] or self.started['host']}-{gpu['uuid'] or 'cpu'}")
        self.folder = ""

    def run(self, checks: Sequence[Line]) -> Verdict:
        if self.setup.store:
            self.folder = claim(self.setup.store, self.name, self.started)
        measured, environment, broken = self.examine()
        judged = self.judge(checks, measured, environment, broken)
        if store := self.setup.store:
            if measured:
                steps: Steps = {"format": FORMAT, "modes": measured["steps"]}
                store.put(f"{self.folder}/steps.json", encoded(steps))
            store.put(f"{self.folder}/verdict.json", encoded(judged))
        return judged

    def examine(self) -> tuple[Measured | None, Environment | None, str]:
        """(what was measured, the engine's environment, why it broke); the first is there, or the last."""
        measured, environment = None, None
        with Worker(self.order(), self.gpu) as worker:
            while message := worker.next(SILENCE):
                environment = message.get("environment", environment)
                measured = message.get("measured", measured)
                if "sign" in message:
                    self._say(f"{self.label}{message['sign']}")
                if "error" in message:
                    if message["code"] in NOT_THE_GPU:
                        raise JobError(Exit(message["code"]), message["error"])
                    return None, environment, message["error"]
            return measured, environment, "" if measured else worker.ending

    def order(self) -> Order:
        setup = self.setup
        return {
            "engine": setup.engine,
            "device": setup.device,
            "threads": self.threads,
            "recipe": dict(setup.recipe.as_dict()),
            "seed": setup.seed,
            "steps": setup.steps,
            "traced": setup.traced,
            "rounds": setup.rounds,
            "seconds": 60 * setup.minutes,
            "on_gpu": bool(self.gpu["uuid"]),
        }

    def judge(self, checks: Sequence[Line], measured: Measured | None, environment: Environment | None, broken: str) -> Verdict:
        found: list[Evidence] = of_doctor(checks)
        not_tested = ["All that was to follow: the process broke."] if broken else []
        if broken:
            found.append(evidence("process", "fail", broken))
        if measured:
            facts = cast(Facts, measured)
            found += of_measurements(facts)
            on_gpu = measured["environment"]["device"] != "cpu"
            not_tested = untested(facts, measured.get("memory_refused", ""), gpu=on_gpu)
        if environment and environment["device"] == "cpu" and self.gpu["uuid"] and self.setup.device != "cpu":
            found.append(evidence("engine", "fail", f"the driver shows {self.gpu['name']}, but {self.setup.engine} does not see it"))
        now = self.setup.store.now() if self.setup.store else time.time()
        return {
            **self.started,
            "verdict": verdict(found),
            "evidence": sorted_evidence(found),
            "not_tested": not_tested,
            "written": now,
            "seconds": round(time.monotonic() - self._begun, 3),
            "environment": environment,
            "group": group(environment, self.started, self.threads) if environment else {},
            "work": work(self.setup.recipe, self.setup.seed, self.setup.steps),
            "reproducible": bool(measured) and not measured["nondeterministic"] if measured else False,
            "nondeterministic": measured["nondeterministic"] if measured else [],
            "modes": measured["modes"] if measured else [],
            "before": measured["before"] if measured else {},
            "after": measured["after"] if measured else {},
            "load": measured["load"] if measured else {},
            "bandwidth": measured["bandwidth"] if measured else None,
            "memory": measured["memory"] if measured else None,
        }
