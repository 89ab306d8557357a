"""Work spread over processes, which end with their parent and when it stops."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import TypeVar

import torch

from trainopt.stopping import end, held_back

Job = TypeVar("Job")
Done = TypeVar("Done")


def spread(work: Callable[[Job], Done], jobs: Sequence[Job], workers: int) -> Iterator[Done]:
    """Do the jobs, in their order, in that many processes of one thread; yield each as it ends.

    Args:
        work: a function of a module, of which the processes import a copy.
        jobs: what it is called with; they travel by pickle.
        workers: number of processes; 0 does the jobs in this one.
    """
    if workers == 0:
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as executor:
        try:
            with held_back():  # the processes are started here
                futures = [executor.submit(work, job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            end(set(multiprocessing.active_children()) - others)
            raise


def shared(
    work: Callable[[Job, bool], Done | None], jobs: Sequence[Job], workers: int
) -> Iterator[Done]:
    """As `spread`, for jobs that another machine may be at: these come when all others are done.

    Args:
        work: a function of a job and of whether to wait for another machine that is at it; without
            waiting, it returns None for such a job.
        jobs: what it is called with.
        workers: number of processes; 0 does the jobs in this one.
    """
    for wait in (False, True):
        busy = []
        for job, done in spread(partial(_named, work, wait), jobs, workers):
            if done is None:
                busy.append(job)
            else:
                yield done
        jobs = busy


def _named(
    work: Callable[[Job, bool], Done | None], wait: bool, job: Job
) -> tuple[Job, Done | None]:
    return job, work(job, wait)


def _start_worker() -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
