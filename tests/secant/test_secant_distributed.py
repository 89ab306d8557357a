"""Two processes that share the batches take the path of one."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from secant_common import Problem
from torch.nn.parallel import DistributedDataParallel

from trainopt import ChunkSampler, SecantTO

WORLD = 2


def run(model, sampler, problem):
    x, y = problem.x, problem.y[:, None]
    optimizer = SecantTO(model.parameters(), sampler, weight_decay=1e-2)
    for _ in range(6):
        for rows in sampler:
            optimizer.zero_grad()
            (0.5 * (model(x[rows]) - y[rows]).square().mean()).backward()
            optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def make():
    torch.manual_seed(0)
    return torch.nn.Linear(6, 1).double()


def work(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD)
    try:
        problem = Problem(n=90)
        sampler = ChunkSampler(90, 4, 3, num_replicas=WORLD, rank=rank)
        torch.save(run(DistributedDataParallel(make()), sampler, problem), f"{folder}/{rank}")
    finally:
        dist.destroy_process_group()


def test_two_processes_are_one_on_the_joined_batches(tmp_path):
    processes = mp.spawn(work, (str(tmp_path),), nprocs=WORLD, join=False)
    try:
        while not processes.join():
            pass
    finally:
        for process in processes.processes:
            process.kill()
    ranks = [torch.load(tmp_path / str(rank)) for rank in range(WORLD)]
    assert torch.equal(*ranks)
    one = run(make(), ChunkSampler(90, 4 * WORLD, 3), Problem(n=90))
    torch.testing.assert_close(ranks[0], one, rtol=1e-6, atol=1e-9)
