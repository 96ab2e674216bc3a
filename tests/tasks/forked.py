"""Processes for tests that need some: forked from one that has torch and the engine loaded.

Started anew, each would load them again, which takes longer than what it has to do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context

from stplm.tasks.training import TrainingConfig

LOADED = ["distributed", "stplm.nn.rank", "stplm.nn.tissue", "stplm.tasks.cohort_run", "stplm.tasks.embed_parts"]
LOADED += [
    "stplm.tasks.classify",
    "stplm.tasks.pretrain",
    "stplm.tasks.trainer",
    "sklearn.linear_model",
    "spatialdata",
    "accelerate",
]
METHOD = {"distributed.worker.multiprocessing-method": "forkserver"}


def fork_context() -> ForkServerContext:
    """What starts them; to be had before the first one is started."""
    with dask.config.set(METHOD):
        get_mp_context()  # sets a list of its own once, which ours is to replace
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def ends_by_sigkill(work: Callable[..., object], *given: Any) -> None:
    """Call a function of a helper module in a process of its own, which must not come to its end."""
    process = fork_context().Process(target=work, args=given)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@contextmanager
def two_workers() -> Iterator[Client]:
    """Of a Dask scheduler with two worker processes of one thread."""
    fork_context()
    with (
        dask.config.set(METHOD),
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,  # or arrays of other tests would be computed there
    ):
        yield client


def pretrain_until_killed(section: Path, folder: Path, config: TrainingConfig, sizes: dict[str, int]) -> None:
    """Of gene tokens, with a checkpoint after six steps; killed after eight."""
    import torch

    import stplm
    from stplm.tasks.checkpoints import Checkpoints

    torch.set_num_threads(1)

    def kill(done: int, total: int) -> None:
        if done == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint = Checkpoints(folder, every_steps=6, every_minutes=0)
    stplm.pretrain([section], config, preset="rank", architecture=sizes, checkpoint=checkpoint, progress=kill)


def embed_until_killed(section: Path, out: Path, model: Path) -> None:
    """In pieces of 100 cells; killed once four are there."""
    import torch

    from stplm.tasks import encode
    from stplm.tasks.embed_sections import embed_sections

    torch.set_num_threads(1)
    encode.BLOCK = encode.BAND_CELLS = 100

    def kill(done: int, total: int) -> None:
        if len(list(out.glob("*.parts/own-0*.npy"))) >= 4:
            os.kill(os.getpid(), signal.SIGKILL)

    embed_sections([section], out, model, progress=kill)
