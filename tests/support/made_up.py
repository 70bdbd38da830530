"""Results in memory, as a run would leave them, for tests of what reads them."""

import dataclasses
from typing import Any

import numpy as np

from job.core.recipe import Recipe
from job.runs.results import Attempt, Results

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def results(
    name: str = "a",
    engine: str = "torch",
    *,
    images: int = 10_000,
    accuracy: float = 0.9,
    seed: int = 0,
    noise: int = 0,
    fingerprint: str = "f" * 64,
    labels_seed: int = 0,
    epochs: int = 20,
    recipe_name: str = "default",
    device: str = "cpu",
    version: str = "1.0",
    threads: int = 2,
    **recipe: Any,
) -> Results:
    """Predictions are right for exactly `accuracy` of the images; `noise` chooses for which."""
    labels = np.random.default_rng(labels_seed).integers(0, 10, images).astype(np.uint8)
    predictions = labels.copy()
    wrong = np.random.default_rng(noise + 1).permutation(images)[: round(images * (1 - accuracy))]
    predictions[wrong] = (predictions[wrong] + 1 + wrong % 9) % 10
    made = Recipe(epochs=epochs, name=recipe_name, **recipe)
    data = {"name": "cifar10", "fingerprint": fingerprint, "classes": [*CLASSES], "train_images": 50_000, "test_images": images}
    return Results(
        id=name,
        url=f"runs/{name}",
        record={"recipe": made.as_dict(), "seed": seed, "data": data, "threads": threads, "format": 1},
        summary={
            "run": name,
            "engine": engine,
            "device": device,
            engine: version,
            "recipe": made.name,
            "precision": "fp32",
            "parameters": 57_044_810,
            "epochs": epochs,
            "steps": 390 * epochs,
            "train_accuracy": 0.99,
            "test_accuracy": float((predictions == labels).mean()),
            "test_images": images,
            "images_per_second": 1000.0,
            "peak_host_memory_bytes": 2_000_000_000,
            "model": "checkpoints/step-00000390-0001-abcdef/model.safetensors",
            "attempt": "0001-abcdef",
            "seed": seed,
            "data": data,
        },
        lines=lines(epochs),
        logits=logits(predictions),
        labels=labels,
        attempts=[Attempt(name="0001-abcdef", claim={"host": "node", "started": 0.0}, end={"exit_code": 0, "reason": "finished"})],
    )


def logits(predictions: np.ndarray) -> np.ndarray:
    return (np.eye(10, dtype=np.float32)[predictions] * 5).astype(np.float32)


def with_predictions(run: Results, predictions: np.ndarray, name: str) -> Results:
    return dataclasses.replace(run, id=name, logits=logits(predictions))


def lines(epochs: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        rate = {"learning_rate": 0.01, "images_per_second": 1000.0}
        found.append(
            {"kind": "interval", "step": 390 * epoch, "epoch": epoch, "loss": 2 / epoch, "last_loss": 2 / epoch, "accuracy": 0.5, **rate}
        )
        accuracy = {"train_accuracy": 1 - 0.5 / epoch, "test_accuracy": 0.9 - 0.5 / epoch}
        found.append(
            {"kind": "epoch", "epoch": epoch, "step": 390 * epoch, "train_loss": 2 / epoch, "test_loss": 2.1 / epoch, **accuracy, **rate}
        )
    return found
