"""A worker's job in test_processes.py: it says when it has outlived its parent."""

import os
import time


def outlive(parent):
    """Print a line at the start, and another where this process lives on without its parent."""
    print("working", flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    for _ in range(200):
        time.sleep(0.02)
    print("outlived", flush=True)
    os._exit(0)  # it would wait for its next job for ever
