"""`python -m tests.engines.probe ENGINE WHAT OUT.safetensors`: compute with one framework, in a process of its own.

Each `WHAT` is a function below, which returns named arrays.  The tests compare the files of two engines.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from job import engines
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.sampling import NORMALIZATION, plan, row_keys
from tests.engines.traces import SMALL

Arrays = dict[str, np.ndarray]

STEPS = 5
FORMS = {
    "sgd": SMALL.with_values({"learning_rate": 0.05, "clip_norm": 0}),
    "sgd-plain": SMALL.with_values({"learning_rate": 0.05, "clip_norm": 0, "nesterov": False}),
    "sgd-clipped": SMALL.with_values({"learning_rate": 0.05, "clip_norm": 1}),
    "adam": SMALL.with_values({"optimizer": "adam", "learning_rate": 0.01, "clip_norm": 0}),
}
EXACT_IN_FLOAT32 = {"learning_rate": 2**-7, "beta1": 0.875, "beta2": 1 - 2**-10, "epsilon": 2**-23}
"""Keras rounds Adam's numbers to float32, whatever the type of the weights."""
KERAS_FORM = SMALL.with_values({"optimizer": "adam-keras", "clip_norm": 0, "weight_decay": 0, **EXACT_IN_FLOAT32})


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(11))
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    images[0] = 200  # a flat image has no deviation
    return images, (np.arange(count) % 10).astype(np.uint8)


def gradients(step: int) -> Arrays:
    generator = np.random.Generator(np.random.PCG64(100 + step))
    return {name: generator.normal(size=shape) for name, shape in SMALL.architecture().parameter_shapes.items()}


def network_for(name: str, recipe: Recipe) -> Any:
    architecture = recipe.architecture()
    network = engines.open_engine(name, device="cpu", threads=1).network(recipe, architecture)
    for split in ("train", "test"):
        network.place(split, *pictures(32))
    network.load(((n, a.astype(np.float64)) for n, a in initial_weights(recipe, architecture, 3)), ())
    return network


def plan_of(recipe: Recipe, step: int) -> Any:
    return plan(recipe, recipe.architecture(), 3, np.arange(8 * STEPS) % 32, epoch=0, step=step)


def logits(name: str) -> Arrays:
    """Unrounded logits of both sizes in both precisions; torch's process adds torchvision's."""
    found = {}
    for size in (224, 96):
        for precision in ("fp64", "fp32"):
            recipe = Recipe(batch_size=3, image_size=size, precision=precision)
            network = network_for(name, recipe)
            if name == "torch":
                import torch

                with torch.inference_mode():
                    found[f"{size}/{precision}"] = network.forward(network._gather("test", np.arange(3))[0], None, size).numpy()
                if precision == "fp64":
                    found[f"{size}/torchvision"] = torchvision_logits(network, size)
            else:
                import tensorflow as tf

                found[f"{size}/{precision}"] = network._evaluate("test", tf.constant(np.arange(3))).numpy()
            del network
    return found


def torchvision_logits(network: Any, size: int) -> np.ndarray:
    import torch
    import torchvision

    theirs = torchvision.models.alexnet(num_classes=10).double().eval()
    theirs.load_state_dict(dict(network.parameters))
    mean, deviation = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in NORMALIZATION["cifar10"])
    x = torch.from_numpy(pictures(3)[0]).permute(0, 3, 1, 2).double() / 255
    x = torch.nn.functional.interpolate((x - mean) / deviation, size=(size, size), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        return theirs(x).numpy()


MASKS = [(rate, features, batch) for rate in (0.0, 0.1, 0.5, 0.9) for features, batch in ((576, 7), (4096, 16))]


def functions(name: str) -> Arrays:
    """Masks, crops, resizing and standardisation, each by the engine's own function, and the framework's where it has one."""
    from job.core.dropout import column_keys
    from job.core.sampling import mean_colour, resize_matrix, selections, squares

    images = pictures(32)[0].transpose(0, 3, 1, 2).astype(np.float32)
    chosen = plan(SMALL.with_values({"batch_size": 32, "cutout": 9}), SMALL.architecture(), 5, np.arange(32), epoch=0, step=0)
    found: Arrays = {}
    if name == "torch":
        import torch
        from torch.nn.functional import interpolate

        from job.engines import torch_engine as module

        put = lambda array: torch.from_numpy(np.ascontiguousarray(array))  # noqa: E731
        number = lambda array: put(array.view(np.int32))  # noqa: E731
        for size in (64, 224):
            theirs = interpolate(put(images), size=(size, size), mode="bilinear", align_corners=False)
            found[f"resize/{size}/theirs"] = theirs.numpy()
    else:
        import tensorflow as tf

        from job.engines import tensorflow_engine as module

        put = number = tf.constant
        for size in (64, 224):
            found[f"resize/{size}/theirs"] = tf.image.resize(images.transpose(0, 2, 3, 1), (size, size)).numpy().transpose(0, 3, 1, 2)
        theirs = tf.image.per_image_standardization(images.transpose(0, 2, 3, 1)).numpy()
        found["per-image/theirs"] = theirs.transpose(0, 3, 1, 2)
    for index, (rate, features, batch) in enumerate(MASKS):
        mask = module.keep_mask(number(row_keys(3, index, 0, batch)), number(column_keys(features)), rate)
        found[f"mask/{index}"] = mask.numpy()
    found["auto is bf16"] = np.array(module.ENGINE(device="cpu").resolve("auto") == "bf16")
    ties = np.random.Generator(np.random.PCG64(5)).integers(-2, 3, (2, 3, 4, 15, 15)).astype(np.float32)
    for order, gradient in pooled_gradients(name, *ties).items():
        found[f"relu/{order}"] = gradient
    found["crop"] = module.crop_and_flip(put(images), put(chosen.rows), put(chosen.columns), put(selections())).numpy()
    found["cutout"] = module.cut_out(put(images), put(chosen.centres), put(squares(9)), put(mean_colour("cifar10"))).numpy()
    for size in (64, 224):
        matrix = resize_matrix(32, size).astype(np.float32)
        found[f"resize/{size}/ours"] = (put(matrix) @ put(images) @ put(matrix.T)).numpy()
    found["per-image/ours"] = module.normalize(put(images), "per-image").numpy()
    return found


def pooled_gradients(name: str, x: np.ndarray, weights: np.ndarray) -> Arrays:
    """d(weights · y)/dx of ReLU before max-pool and after it; `weights` are cut to the shape of y.  x: (B, C, H, W)."""
    if name == "torch":
        import torch
        from torch.nn.functional import max_pool2d

        def gradient(f: Any) -> Any:
            given = torch.from_numpy(x).requires_grad_()
            y = f(given)
            return torch.autograd.grad((y * torch.from_numpy(weights)[..., : y.shape[2], : y.shape[3]]).sum(), given)[0].numpy()

        relu, pool = torch.relu, lambda x: max_pool2d(x, 3, 2)
    else:
        import tensorflow as tf

        def gradient(f: Any) -> Any:
            given = tf.Variable(x.transpose(0, 2, 3, 1))
            with tf.GradientTape() as tape:
                y = f(given)
                total = tf.reduce_sum(y * weights.transpose(0, 2, 3, 1)[:, : y.shape[1], : y.shape[2]])
            return tape.gradient(total, given).numpy()

        relu, pool = tf.nn.relu, lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID")
    return {"before": gradient(lambda x: pool(relu(x))), "after": gradient(lambda x: relu(pool(x)))}


def optimizers(name: str) -> Arrays:
    """The engine's update and the framework's own optimiser, fed the same gradients."""
    return _torch_optimizers() if name == "torch" else _keras_optimizer()


def _torch_optimizers() -> Arrays:
    import torch

    found: Arrays = {}
    for label, recipe in FORMS.items():
        network = network_for("torch", recipe)
        copies = {n: p.detach().clone().contiguous().requires_grad_() for n, p in network.parameters.items()}
        groups = [
            {"params": [p for n, p in copies.items() if n.endswith(".weight")], "weight_decay": recipe.weight_decay},
            {"params": [p for n, p in copies.items() if n.endswith(".bias")], "weight_decay": 0.0},
        ]
        if recipe.optimizer == "sgd":
            theirs = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
        else:
            theirs = torch.optim.Adam(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon)
        for step in range(STEPS):
            given = {n: torch.from_numpy(a) for n, a in gradients(step).items()}
            zero = torch.zeros((), dtype=torch.float64)
            network.gradients = lambda *_, given=given, zero=zero: (zero, zero, zero, [g.clone() for g in given.values()])
            network.step(plan_of(recipe, step), rate=recipe.learning_rate, number=step + 1)
            for name, parameter in copies.items():
                parameter.grad = given[name].clone()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(list(copies.values()), recipe.clip_norm)
            theirs.step()
        found |= {f"ours/{label}/{n}": np.array(a) for n, a in network.weights()}
        found |= {f"theirs/{label}/{n}": p.detach().numpy() for n, p in copies.items()}
    return found


def _keras_optimizer() -> Arrays:
    import keras
    import tensorflow as tf

    from job.engines.tensorflow_engine import from_canonical, to_canonical

    recipe = KERAS_FORM
    network = network_for("tensorflow", recipe)
    keras.backend.set_floatx("float64")
    copies = [keras.Variable(v.numpy(), dtype="float64") for v in network.parameters.values()]
    theirs = keras.optimizers.Adam(recipe.learning_rate, recipe.beta1, recipe.beta2, recipe.epsilon)
    theirs.build(copies)
    network._step = network.train_step  # eagerly, so that each step gets its own gradients
    for step in range(STEPS):
        given = [tf.constant(from_canonical(a)) for a in gradients(step).values()]
        zero = tf.zeros((), tf.float64)
        network.gradients = lambda *_, given=given, zero=zero: (zero, zero, zero, given)
        network.step(plan_of(recipe, step), rate=recipe.learning_rate, number=step + 1)
        theirs.apply(given, copies)
    found = {f"ours/adam-keras/{n}": np.array(a) for n, a in network.weights()}
    names = network.parameters
    return found | {f"theirs/adam-keras/{n}": to_canonical(v.numpy()) for n, v in zip(names, copies, strict=True)}


def saved(name: str) -> Arrays:
    """The Keras model's output before it is saved and after, and the engine's logits."""
    import tempfile

    import keras
    import tensorflow as tf

    from job.engines.tensorflow_engine import normalize

    found: Arrays = {}
    for size in (64, 224):
        network = network_for(name, SMALL.with_values({"precision": "fp32", "image_size": size}))
        x = normalize(tf.transpose(tf.cast(network.splits["test"][0][:8], tf.float32), (0, 3, 1, 2)), "cifar10")
        resize = network.resizes[size]
        x = tf.transpose(tf.matmul(tf.matmul(resize, x), resize, transpose_b=True), (0, 2, 3, 1))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "alexnet.keras"
            network.model.save(path)
            loaded = keras.saving.load_model(path)
        found[f"{size}/before"] = network.model(x, training=False).numpy()
        found[f"{size}/after"] = loaded(x, training=False).numpy()
        found[f"{size}/engine"] = network.logits("test", np.arange(8))
    return found


if __name__ == "__main__":
    engine_name, what, out = sys.argv[1:]
    result = {"logits": logits, "functions": functions, "optimizers": optimizers, "saved": saved}[what](engine_name)
    assert not {"torch", "tensorflow"} <= set(sys.modules), "both frameworks in one process"
    save_file({name: np.ascontiguousarray(array) for name, array in result.items()}, out)
