"""How many threads torch has: the cores that this process may use, or one where engines are compared."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from app import machine


def use_cores() -> int:
    """Let torch use the cores of the cgroup and the affinity, not the host's; OMP_NUM_THREADS goes first.

    Set each time: what a TorchScript engine of this process has set would change the order of sums, and so a resume.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    torch.set_num_threads(int(wanted) if wanted.isdecimal() and int(wanted) else machine.cores().usable)
    return torch.get_num_threads()


@contextmanager
def only_one() -> Iterator[None]:
    """As every engine has that is judged: the checkpoint's speed is compared with theirs."""
    torch.set_num_threads(1)
    try:
        yield
    finally:
        use_cores()
