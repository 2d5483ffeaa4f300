"""Run by torchrun: train a sharded module, and write what ``gather_state`` makes of it.

Usage: torchrun --nproc-per-node 2 sharded_state.py FOLDER. Process 0 writes ``state.safetensors``
after three of five steps; every process then goes on from it and from scratch, and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ansm_fast.training.state import (
    fill_optimizer_state,
    gather_state,
    read_state,
    scatter_state,
    write_tensors,
)


class Network(nn.Module):
    """The last layer gets no gradient before step 4, as the ANSM's head in detection."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, x, step):
        features = self.body(x)
        return (self.head(features) if step >= 4 else features).square().mean()


def make(mesh=None):
    torch.manual_seed(0)
    network = Network()
    if mesh is not None:
        fully_shard(network, mesh=mesh)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    fill_optimizer_state(optimizer)
    return network, optimizer


def train(network, optimizer, start, end):
    losses = []
    for step in range(start, end):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = network(x, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def main() -> None:
    distributed.init_process_group("gloo")
    mesh, path = init_device_mesh("cpu", (2,)), Path(sys.argv[1]) / "state.safetensors"
    network, optimizer = make(mesh)
    train(network, optimizer, 0, 3)
    tensors = gather_state(network, optimizer)
    if distributed.get_rank() == 0:
        write_tensors(path, tensors, {}, "nothing")
    distributed.barrier()
    unbroken = train(network, optimizer, 3, 6)
    network, optimizer = make(mesh)
    scatter_state(read_state(path)[0], network, optimizer)
    assert train(network, optimizer, 3, 6) == unbroken
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
