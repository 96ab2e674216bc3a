"""A run that was killed goes on from its checkpoint, and ends in the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from anndata import AnnData
from forked import ends_by_sigkill, pretrain_until_killed
from quick_training import QUICK, SMALL, SMALL_RANK

import stplm
from stplm.errors import Cancelled, ModelError
from stplm.tasks.checkpoints import Checkpoints


def test_a_killed_run_ends_in_the_same_bytes(few: AnnData, tmp_path: Path) -> None:
    section, folder = tmp_path / "few.h5ad", tmp_path / "checkpoint"
    few.write_h5ad(section)
    config = replace(QUICK, steps=12, contrast_weight=0.0)
    ends_by_sigkill(pretrain_until_killed, section, folder, config, SMALL_RANK)
    seen: list[int] = []
    resumed = stplm.pretrain(
        [section],
        config,
        preset="rank",
        architecture=SMALL_RANK,
        checkpoint=folder,
        resume=True,
        progress=lambda done, _: seen.append(done),
    )
    assert seen == [7, 8, 9, 10, 11, 12]
    whole = stplm.pretrain([section], config, preset="rank", architecture=SMALL_RANK)
    assert resumed.fingerprint() == whole.fingerprint()
    assert resumed.provenance["final_loss"] == whole.provenance["final_loss"]


@pytest.fixture
def stopped(few: AnnData, tmp_path: Path) -> Checkpoints:
    """A run of the tissue preset, cancelled after 5 steps, with a checkpoint of the fourth."""

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise Cancelled

    checkpoint = Checkpoints(tmp_path / "checkpoint", every_steps=2)
    with pytest.raises(Cancelled):
        stplm.pretrain([few], QUICK, architecture=SMALL, checkpoint=checkpoint, progress=stop)
    return replace(checkpoint, resume=True)


def test_cancelling_keeps_the_last_checkpoint(few: AnnData, stopped: Checkpoints) -> None:
    seen: list[int] = []
    resumed = stplm.pretrain(
        [few], QUICK, architecture=SMALL, checkpoint=stopped, progress=lambda done, _: seen.append(done)
    )
    assert seen == [5, 6]
    assert resumed.fingerprint() == stplm.pretrain([few], QUICK, architecture=SMALL).fingerprint()


def test_a_checkpoint_of_another_run_is_refused(few: AnnData, stopped: Checkpoints) -> None:
    with pytest.raises(ModelError, match="learning_rate"):
        stplm.pretrain([few], replace(QUICK, learning_rate=1e-3), architecture=SMALL, checkpoint=stopped)
    with pytest.raises(ModelError, match="sections"):
        stplm.pretrain([few[:200].copy()], QUICK, architecture=SMALL, checkpoint=stopped)
    with pytest.raises(ModelError, match="architecture"):
        stplm.pretrain([few], QUICK, architecture=replace(SMALL, hidden=16), checkpoint=stopped)
    with pytest.raises(ModelError, match="earlier run"):
        stplm.pretrain([few], QUICK, architecture=SMALL, checkpoint=stopped.folder)


def test_a_damaged_checkpoint_is_told(few: AnnData, stopped: Checkpoints) -> None:
    file = Path(stopped.folder) / "optimiser.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be read"):
        stplm.pretrain([few], QUICK, architecture=SMALL, checkpoint=stopped)
