"""What the monitor says, against the matrices written out; and where it goes."""

import copy
import math
import multiprocessing
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from trainopt import DiagonalTO, Estimated, Exponential, FullTO, InverseTime, RankOneTO
from trainopt.integrations.loggers import to_mlflow, to_tensorboard, to_wandb
from trainopt.integrations.monitor import clock, large_batch_gradient, monitor, watch

CASES = [
    (FullTO, {"scope": "group"}),
    (FullTO, {"scope": "tensor"}),
    (DiagonalTO, {}),
    (RankOneTO, {"scope": "group"}),
    (RankOneTO, {"scope": "tensor"}),
]


def make(dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, dtype=dtype)) for s in ((3, 2), (4,))]


def step(optimizer, params, steps=3):
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()


def matrix(optimizer, params):
    """A as the dense matrix that it stands for."""
    state = [optimizer.state[p] for p in params]
    if isinstance(optimizer, DiagonalTO):
        return torch.diag(torch.cat([s["a"].reshape(-1) for s in state]))
    joint = optimizer.param_groups[0]["scope"] == "group"
    if isinstance(optimizer, FullTO):
        blocks = [s["A"] for s in state]
        return torch.cat(blocks) if joint else torch.block_diag(*blocks)
    flat = [(s["a"].reshape(-1), s["c"].reshape(-1)) for s in state]
    if joint:
        return torch.outer(*(torch.cat(pieces) for pieces in zip(*flat, strict=True)))
    return torch.block_diag(*(torch.outer(a, c) for a, c in flat))


@pytest.mark.parametrize(("cls", "extra"), CASES)
def test_norms_and_weights_are_those_of_the_matrices(cls, extra):
    params = make()
    optimizer = cls(params, lr=0.01, alpha=0.05, beta=0.3, **extra)
    step(optimizer, params)
    known = monitor(optimizer)
    b = torch.cat([optimizer.state[p]["b"].reshape(-1) for p in params])
    assert known["norm_A"] == pytest.approx(float(matrix(optimizer, params).norm()))
    assert known["norm_b"] == pytest.approx(float(b.norm()))
    assert known["residual_norm"] == pytest.approx(float(optimizer.residual_norm()))
    assert (known["lr"], known["alpha"], known["beta"]) == (0.01, 0.05, 0.3)
    w = [p.detach().reshape(-1) for p in params]
    if cls is DiagonalTO:
        seen = [float(x.square().mean()) for x in w]
    elif cls is FullTO:
        seen = [float(x @ x) for x in w]
    else:
        pieces = [optimizer.state[p]["c"].reshape(-1) @ x for p, x in zip(params, w, strict=True)]
        seen = [float(piece) ** 2 for piece in pieces]
        if extra["scope"] == "group":
            seen = [float(sum(pieces)) ** 2]
    if cls is FullTO and extra["scope"] == "group":
        seen = [sum(seen)]
        assert known["residual_factor"] == pytest.approx(abs(1 - known["fresh_weight"]))
    assert known["fresh_weight"] == pytest.approx(0.3 + 0.05 * sum(seen) / len(seen))


def test_fresh_weight_is_the_part_of_a_new_gradient_that_reaches_the_estimate():
    """Full-TO: Ĝ(g + u) − Ĝ(g) = (β + α‖w‖²) u, for any u."""
    params = make()
    optimizer = FullTO(params, lr=0.0, alpha=0.02, beta=0.3)
    step(optimizer, params, 1)
    expected = monitor(optimizer)["fresh_weight"]
    found = []
    for extra in (0.0, 1.0):
        twins, twin = copy.deepcopy([params, optimizer])
        for p in twins:
            p.grad = torch.full_like(p, extra)
        twin.learn()
        found.append(twin.estimate(twins[0]))
    torch.testing.assert_close(found[1] - found[0], torch.full_like(found[0], expected))


def test_rates_are_those_of_the_clock_and_of_each_group():
    params = make()
    groups = [{"params": params[:1]}, {"params": params[1:], "beta": 0.5, "lr": 0.2}]
    optimizer = DiagonalTO(groups, lr=0.1, alpha=Exponential(0.8, factor=0.5), beta=0.3)
    step(optimizer, params, 2)
    known = monitor(optimizer)
    assert known["alpha"] == pytest.approx(0.2)
    assert (known["beta_0"], known["beta_1"]) == (0.3, 0.5)
    assert (known["lr_0"], known["lr_1"]) == (0.1, 0.2)
    assert clock(optimizer) == 2


def test_the_estimate_is_held_against_a_gradient():
    params = make()
    inner = torch.optim.AdamW(params, lr=0.05)
    optimizer = Estimated(inner, DiagonalTO(params, lr=0.0, alpha=0.0, beta=0.25))
    for p in params:
        p.grad = torch.full_like(p, 7.0)
    truth = large_batch_gradient(optimizer, lambda: sum(p.sum() for p in params))
    assert all(torch.equal(g, torch.ones_like(g)) for g in truth.values())
    assert all(torch.equal(p.grad, torch.full_like(p, 7.0)) for p in params)
    for p in params:
        p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    expected = torch.cat([optimizer.estimate(p).reshape(-1) for p in params]) - 1
    known = monitor(optimizer, truth)
    assert known["lr"] == 0.05
    assert known["error"] == pytest.approx(float(expected.norm()) / math.sqrt(10))
    assert known["batch_error"] == pytest.approx(1.0)
    assert known["cosine"] == pytest.approx(1.0)
    assert known["batch_cosine"] == pytest.approx(1.0)


def test_the_estimate_beats_the_mini_batch_where_the_gradient_is_linear():
    """A noisy quadratic: after a while Ĝ is nearer to ∇F = w − 1 than g is, on average."""
    params = make()
    estimator = DiagonalTO(params, lr=0.0, alpha=0.02, beta=0.1)
    optimizer = Estimated(torch.optim.SGD(params, lr=0.05), estimator)
    errors = []
    for _ in range(300):
        truth = large_batch_gradient(
            optimizer, lambda: sum((p - 1).square().sum() / 2 for p in params)
        )
        for p in params:
            p.grad = truth[p] + torch.randn_like(p)
        optimizer.step()
        known = monitor(optimizer, truth)
        errors.append((known["error"], known["batch_error"]))
    learned, batch = torch.tensor(errors[100:]).mean(0)
    assert learned < 0.5 * batch


@pytest.mark.parametrize("cls", [FullTO, DiagonalTO, RankOneTO])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.bfloat16])
def test_other_dtypes(cls, dtype):
    params = make(dtype)
    optimizer = Estimated(torch.optim.AdamW(params), cls(params, lr=0.0, beta=0.5))
    step(optimizer, params, 2)
    known = monitor(optimizer, {p: p.grad for p in params})
    assert all(math.isfinite(value) for value in known.values())
    assert known["batch_error"] == 0


def test_parameters_without_gradients_are_left_out():
    params = make()
    optimizer = DiagonalTO([{"params": params[:1]}, {"params": params[1:]}], lr=0.1, beta=0.5)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert monitor(optimizer)["norm_b"] > 0
    rank_one = RankOneTO(params, lr=0.1, beta=0.5, scope="group")
    rank_one.step()
    assert monitor(rank_one)["fresh_weight"] >= 0.5


def test_frozen_and_empty_tensors_do_not_count():
    """As the optimizer without them, by the matrices of `test_norms_and_weights…`."""
    for cls, extra in CASES:
        params, others = make(), make()
        frozen = [torch.full((3,), 50.0), torch.nn.Parameter(torch.zeros(0))]
        optimizer = cls([*frozen, *params], lr=0.01, alpha=0.05, beta=0.3, **extra)
        alone = cls(others, lr=0.01, alpha=0.05, beta=0.3, **extra)
        if extra.get("scope") == "group" and cls is RankOneTO:
            for group in (*optimizer.param_groups, *alone.param_groups):
                group["init"] = torch.ones_like  # "ones" is 1/√d, with d of all tensors
        for which, mine in ((optimizer, [frozen[1], *params]), (alone, others)):
            torch.manual_seed(1)
            step(which, mine)
        optimizer.state[frozen[0]]  # an empty entry, as reading a defaultdict makes it
        assert monitor(optimizer) == pytest.approx(monitor(alone))


def test_nothing_but_empty_tensors():
    params = [torch.nn.Parameter(torch.zeros(0))]
    optimizer = DiagonalTO(params, lr=0.1, beta=0.5)
    step(optimizer, params)
    known = monitor(optimizer)
    assert known["residual_norm"] == known["norm_A"] == 0
    assert math.isnan(known["fresh_weight"])
    assert math.isnan(known["residual_factor"])


def test_rates_of_an_inner_optimizer():
    """A schedule goes by the clock of its own optimizer; no lr at all is left out."""
    params = make()
    inner = DiagonalTO(params, lr=InverseTime(1.0, 1.0), alpha=0.0)
    optimizer = Estimated(inner, DiagonalTO(params, lr=0.0, alpha=0.0, beta=0.5))
    step(optimizer, params, 3)
    assert monitor(optimizer)["lr"] == pytest.approx(1 / 4)
    plain = Estimated(torch.optim.SGD(params, lr=0.1), DiagonalTO(params, lr=0.0))
    plain.param_groups[0]["lr"] = None  # as in Adafactor of transformers, which finds its own
    for p in params:
        p.grad = torch.zeros_like(p)
    plain.estimator.learn()
    assert not {"lr", "lr_0"} & set(monitor(plain))


def test_wrappers_are_looked_through_and_others_refused():
    params = make()
    optimizer = DiagonalTO(params, lr=0.1)
    step(optimizer, params)
    assert monitor(SimpleNamespace(optimizer=optimizer)) == monitor(optimizer)
    with pytest.raises(TypeError, match="AdamW holds no Trainable Optimizer"):
        monitor(torch.optim.AdamW(params))


def test_watch_logs_now_and_then_until_it_is_removed():
    params = make()
    optimizer = Estimated(torch.optim.SGD(params, lr=0.1), DiagonalTO(params, lr=0.0, beta=0.5))
    seen = []
    handle = watch(optimizer, lambda values, at: seen.append((at, values["beta"])), every=2)
    step(optimizer, params, 5)
    handle.remove()
    step(optimizer, params, 2)
    assert seen == [(2, 0.5), (4, 0.5)]
    watch(optimizer, lambda values, at: seen.append(at))
    optimizer.zero_grad()
    optimizer.step()  # without gradients there is nothing to log
    assert len(seen) == 2
    with pytest.raises(ValueError, match="every=0 is not allowed"):
        watch(optimizer, print, every=0)


def sharded_or_not(cls, extra, mesh):
    """What the monitor says after some steps, with the tensors in shards over `mesh` or whole."""
    torch.manual_seed(0)
    shapes = ((4, 3), (2,)) if cls is RankOneTO else ((5, 3), (1,))  # the last: one has none of it
    params, grads = ([torch.randn(s, dtype=torch.float64) for s in shapes] for _ in range(2))
    if mesh is not None:
        shard = torch.distributed.tensor.Shard(0)
        params, grads = (
            [torch.distributed.tensor.distribute_tensor(x, mesh, [shard]) for x in xs]
            for xs in (params, grads)
        )
    params = [torch.nn.Parameter(p) for p in params]
    optimizer = cls(params, lr=0.1, alpha=0.05, beta=0.3, keep_estimate=True, **extra)
    for _ in range(3):
        for p, g in zip(params, grads, strict=True):
            p.grad = g + p.detach()
        optimizer.step()
    return monitor(optimizer, {p: 2 * p.grad - 1 for p in params})


def one_of_two(rank, folder, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    results.put([sharded_or_not(cls, extra, mesh) for cls, extra in CASES if cls is not FullTO])
    torch.distributed.destroy_process_group()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_every_process_of_a_sharded_model_sees_the_whole(tmp_path):
    expected = [sharded_or_not(cls, extra, None) for cls, extra in CASES if cls is not FullTO]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [
        context.Process(target=one_of_two, args=(rank, tmp_path, results)) for rank in range(2)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        for _ in processes:
            for known, right in zip(results.get(), expected, strict=True):
                assert known == pytest.approx(right)
    finally:
        for process in processes:
            process.terminate()


def test_tensorboard_has_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        log = to_tensorboard(writer)
        log({"alpha": 0.5, "norm_A": 2.0}, 3)
        log({"alpha": 0.25, "norm_A": 3.0}, 6)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["trainopt/alpha", "trainopt/norm_A"]
    assert [(e.step, e.value) for e in events.Scalars("trainopt/alpha")] == [(3, 0.5), (6, 0.25)]


def test_wandb_and_mlflow_are_called_by_their_own_names():
    calls = []
    run = SimpleNamespace(log=lambda values, step: calls.append((values, step)))
    to_wandb(run)({"alpha": 0.5}, 3)
    client = SimpleNamespace(
        log_metric=lambda run_id, name, value, step: calls.append((run_id, name, value, step))
    )
    to_mlflow(client, "r")({"alpha": 0.5}, 3)
    assert calls == [({"trainopt/alpha": 0.5}, 3), ("r", "trainopt/alpha", 0.5, 3)]


@pytest.mark.filterwarnings("ignore")
def test_a_real_wandb_run_takes_it(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with wandb.init(project="p", mode="offline", dir=str(tmp_path)) as run:
        to_wandb(run)({"alpha": 0.5}, 3)
    (kept,) = tmp_path.rglob("*.wandb")
    assert b"trainopt/alpha" in kept.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_a_real_mlflow_run_has_what_was_logged(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("e"))
    to_mlflow(client, run.info.run_id)({"alpha": 0.5}, 3)
    (metric,) = client.get_metric_history(run.info.run_id, "trainopt/alpha")
    assert (metric.value, metric.step) == (0.5, 3)


def test_nothing_but_torch_is_imported_for_it():
    code = "import sys, trainopt.integrations.loggers; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"transformers", "lightning", "accelerate", "tensorboard", "wandb"} & set(modules)
