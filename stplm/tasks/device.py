"""Where torch runs."""

from __future__ import annotations

import torch

from stplm.errors import StplmError


def choose_device(device: str = "auto") -> torch.device:
    """``"auto"`` is the first CUDA GPU, else the CPU. Raises StplmError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise StplmError(
            f"Device {device!r} cannot be used on this machine.",
            found=str(error).splitlines()[0],
            expected="auto, cpu, or a GPU that torch sees (cuda, cuda:1, mps)",
            mend="Choose auto.",
        ) from error
    return chosen
