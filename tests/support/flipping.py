"""`python -m tests.support.flipping train …`: the command, where worker 1 computes wrongly: after step 6 one of its weights is another."""

import torch

from job.cli import main
from job.engines import torch_engine

STEP = 6
original = torch_engine.TorchNetwork.step


def step(self, plan, *, rate, number):
    original(self, plan, rate=rate, number=number)
    if number == STEP and self.exchange.place.rank == 1:
        with torch.no_grad():
            self.parameters["features.0.weight"][0, 0, 0, 0] += 1e-6


if __name__ == "__main__":
    torch_engine.TorchNetwork.step = step
    main()
