"""Work spread over processes, which end with their parent and when it stops."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
        workers: number of processes.
    """
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


def _start_worker() -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
