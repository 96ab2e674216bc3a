"""What two processes do that train together, and one after them that should come to the same."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import torch
from forked import fork_context
from quick_training import QUICK, SMALL

import stplm
from stplm.models import Model
from stplm.tasks.checkpoints import Checkpoints
from stplm.tasks.finetune import finetune
from stplm.tasks.finetune_config import FinetuneConfig
from stplm.tasks.training import TrainingConfig

CONFIG = replace(QUICK, patches=3)
TUNING = FinetuneConfig(epochs=2, batch=60, patch=20, block=60, buffer=5, refit=False, patience=9)


def pretrained(here: Path, name: str, config: TrainingConfig = CONFIG, **options: object) -> Model:
    """Six steps of the tissue preset; a checkpoint every two in the folder ``name``."""
    checkpoint = Checkpoints(here / name, every_steps=2, every_minutes=0)
    return stplm.pretrain(
        [here / "few.h5ad"], config, architecture=SMALL, checkpoint=checkpoint, device="cpu", **options
    )


def tuned(here: Path, name: str) -> Model:
    """Two epochs of the whole encoder; each loss goes to the file ``name``."""
    torch.manual_seed(0)
    return finetune("default", here / "few.h5ad", "truth", TUNING, history=here / f"{name}.jsonl", device="cpu")


def train_in_two(here: Path) -> None:
    """All of these, in two processes that find each other as those of ``accelerate launch`` do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [fork_context().Process(target=_train, args=(here, rank, port)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]


def _train(here: Path, rank: int, port: int) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ.update(where, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)

    def keep(done: int, total: int) -> None:
        if done == 5:
            shutil.copytree(here / "two", here / "half")

    pretrained(here, "two", progress=keep)
    tuned(here, "two-tuned")
