"""The story of a trace: N steps of training on generated images, everything that a step computes written down.

Evaluation, saving and loading are those of a run.  `job.parity.compare` compares two traces of one recipe and seed, of either engine.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.records import TracedSteps
from job.core.sampling import Purpose, StepPlan, bits, permutation, plan, steps_per_epoch
from job.core.schedule import image_size, learning_rate, rate_factors
from job.engines import Engine, Network, evaluate
from job.parity.tracefile import TraceWriter, digest_of
from job.runs.statefile import read_state, write_state
from job.storage.files import sha256_of

BATCHES = 4
"""the generated images are as many as fill so many batches: a trace of more steps has several epochs"""
CLASSES = 10


def trace(
    engine: Engine,
    recipe: Recipe,
    writer: TraceWriter,
    *,
    seed: int,
    steps: int,
    at: frozenset[int],
    advance: Callable[[], object] = lambda: None,
) -> TracedSteps:
    """Train for `steps` steps; returns the facts that identify the trace.  `at`: the steps, from 0, that are observed in full.
    `advance` is called after each step."""
    architecture = recipe.architecture(CLASSES)
    network = engine.network(recipe, architecture, rate_factors(recipe, architecture))
    place_images(network, recipe, seed)
    network.load(initial_weights(recipe, architecture, seed), ())
    add_all(writer, "initial", network.weights())
    first, stored = min(at), at | {step - 1 for step in at}
    digests: dict[str, str] = {}
    outcomes = []
    for step, step_plan in enumerate(plans(recipe, architecture, seed, steps)):
        if step in at:
            writer.add(f"{step}/evaluation", evaluated(network, recipe))
        for name, array in network.observe(step_plan):
            if name == "inputs" or name.startswith("masks/"):
                digests[f"{step}/{name}"] = sha256_of(_packed(array))
            if step not in at:
                break  # the inputs come first, and what is not asked for is not computed
            if selected(name, first=step == first):
                writer.add(f"{step}/{name}", array)
        network.step(step_plan, rate=learning_rate(recipe, step, steps), number=step + 1)
        if step in at or step == steps - 1:
            outcomes.append(network.read())  # of several steps, as at the end of a logging interval
        advance()
        if step in stored:  # the state before an observed step as well: what an update starts from
            add_all(writer, f"{step}/slots", network.slots())
            add_all(writer, f"{step}/weights", network.weights())
        if step == first:
            digests["saved/evaluation"] = digest_of(evaluated(network, recipe))
            writer.add("other/evaluation", saved_and_loaded(network, recipe, architecture, seed))
            digests["loaded/evaluation"] = digest_of(evaluated(network, recipe))
            for kind, tensors in (("slots", network.slots()), ("weights", network.weights())):
                digests |= {f"loaded/{kind}/{name}": digest_of(array) for name, array in tensors}
    losses, hits = (np.concatenate(column) for column in zip(*outcomes, strict=True))
    writer.add("losses", losses.astype(recipe.dtype))
    return {
        "recipe": recipe.as_dict(),
        "seed": seed,
        "steps": steps,
        "at": sorted(at),
        "environment": engine.environment(),
        "hits": hits.tolist(),
        "digests": digests,
    }


def add_all(writer: TraceWriter, prefix: str, tensors: Iterable[tuple[str, NDArray[Any]]]) -> None:
    for name, array in tensors:
        writer.add(f"{prefix}/{name}", array)


def selected(name: str, *, first: bool) -> bool:
    """Is this observation stored as a tensor?  Masks are stored as digests alone, activations of the first observed step only."""
    return first if name.startswith("activations/") else not name.startswith("masks/")


def place_images(network: Network, recipe: Recipe, seed: int) -> None:
    """Both splits; the test images are one more than a batch, so that an evaluation pads its last one."""
    trained = BATCHES * recipe.batch_size
    images, labels = generated_images(seed, trained + recipe.batch_size + 1)
    network.place("train", images[:trained], labels[:trained])
    network.place("test", images[trained:], labels[trained:])


def evaluated(network: Network, recipe: Recipe) -> NDArray[np.float32]:
    """(B + 1, classes), by the evaluation of a run."""
    found = evaluate(network, "test", np.arange(recipe.batch_size + 1), recipe.batch_size, lambda: False)
    assert found is not None
    return found


def saved_and_loaded(network: Network, recipe: Recipe, architecture: Architecture, seed: int) -> NDArray[np.float32]:
    """Save the state as a run does, put other weights in its place, and load it again.

    Returns the test logits of the other weights.  They are equal in both engines, whatever these have trained, and those of He, which have
    no biases that drown what the images say."""
    with tempfile.TemporaryDirectory(prefix="alexnet-") as name:
        folder = Path(name)
        write_state(folder, recipe, architecture, network.weights(), network.slots())
        network.load(initial_weights(recipe.with_values({"initial_weights": "he-uniform"}), architecture, seed + 1), ())
        logits = evaluated(network, recipe)
        network.load(*read_state(folder, recipe, architecture))
    return logits


def observed_steps(requested: tuple[int, ...], steps: int) -> frozenset[int]:
    """The steps to observe, negative ones from the end; none given: the first two, the first of the second epoch, and the last.
    Raises JobError (2), naming the step."""
    if not requested:
        return frozenset({0, 1, BATCHES, steps - 1} & set(range(steps)))
    for step in requested:
        if not -steps <= step < steps:
            raise JobError(Exit.USAGE, f"--at {step}: there are {steps} steps. Expected 0 to {steps - 1}, or -1 for the last.")
    return frozenset(step % steps for step in requested)


def generated_images(seed: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(images (count, 32, 32, 3) of random bytes, labels (count,)): a function of the seed, like everything random."""
    words = bits(seed, Purpose.IMAGES, count * 32 * 32 * 3 // 8)
    return words.astype("<u8").view(np.uint8).reshape(count, 32, 32, 3), labels_of(np.arange(count))


def labels_of(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Of the generated images with these numbers."""
    return (indices % CLASSES).astype(np.uint8)


def plans(recipe: Recipe, architecture: Architecture, seed: int, steps: int) -> Iterator[StepPlan]:
    """The real plan of each step, but for the image size, which changes in the course of the trace as it does in that of a training."""
    count = BATCHES * recipe.batch_size
    per_epoch = steps_per_epoch(count, recipe.batch_size)
    for step in range(steps):
        epoch, within = divmod(step, per_epoch)
        drawn = plan(recipe, architecture, seed, permutation(seed, epoch, count), epoch=epoch, step=within)
        yield replace(drawn, image_size=image_size(recipe, step, steps))


def _packed(array: NDArray[Any]) -> bytes:
    """Pixels as little-endian numbers, masks as bits."""
    return np.packbits(array).tobytes() if array.dtype == bool else array.astype(array.dtype.newbyteorder("<")).tobytes()
