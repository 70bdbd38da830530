"""What people train AlexNet with in TensorFlow: `python -m tools.bench.keras_programs PROGRAM SETTINGS`, SETTINGS as JSON.

plain       Keras layers, a training step in tf.function, Keras' SGD, on one batch that is there; takes turns
fit         the same by model.fit, on a tf.data pipeline that shuffles small images, and crops, flips and resizes whole batches
original    the program of the original report: images standardised and resized one by one, then shuffled, fp32, Adam
"""

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from job.bench.turns import Reply, replies, serve, timed
from job.core.sampling import NORMALIZATION
from job.engines.tensorflow_probe import TensorflowProbe
from tools.bench.whole import Settings, images, taken, used

GPUS = tf.config.list_physical_devices("GPU")


def network(settings: Settings, *, original: bool = False) -> keras.Model:
    """AlexNet; `original`: as the report's program had it, padded as `same` and with dropout after the dense layers."""
    layers = keras.layers
    first = [layers.Conv2D(64, 11, 4, padding="same", activation="relu")]
    if not original:
        first = [layers.ZeroPadding2D(2), layers.Conv2D(64, 11, 4, activation="relu")]
    dense = [part for _ in range(2) for part in (layers.Dropout(0.5), layers.Dense(4096, activation="relu"))]
    if original:
        dense = [dense[1], dense[0], dense[3], dense[2]]
    return keras.Sequential(
        [
            keras.Input((settings.image_size, settings.image_size, 3)),
            *first,
            layers.MaxPooling2D(3, 2),
            layers.Conv2D(192, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(3, 2),
            layers.Conv2D(384, 3, padding="same", activation="relu"),
            layers.Conv2D(256, 3, padding="same", activation="relu"),
            layers.Conv2D(256, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(3, 2),
            layers.Flatten(),
            *dense,
            layers.Dense(10, dtype="float32"),
        ]
    )


def sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.001, momentum=0.9, nesterov=True, weight_decay=5e-4)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Plain:
    def __init__(self, settings: Settings) -> None:
        self.model, self.optimizer = network(settings), sgd()
        self.x = tf.random.normal((settings.batch_size, settings.image_size, settings.image_size, 3))
        self.y = tf.range(settings.batch_size) % 10
        self.step = tf.function(self.train_step)
        self.probe = TensorflowProbe(gpu=bool(GPUS))

    def train_step(self) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = LOSS(self.y, self.model(self.x, training=True))
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.model.trainable_variables), self.model.trainable_variables, strict=True)
        )
        return loss

    def take_steps(self, count: int) -> None:
        loss = None
        for _ in range(count):
            loss = self.step()
        if loss is not None:
            loss.numpy()

    def steps(self, count: int) -> Reply:
        return {**timed(lambda: self.take_steps(count), count, self.probe.seconds)}


class Ends(keras.callbacks.Callback):
    """When each step and each epoch was done."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[float] = []
        self.epochs: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(time.perf_counter())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(time.perf_counter())


def fit(settings: Settings) -> Reply:
    mean, deviation = (tf.constant(values) * 255 for values in NORMALIZATION["cifar10"])
    side, batch = settings.image_size, settings.batch_size

    def prepare(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), "REFLECT")
        x = tf.image.random_flip_left_right(tf.image.random_crop(x, (batch, 32, 32, 3)))
        return tf.image.resize((tf.cast(x, tf.float32) - mean) / deviation, (side, side)), y

    x, y = images(settings)
    pipeline = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(batch, drop_remainder=True)
    pipeline = pipeline.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    model, ends = network(settings), Ends()
    model.compile(sgd(), LOSS, metrics=["accuracy"])
    model.fit(pipeline, epochs=1, verbose=0, callbacks=[ends])
    return used(settings, ends.steps)


def original(settings: Settings) -> Reply:
    side = settings.image_size

    def prepare(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.image.resize(tf.image.per_image_standardization(x), (side, side)), y

    x, y = images(settings)
    pipeline = tf.data.Dataset.from_tensor_slices((x, y)).map(prepare).shuffle(len(x)).batch(settings.batch_size, drop_remainder=True)
    model, ends = network(settings, original=True), Ends()
    model.compile(keras.optimizers.Adam(0.001), LOSS, metrics=["accuracy"])
    model.fit(pipeline, epochs=2, verbose=0, callbacks=[ends])
    return taken((ends.epochs[3] - ends.epochs[2]) / len(x), 2 * len(x))


def main() -> None:
    settings = Settings(**json.loads(sys.argv[2]))
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    for gpu in GPUS:
        tf.config.experimental.set_memory_growth(gpu, True)
    if settings.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    with replies() as reply:
        if sys.argv[1] == "plain":
            program = Plain(settings)
            program.take_steps(1)
            reply({"ready": True})
            serve({"steps": program.steps}, reply)
        else:
            reply({"fit": fit, "original": original}[sys.argv[1]](settings))


if __name__ == "__main__":
    main()
