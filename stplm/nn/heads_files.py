"""Heads in a model folder: weights in ``heads.safetensors``, the rest in ``config.json``; one checksum for both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from stplm.errors import ModelError
from stplm.nn.heads import ClassHeads, HeadsConfig

FILE = "heads.safetensors"


def write_heads(folder: Path, heads: ClassHeads) -> tuple[dict[str, Any], str]:
    """Write the weights into ``folder``; the entry for its ``config.json``, and the checksum."""
    weights = save({k: v.contiguous().cpu() for k, v in heads.state_dict().items()})
    (folder / FILE).write_bytes(weights)
    config = heads.config.to_dict()
    return config, _checksum(weights, config)


def read_heads(folder: Path, config: dict[str, Any] | None, expected: str | None, dim: int) -> ClassHeads:
    """The heads of a model folder whose ``config.json`` and provenance say ``config`` and ``expected``.

    Raises ModelError when they are damaged, were altered, or do not fit cell vectors of ``dim``.
    """
    try:
        weights = (folder / FILE).read_bytes()
    except OSError as error:
        raise _damaged(folder, str(error)) from error
    if config is None or _checksum(weights, config) != expected:
        raise _damaged(folder, "another checksum")
    try:
        sizes = HeadsConfig(**config)
        # The weights drawn here are overwritten; the caller's own random numbers stay as they were.
        with torch.random.fork_rng(devices=[]):
            heads = ClassHeads(sizes)
        heads.load_state_dict(load(weights))
        if sizes.dim != dim:
            raise ValueError(f"heads for vectors of {sizes.dim}, not {dim}")
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, str(error)) from error
    return heads.eval()


def _checksum(weights: bytes, config: dict[str, Any]) -> str:
    return hashlib.sha256(weights + json.dumps(config, sort_keys=True).encode()).hexdigest()


def _damaged(folder: Path, found: str) -> ModelError:
    return ModelError(
        "The model's heads are damaged or were altered.",
        where=folder / FILE,
        found=found,
        mend="Copy the model folder again, or fine-tune again.",
    )
