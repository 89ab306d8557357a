"""Two threads, on any machine: kernels share large vectors between them."""

import pytest
import torch


@pytest.fixture(autouse=True)
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)
