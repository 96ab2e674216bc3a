"""LoRA: fine-tune small low-rank changes of some linear layers, with ``peft``, and fold them into the weights after.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022). A model folder never holds
adapters: merged, it is a plain encoder of its preset.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from stplm.errors import StplmError

_TARGETS = {
    # The residual networks, what leads out of them, and the flow attention between cells.
    "tissue": r"own_blocks\.\d+\.(up|down)|own_out\.1|tissue_in"
    r"|tissue_blocks\.\d+\.(attention\.(query|key|value)|mlp\.(up|down))",
}
_BODY = r".*\.(query|key|value)"
"""Other presets: every attention, of a BERT body and between cells."""
_ADAPTER = "default"


def lora_targets(encoder: Any) -> list[str]:
    """Names of the linear layers of an encoder that LoRA changes, by its preset, in the order of its modules."""
    pattern = re.compile(_TARGETS.get(encoder.preset, _BODY))
    return [n for n, m in encoder.named_modules() if isinstance(m, nn.Linear) and pattern.fullmatch(n)]


def add_lora(encoder: Any, *, rank: int, alpha: int, dropout: float = 0.0) -> list[str]:
    """Put adapters on the encoder's target layers, in place; then only these train. The layers' names.

    The adapters change nothing until trained (their second factor starts at 0); the first is drawn with torch's
    current random state. The change of a layer is scaled by ``alpha / rank``. Raises StplmError without ``peft``.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise StplmError(
            "LoRA needs the package peft.", found=str(error), mend='pip install "stplm-napari[train]"'
        ) from error
    targets = lora_targets(encoder)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, bias="none")
    inject_adapter_in_model(config, encoder, _ADAPTER)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return targets


def merge_lora(encoder: Any) -> None:
    """Fold the adapters into the weights, in place, and take them out: the encoder has its own layers again."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [(n, m) for n, m in encoder.named_modules() if isinstance(m, LoraLayer)]:
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(encoder.get_submodule(parent), last, layer.get_base_layer())
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
