"""Checkpoint folders in the formats of Geneformer (Theodoris et al. 2023; V1 and V2) and of the STPLM reference models.

Such a folder is what ``transformers`` writes of a BertForMaskedLM (``config.json``, ``model.safetensors``); which token
is which gene is kept beside it: ``token_dictionary.json`` or ``.csv``, gene -> id, and the genes' medians in
``gene_median_dictionary.json``. The authors publish both as pickles, which are programs as much as data: the user
converts them, this module does not open them.

Special tokens tell the formats apart: V1 has ``<pad>`` and ``<mask>``; STPLM has a ``<cls>`` too, after the last id of
its dictionary; V2 has ``<cls>`` and ``<eos>`` in its dictionary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig

from stplm.errors import ModelError
from stplm.io.staged import staged_folder
from stplm.nn.checkpoint_genes import DICTIONARY, MEDIANS, checkpoint_medians, checkpoint_vocabulary
from stplm.nn.rank import RankConfig, RankEncoder
from stplm.nn.ranking import CLS as CLS_ROW
from stplm.nn.ranking import EOS as EOS_ROW
from stplm.nn.ranking import MASK as MASK_ROW
from stplm.nn.ranking import PAD as PAD_ROW
from stplm.tokens.vocabulary import CLS, EOS, MASK, PAD, Vocabulary

if TYPE_CHECKING:
    from stplm.models import Model

LAYOUTS: Mapping[str, tuple[bool, bool]] = {
    "geneformer-v1": (False, False),
    "stplm": (True, False),
    "geneformer-v2": (True, True),
}
"""Of each format: whether sentences have a ``<cls>`` and an ``<eos>``."""
_SPECIAL_ROWS = {PAD: PAD_ROW, MASK: MASK_ROW, CLS: CLS_ROW, EOS: EOS_ROW}
_CONVERT_WEIGHTS = (
    "If you trust the file, convert it yourself:\n"
    "    import torch; from safetensors.torch import save_file\n"
    '    weights = torch.load("pytorch_model.bin", weights_only=True)\n'
    '    save_file({k: v.clone() for k, v in weights.items()}, "model.safetensors", {"format": "pt"})'
)
_HEAD = {
    "mlm_transform.0.weight": "cls.predictions.transform.dense.weight",
    "mlm_transform.0.bias": "cls.predictions.transform.dense.bias",
    "mlm_transform.2.weight": "cls.predictions.transform.LayerNorm.weight",
    "mlm_transform.2.bias": "cls.predictions.transform.LayerNorm.bias",
}
_WORDS, _WORD_BIAS = "embeddings.word_embeddings.weight", "cls.predictions.bias"
_SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "max_length": "max_position_embeddings",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "token_types": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
}


def load_checkpoint(
    folder: Path,
    vocabulary: str | Path | Vocabulary | None = None,
    medians: str | Path | Mapping[str, float] | None = None,
) -> tuple[RankEncoder, dict[str, Any]]:
    """Read a checkpoint folder as a gene-token encoder, and what to say of where it comes from.

    Cell vectors are the last layer's: the mean over genes where the format has no ``<cls>``, else that of ``<cls>``;
    neighbours come in by STPLM's fixed rule. The decoder is not part of a checkpoint: it starts from zeros.

    Parameters
    ----------
    folder
        With ``config.json`` and ``model.safetensors``.
    vocabulary
        A shipped vocabulary's name, the path of a JSON or CSV of gene -> id, or a vocabulary. Default: the folder's
        dictionary, else the shipped "reference" where it has the size of the checkpoint.
    medians
        As for :func:`stplm.rank_encode`. Default: ``gene_median_dictionary.json`` in the folder, else the shipped table
        that knows most of the genes.

    Raises
    ------
    ModelError
        No dictionary fits; a file is missing or damaged; weights and config do not fit.
    """
    weights = _read_weights(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        # Writers leave out what is as by default.
        config = {**BertConfig().to_dict(), **config}
        sizes: dict[str, Any] = {name: config[theirs] for name, theirs in _SIZES.items()}
        positions = config.get("position_embedding_type", "absolute")
        n_tokens = len(weights[_WORDS])
    except (OSError, ValueError, KeyError) as error:
        raise _misfit(folder, f"{type(error).__name__}: {error}") from error
    if positions != "absolute":
        raise _misfit(folder, f"position embeddings that are {positions!r}, not absolute")
    words = checkpoint_vocabulary(folder, vocabulary, n_tokens)
    genes = sorted(words.ids, key=words.ids.__getitem__)
    cls, eos = CLS in words.special, EOS in words.special
    try:
        with torch.random.fork_rng(devices=[]):
            # Of the CPU only: it is what is put back.
            torch.default_generator.manual_seed(0)
            sizes |= {"cls": cls, "eos": eos, "pool": "cls" if cls else "mean", "pool_norm": False}
            encoder = RankEncoder(genes, RankConfig(**sizes, count_bins=0, gate="fixed"))
        has_head = _fill(encoder, weights, words)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise _misfit(folder, str(error)) from error
    origin, figures = checkpoint_medians(genes, folder, medians)
    encoder.gene_median.copy_(torch.from_numpy(figures))
    return encoder.eval(), {
        "description": f"A checkpoint in Geneformer's or STPLM's format, {len(genes)} genes, "
        f"{'with' if cls else 'without'} <cls>, {'with' if eos else 'without'} <eos>.",
        "vocabulary": words.name,
        "medians": origin,
        "masked_gene_head": has_head,
    }


def save_checkpoint(model: Model, folder: str | Path, *, layout: str, overwrite: bool = False) -> Path:
    """Write a model of the preset "rank" as a checkpoint folder that ``transformers`` reads as BertForMaskedLM.

    Token ids follow the model's gene order. The formats hold the encoder and the masked-gene head; not the gate, the
    decoder or the norm of pooled vectors.

    Raises
    ------
    ModelError
        The layout is none of :data:`LAYOUTS` or has other special tokens than the model; the model is of another
        preset, or reads count bins.
    """
    encoder = model.encoder
    if not isinstance(encoder, RankEncoder):
        raise ModelError("Only models of the preset 'rank' fit these formats.", found=model.preset)
    c = encoder.config
    if layout not in LAYOUTS:
        raise ModelError(f"There is no layout {layout!r}.", expected=", ".join(LAYOUTS))
    if LAYOUTS[layout] != (c.cls, c.eos):
        raise ModelError(
            "The model's special tokens are not those of this format.",
            found=f"cls={c.cls}, eos={c.eos}",
            expected="cls={}, eos={}".format(*LAYOUTS[layout]),
            mend="Choose the layout that has them.",
        )
    if c.count_bins:
        raise ModelError("This model reads count bins, which these formats cannot hold.")
    n = len(encoder.genes)
    # STPLM's <cls> comes after the genes, V2's before them.
    special = {PAD: 0, MASK: 1} | ({CLS: n + 2} if layout == "stplm" else {CLS: 2, EOS: 3} if c.cls else {})
    first = 4 if c.eos else 2
    written = {name: i for name, i in special.items() if layout != "stplm" or name != CLS}
    dictionary = written | {gene: first + i for i, gene in enumerate(encoder.genes)}
    config = {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": n + len(special),
        "pad_token_id": 0,
        "attention_probs_dropout_prob": c.dropout,
        "initializer_range": 0.02,
        **{theirs: getattr(c, name) for name, theirs in _SIZES.items()},
    }
    medians = dict(zip(encoder.genes, encoder.gene_median.tolist(), strict=True))
    with staged_folder(folder, overwrite=overwrite, mark="config.json") as stage:
        stage.mkdir()
        for name, content in (("config.json", config), (DICTIONARY, dictionary), (MEDIANS, medians)):
            (stage / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        weights = _their_weights(encoder, special, first)
        save_file(weights, str(stage / "model.safetensors"), {"format": "pt"})
    return Path(folder)


def _their_weights(encoder: RankEncoder, special: dict[str, int], first: int) -> dict[str, Tensor]:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    n = len(encoder.genes)
    words = torch.zeros((n + len(special), encoder.config.hidden))
    bias = torch.zeros(n + len(special))
    words[first : first + n], bias[first : first + n] = state["gene_embedding"], state["gene_mlm_bias"]
    for name, at in special.items():
        words[at] = state["special_embedding"][_SPECIAL_ROWS[name]]
        bias[at] = state["special_mlm_bias"][_SPECIAL_ROWS[name]]
    theirs = {f"bert.{name[len('body.') :]}": tensor for name, tensor in state.items() if name.startswith("body.")}
    theirs |= {their: state[ours] for ours, their in _HEAD.items()}
    return theirs | {f"bert.{_WORDS}": words, _WORD_BIAS: bias, "cls.predictions.decoder.bias": bias.clone()}


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Weights as float32, names without the "bert." of models with a head."""
    path = folder / "model.safetensors"
    if not path.is_file():
        old = (folder / "pytorch_model.bin").is_file()
        raise ModelError(
            "This checkpoint has no model.safetensors.",
            where=folder,
            found="pytorch_model.bin, a pickle" if old else ", ".join(sorted(p.name for p in folder.iterdir())),
            mend=_CONVERT_WEIGHTS if old else "Copy the whole checkpoint folder.",
        )
    try:
        read = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise _misfit(folder, str(error)) from error
    return {name.removeprefix("bert."): tensor.float() for name, tensor in read.items()}


def _fill(encoder: RankEncoder, weights: dict[str, Tensor], words: Vocabulary) -> bool:
    """Copy weights into ``encoder``; whether the checkpoint has a masked-gene head."""
    table, bias = weights[_WORDS], weights.get(_WORD_BIAS)
    decoder = weights.get("cls.predictions.decoder.weight")
    if decoder is not None and not torch.equal(decoder, table):
        raise ValueError("a masked-gene head with an embedding of its own, which is not supported")
    body = {k: v for k, v in weights.items() if k.startswith(("embeddings.", "encoder."))}
    body = {k: v for k, v in body.items() if k != _WORDS and not k.endswith(("position_ids", "token_type_ids"))}
    encoder.body.load_state_dict(body)
    ids = torch.tensor([words.ids[gene] for gene in encoder.genes])
    has_head = bias is not None and all(their in weights for their in _HEAD.values())
    mine = encoder.state_dict()
    with torch.no_grad():
        encoder.gene_decode_own.zero_()
        encoder.special_embedding.zero_()
        encoder.gene_embedding.copy_(table[ids])
        for name, at in words.special.items():
            encoder.special_embedding[_SPECIAL_ROWS[name]] = table[at]
        if bias is not None and has_head:
            encoder.gene_mlm_bias.copy_(bias[ids])
            for name, at in words.special.items():
                encoder.special_mlm_bias[_SPECIAL_ROWS[name]] = bias[at]
            for ours, their in _HEAD.items():
                mine[ours].copy_(weights[their])
    return has_head


def _misfit(folder: Path, found: str) -> ModelError:
    return ModelError(
        "The checkpoint cannot be read as a BERT encoder over genes.",
        where=folder,
        found=found,
        expected="config.json and model.safetensors of a BertForMaskedLM",
        mend="Copy or download the checkpoint folder again.",
    )
