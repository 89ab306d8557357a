"""Two processes that share the batches take the path of one, and go on from rank 0's state."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from secant_common import Problem
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from trainopt import ChunkSampler, SecantTO

WORLD, PASSES = 2, 6


def make():
    torch.manual_seed(0)
    return torch.nn.Linear(6, 1).double()


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def run(model, sampler, until, stop=None, saved=None, base=False):
    """Train until a number of steps, from `saved`; return the state after `stop` of them."""
    problem = Problem(n=90)
    data = TensorDataset(problem.x, problem.y[:, None])
    adam = torch.optim.Adam(model.parameters(), lr=0.02) if base else None
    optimizer = SecantTO(model.parameters(), sampler, weight_decay=1e-2, base=adam)
    if saved:
        optimizer.load_state_dict(saved)
        sampler.seek(optimizer.steps)
    while optimizer.steps < until:
        for x, y in DataLoader(data, batch_sampler=sampler):
            optimizer.zero_grad()
            (0.5 * (model(x) - y).square().mean()).backward()
            optimizer.step()
            if optimizer.steps == stop:
                return optimizer.state_dict()
    return None


def sampler_of(rank):
    return ChunkSampler(90, 4, 3, num_replicas=WORLD, rank=rank)


def work(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD)
    try:
        until = PASSES * sampler_of(rank).plan.steps
        for base in (False, True):
            straight = DistributedDataParallel(make())
            run(straight, sampler_of(rank), until, base=base)
            # Rank 0's state, written in the middle of a chunk, is both ranks'.
            model, file = DistributedDataParallel(make()), f"{folder}/saved{base}"
            state = run(model, sampler_of(rank), until, stop=until - 10, base=base)
            if rank == 0:
                torch.save({"model": model.module.state_dict(), "optimizer": state}, file)
            dist.barrier()
            saved = torch.load(file, weights_only=True)
            resumed = DistributedDataParallel(make())
            resumed.module.load_state_dict(saved["model"])
            run(resumed, sampler_of(rank), until, saved=saved["optimizer"], base=base)
            torch.save([flat(straight), flat(resumed)], f"{folder}/{rank}{base}")
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
    for base in (False, True):
        ends = [end for rank in range(WORLD) for end in torch.load(tmp_path / f"{rank}{base}")]
        assert all(torch.equal(end, ends[0]) for end in ends)
        sampler = ChunkSampler(90, 4 * WORLD, 3)
        until, one = PASSES * sampler.plan.steps, make()
        assert (until - 10) % sampler.plan.steps not in (0, *sampler.plan.ends)
        run(one, sampler, until, base=base)
        torch.testing.assert_close(ends[0], flat(one), rtol=1e-6, atol=1e-9)
