"""What people train AlexNet with in PyTorch: `python -m tools.bench.torch_programs PROGRAM SETTINGS`, SETTINGS as JSON.

plain       torchvision's network, autocast, channels last, fused SGD, on one batch that is there; takes turns
lightning   the same in PyTorch Lightning, with a DataLoader that crops and flips, resizing on the device
original    the program of the original report: PIL images, resized one by one in two workers, fp32, Adam
"""

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import alexnet
from torchvision.transforms import v2

from job.bench.turns import Reply, replies, serve, timed
from job.core.sampling import NORMALIZATION
from job.engines.torch_probe import TorchProbe
from tools.bench.whole import Settings, images, used

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fused_sgd(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)


class Plain:
    def __init__(self, settings: Settings) -> None:
        self.bf16 = settings.precision == "bf16"
        self.model = alexnet(num_classes=10).to(DEVICE, memory_format=torch.channels_last)
        self.optimizer = fused_sgd(self.model)
        x = torch.randn(settings.batch_size, 3, settings.image_size, settings.image_size, device=DEVICE)
        self.x, self.y = x.contiguous(memory_format=torch.channels_last), torch.arange(settings.batch_size, device=DEVICE) % 10
        self.probe = TorchProbe(gpu=DEVICE.type == "cuda")

    def take_steps(self, count: int) -> None:
        for _ in range(count):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bf16):
                loss = F.cross_entropy(self.model(self.x), self.y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()

    def steps(self, count: int) -> Reply:
        return {**timed(lambda: self.take_steps(count), count, self.probe.seconds)}


class Pictures(Dataset[Any]):
    """CIFAR-10 as torchvision has it: PIL images and labels."""

    def __init__(self, settings: Settings, transform: Any) -> None:
        self.images, self.labels = images(settings)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Tensors(Dataset[Any]):
    """The same as tensors, uint8."""

    def __init__(self, settings: Settings, transform: Any) -> None:
        arrays, self.labels = images(settings)
        self.images = torch.from_numpy(np.ascontiguousarray(arrays.transpose(0, 3, 1, 2)))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def lightning(settings: Settings) -> Reply:
    import pytorch_lightning as pl

    mean, deviation = (torch.tensor(values, device=DEVICE).view(3, 1, 1) for values in NORMALIZATION["cifar10"])
    ends: list[float] = []

    class AlexNet(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = alexnet(num_classes=10).to(memory_format=torch.channels_last)

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = batch
            x = ((x.float() / 255) - mean) / deviation
            x = F.interpolate(x, size=(settings.image_size,) * 2, mode="bilinear", align_corners=False)
            loss = F.cross_entropy(self.model(x.contiguous(memory_format=torch.channels_last)), y, label_smoothing=0.1)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return fused_sgd(self.model)

        def on_train_batch_end(self, *_: Any) -> None:
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    augment = v2.Compose([v2.RandomCrop(32, padding=4, padding_mode="reflect"), v2.RandomHorizontalFlip()])
    loader = DataLoader(
        Tensors(settings, augment), settings.batch_size, shuffle=True, num_workers=2, drop_last=True, pin_memory=DEVICE.type == "cuda"
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1,
            precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
            accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
            devices=1,
            logger=pl.loggers.CSVLogger(folder),
            default_root_dir=folder,
            enable_progress_bar=False,
        )
        trainer.fit(AlexNet(), loader)
    return used(settings, ends)


def original(settings: Settings) -> Reply:
    side = settings.image_size
    steps = [transforms.Resize((side, side)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    loader = DataLoader(Pictures(settings, transforms.Compose(steps)), settings.batch_size, shuffle=True, num_workers=2)
    model = alexnet(num_classes=10).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    criterion = torch.nn.CrossEntropyLoss()
    ends, running_loss = [], 0.0
    for inputs, labels in loader:
        inputs, labels = inputs.to(DEVICE), labels.to(DEVICE)
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        ends.append(time.perf_counter())
    return used(settings, ends)


def main() -> None:
    settings = Settings(**json.loads(sys.argv[2]))
    torch.set_num_threads(settings.threads)
    with replies() as reply:
        if sys.argv[1] == "plain":
            program = Plain(settings)
            program.take_steps(1)
            reply({"ready": True})
            serve({"steps": program.steps}, reply)
        else:
            reply({"lightning": lightning, "original": original}[sys.argv[1]](settings))


if __name__ == "__main__":
    main()
