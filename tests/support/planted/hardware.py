"""Faults as hardware makes them, planted in the arithmetic of an engine: no other file of the tests is needed.

`flip`: a bit of one element of one tensor is inverted, once.  `stuck`: a bit of every element of one channel is 1, in every step.
`product`: now and then one of the products that a sum is made of has a wrong bit.  Where: `forward` (what a layer gives), `backward`
(the gradient that comes to what a layer gives), `gradient` (of a parameter), `weights` and `slots` (after the update), `data` (the
stored images).
"""

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

Kind = Literal["flip", "stuck", "product"]
WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}
"""bytes of a number → a whole number of that size"""
HELD = ("weights", "slots", "data")
"""places where a tensor lies between two steps"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    kind: Kind
    place: Literal["forward", "backward", "gradient", "weights", "slots", "data"]
    tensor: str = ""
    """a layer of the architecture, or a parameter"""
    bit: int = 0
    """from the lowest; modulo the bits of a number.  Of a `product`: drawn for each"""
    element: int = 0
    """of a `flip`: number in the framework's own layout, modulo how many there are; -N: the largest of the N-th image of the batch"""
    channel: int = 0
    """of a `stuck` bit"""
    least: float = 0.0
    """of a `stuck` bit: in numbers that are as great as this or greater, without their sign; a weak circuit fails on some numbers only"""
    step: int = 1
    """of a `flip`: the call of `Network.step` in this process at which it happens, from 1.  Of others: the first one"""
    rate: float = 0.0
    """of a `product`: share of the steps after the first one with another wrong one"""
    seed: int = 0


class Planted:
    """A fault, and what it does in the present step."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.restart(fault.seed)

    def restart(self, seed: int) -> None:
        """As if no step had been taken."""
        fault = self.fault
        self.calls = 0
        self.done: list[int] = []
        """calls in which it did something"""
        self._draw = random.Random(seed)
        self.event: tuple[int, int, int, int] | None = None
        """(position, bit, position of one factor, of the other) of what is wrong in this step"""
        if fault.kind == "stuck" and fault.step <= 1:
            self.event = (fault.channel, fault.bit, 0, 0)

    def next_step(self) -> None:
        self.calls += 1
        fault = self.fault
        self.event = None
        if fault.kind == "stuck" and self.calls >= fault.step:
            self.event = (fault.channel, fault.bit, 0, 0)
        elif fault.kind == "flip" and self.calls == fault.step:
            self.event = (fault.element, fault.bit, 0, 0)
        elif fault.kind == "product" and ((self.calls >= fault.step and self._draw.random() < fault.rate) or self.calls == fault.step):
            self.event = tuple(self._draw.randrange(1 << 40) for _ in range(4))  # type: ignore[assignment]
        if self.event:
            self.done.append(self.calls)


def changed(words: Any, planted: Planted, channel_axis: int) -> None:
    """Change whole numbers (a NumPy array) in place, as the fault says."""
    assert planted.event
    position, bit = planted.event[:2]
    mask = words.dtype.type(1 << bit % (8 * words.itemsize))
    if planted.fault.kind == "stuck":
        chosen = [slice(None)] * words.ndim
        chosen[channel_axis] = position % words.shape[channel_axis]  # type: ignore[call-overload]
        part = words[tuple(chosen)]
        part[~(np.abs(numbers(part)) < planted.fault.least)] |= mask
    else:
        if position < 0:
            image = -position - 1
            position = image * words[image].size + int(numbers(words[image]).argmax())
        words[np.unravel_index(position % words.size, words.shape)] ^= mask


def numbers(words: Any) -> Any:
    """float32, of words of float32 or bfloat16."""
    return words.view(np.float32) if words.itemsize == 4 else (words.astype(np.uint32) << 16).view(np.float32)


def plant(fault: Fault, module: Any) -> Planted:
    """In an engine's module, for the networks that it makes from now on.  `module.ENGINE.name` tells which engine it is."""
    planted = Planted(fault)
    if module.ENGINE.name == "torch":
        Torch(planted, module).plant(module.TorchNetwork)
    else:
        Tensorflow(planted, module).plant(module.TensorflowNetwork)
    return planted


class Engine:
    """What both have in common: the step, and tensors that lie between steps."""

    def __init__(self, planted: Planted, module: Any) -> None:
        self.planted, self.module = planted, module

    @property
    def fault(self) -> Fault:
        return self.planted.fault

    def plant(self, network: Any) -> None:
        sound_step, engine = network.step, self

        def step(self: Any, plan: Any, **words: Any) -> None:
            engine.planted.next_step()
            engine.arm()
            if engine.fault.place == "data" and engine.planted.event:
                engine.change_held(self.splits["train"][0])
            sound_step(self, plan, **words)
            if engine.fault.place in ("weights", "slots") and engine.planted.event:
                held = self.parameters if engine.fault.place == "weights" else next(iter(self.optimizer_slots.values()))
                engine.change_held(held[engine.fault.tensor])

        network.step = step
        if self.fault.place == "gradient":
            sound_update = network.update

            def update(self: Any, gradients: Any, *rest: Any) -> None:
                names = list(self.parameters)
                gradients = [engine.change(g) if name == engine.fault.tensor else g for name, g in zip(names, gradients, strict=True)]
                sound_update(self, gradients, *rest)

            network.update = update
        elif self.fault.place not in HELD:
            self.plant_in_layer()

    def arm(self) -> None:
        """Before each step."""

    def change_held(self, tensor: Any) -> None:
        raise NotImplementedError

    def change(self, tensor: Any, factors: Any = None) -> Any:
        """`factors`: the tensors whose products make this one."""
        raise NotImplementedError

    def plant_in_layer(self) -> None:
        raise NotImplementedError


class Torch(Engine):
    def change_held(self, tensor: Any) -> None:
        self.change(tensor)

    def change(self, tensor: Any, factors: Any = None) -> Any:
        """In place."""
        torch = self.module.torch
        if not self.planted.event:
            return tensor
        whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()]
        plain = tensor.data.cpu() if tensor.is_cuda else tensor.data
        if self.fault.kind == "product":
            position, bit, a, b = self.planted.event
            x, w = (factor.detach().float().reshape(-1) for factor in factors)
            product = (x[a % len(x)] * w[b % len(w)]).cpu().numpy().reshape(1)
            wrong = product.copy()
            wrong.view(np.uint32)[0] ^= np.uint32(1 << bit % 32)
            place = np.unravel_index(position % plain.numel(), tuple(plain.shape))
            plain[place] = (plain[place].float() + float(wrong[0]) - float(product[0])).to(plain.dtype)
        else:
            changed(plain.view(whole).numpy().view(WORDS[plain.element_size()]), self.planted, 1 if plain.ndim > 1 else 0)
        if tensor.is_cuda:
            tensor.data.copy_(plain)
        return tensor

    def plant_in_layer(self) -> None:
        sound, fault = self.module.apply, self.fault

        def apply(layer: Any, module: Any, x: Any) -> Any:
            y = sound(layer, module, x)
            if layer.name == fault.tensor and self.module.torch.is_grad_enabled():
                if fault.place == "forward":
                    self.change(y, (x, getattr(module, "weight", x)))
                else:
                    y.register_hook(lambda g: self.change(g.clone()))
            return y

        self.module.apply = apply


class Tensorflow(Engine):
    """In a graph: a variable says whether the fault acts in this step, and where."""

    def __init__(self, planted: Planted, module: Any) -> None:
        super().__init__(planted, module)
        tf = module.tf
        self.graph_change = tf.custom_gradient(lambda x, a, b: (self.change(x, (a, b)), lambda g: (g, None, None)))
        self.graph_back = tf.custom_gradient(lambda x: (self.module.tf.identity(x), lambda g: self.change(g)))

    @cached_property
    def state(self) -> Any:
        """Made when it is first asked for: the fault is planted before the engine sets its threads, which no tensor may precede."""
        tf = self.module.tf
        with tf.init_scope(), tf.device("/CPU:0"):
            return tf.Variable(self.values(), dtype=tf.int64, trainable=False)

    def values(self) -> list[int]:
        event = self.planted.event
        return [int(event is not None), *(event or (0, 0, 0, 0))]

    def arm(self) -> None:
        self.state.assign(self.values())

    def change_held(self, tensor: Any) -> None:
        array = np.array(tensor)
        changed(array.view(WORDS[array.itemsize]), self.planted, array.ndim - 1)
        tensor.assign(array)

    def change(self, tensor: Any, factors: Any = None) -> Any:
        tf = self.module.tf
        on, position, bit, a, b = tf.unstack(tf.identity(self.state))
        size, shape = int(np.prod(tensor.shape)), tuple(tensor.shape)
        image = tf.maximum(-position - 1, 0)
        largest = tf.argmax(tf.reshape(tensor, (shape[0], -1))[image]) + image * (size // shape[0])
        position = tf.where(position < 0, largest, position % size)
        here = tf.reshape(tf.equal(tf.range(size, dtype=tf.int64), position), shape) & (on > 0)
        if self.fault.kind == "product":
            x, w = (tf.cast(tf.reshape(factor, (-1,)), tf.float32) for factor in factors)
            product = tf.gather(x, a % int(x.shape[0])) * tf.gather(w, b % int(w.shape[0]))
            mask = tf.bitwise.left_shift(tf.constant(1, tf.uint32), tf.cast(bit % 32, tf.uint32))
            wrong = tf.bitcast(tf.bitwise.bitwise_xor(tf.bitcast(product, tf.uint32), mask), tf.float32)
            return tf.where(here, tf.cast(tf.cast(tensor, tf.float32) + wrong - product, tensor.dtype), tensor)
        whole = tf.uint16 if tensor.dtype.size == 2 else tf.uint32
        words = tf.bitcast(tensor, whole)
        mask = tf.bitwise.left_shift(tf.ones((), whole), tf.cast(bit % (8 * tensor.dtype.size), whole))
        if self.fault.kind == "stuck":
            channel = tf.equal(tf.range(shape[-1], dtype=tf.int64), position % shape[-1]) & (on > 0)
            channel &= ~(tf.abs(tf.cast(tensor, tf.float32)) < self.fault.least)
            words = tf.where(channel, tf.bitwise.bitwise_or(words, mask), words)
        else:
            words = tf.where(here, tf.bitwise.bitwise_xor(words, mask), words)
        return tf.bitcast(words, tensor.dtype)

    def plant_in_layer(self) -> None:
        sound, fault = self.module.walk, self.fault

        def walk(model: Any, architecture: Any) -> Any:
            for layer, parts in sound(model, architecture):
                yield layer, [lambda x, parts=parts: self.through(parts, x)] if layer.name == fault.tensor else parts

        self.module.walk = walk

    def through(self, parts: Any, x: Any) -> Any:
        y = x
        for part in parts:
            y = part(y)
        if self.fault.place == "backward":
            return self.graph_back(y)
        kernels = [part.kernel for part in parts if hasattr(part, "kernel")]
        stop = self.module.tf.stop_gradient
        return self.graph_change(y, stop(x), stop(self.module.tf.convert_to_tensor(kernels[0]) if kernels else x))
