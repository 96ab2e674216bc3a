"""A model folder: ``config.json``, ``model.safetensors``, ``vocabulary.json``, ``provenance.json``, ``README.md``.

No pickle. Loading checks the checksum of the weights, so a truncated or altered file is refused, not used.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.errors import ModelError
from stplm.io.staged import restore_interrupted, staged_folder
from stplm.paths import resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stplm.nn.encoder import Encoder
    from stplm.nn.heads import ClassHeads
    from stplm.tokens.vocabulary import Vocabulary

FORMAT = 1
_ENCODERS = {
    "tissue": ("stplm.nn.tissue", "TissueEncoder", "TissueConfig"),
    "rank": ("stplm.nn.rank", "RankEncoder", "RankConfig"),
    "hybrid": ("stplm.nn.hybrid", "HybridEncoder", "HybridConfig"),
}
"""Of each preset: the module, the encoder's class and its config's."""
PRESETS = tuple(_ENCODERS)
DEFAULT = "default"
_BUNDLED_DEFAULT = "tissue-breast"
_FILES = ("config.json", "model.safetensors", "vocabulary.json", "provenance.json")


@dataclass
class Model:
    """An encoder with its name and where it comes from.

    ``checksum`` is the SHA-256 of the weights as saved ("" for a model not saved yet). ``heads`` tell classes apart,
    where the model was fine-tuned.
    """

    encoder: Encoder
    name: str
    provenance: dict[str, Any] = field(default_factory=dict)
    checksum: str = ""
    preset: str = "tissue"
    heads: ClassHeads | None = None

    @property
    def dim(self) -> int:
        """Width of a cell vector."""
        return self.encoder.config.dim

    def fingerprint(self) -> str:
        """SHA-256 of the weights in memory, as saving them would give: tells two embedding spaces apart."""
        return hashlib.sha256(self._weights()).hexdigest()

    def _weights(self) -> bytes:
        from safetensors.torch import save

        return save({k: v.contiguous().cpu() for k, v in self.encoder.state_dict().items()})

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder, staged and then renamed. Raises ModelError if it is there and not ``overwrite``."""
        folder = Path(folder)
        if folder.exists() and not overwrite:
            raise ModelError(
                "The model folder is there already.", where=folder, mend="Choose another name, or overwrite."
            )
        with staged_folder(folder, overwrite=overwrite, mark="config.json") as stage:
            stage.mkdir()
            weights = self._weights()
            (stage / "model.safetensors").write_bytes(weights)
            self.checksum = hashlib.sha256(weights).hexdigest()
            provenance = {**self.provenance, "sha256": self.checksum}
            config: dict[str, Any] = {
                "format": FORMAT,
                "preset": self.preset,
                "name": self.name,
                "model": self.encoder.config.to_dict(),
            }
            provenance.pop("heads_sha256", None)
            if self.heads is not None:
                from stplm.nn.heads_files import write_heads

                config["heads"], provenance["heads_sha256"] = write_heads(stage, self.heads)
            for name, content in (
                ("config.json", config),
                ("vocabulary.json", {"genes": self.encoder.genes}),
                ("provenance.json", provenance),
            ):
                (stage / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            (stage / "README.md").write_text(_card(self.name, provenance, self), encoding="utf-8")
        return folder


@dataclass(frozen=True)
class ModelInfo:
    """What ``list_models`` says of a model without loading its weights."""

    name: str
    path: Path
    preset: str
    description: str


def list_models() -> list[ModelInfo]:
    """The bundled models, the default first."""
    root = resource("models")
    found = []
    for config in sorted(root.glob("*/config.json")):
        info = json.loads(config.read_text(encoding="utf-8"))
        provenance = json.loads((config.parent / "provenance.json").read_text(encoding="utf-8"))
        found.append(ModelInfo(config.parent.name, config.parent, info["preset"], provenance.get("description", "")))
    return sorted(found, key=lambda m: (m.name != _BUNDLED_DEFAULT, m.name))


def load_model(
    model: str | Path | Model = DEFAULT,
    *,
    vocabulary: str | Path | Vocabulary | None = None,
    medians: str | Path | Mapping[str, float] | None = None,
) -> Model:
    """Load a bundled model by name ("default", or as ``list_models`` names them) or a model folder by path.

    A checkpoint folder in Geneformer's or STPLM's format (``model_type`` "bert") gives a model of the preset "rank";
    ``vocabulary`` and ``medians`` are for these, see :func:`stplm.nn.checkpoint.load_checkpoint`.

    Raises
    ------
    ModelError
        No such model; a file of the folder is missing; the weights do not match their checksum or their config.
    """
    if isinstance(model, Model):
        return model
    folder = _find(model)
    if _is_checkpoint(folder):
        from stplm.nn.checkpoint import load_checkpoint

        encoder, origin = load_checkpoint(folder, vocabulary, medians)
        return Model(encoder, folder.name, origin, preset=encoder.preset)
    if vocabulary is not None or medians is not None:
        raise ModelError(
            "vocabulary and medians are for checkpoints in Geneformer's or STPLM's format; a model has its own.",
            where=folder,
            mend="Leave them out.",
        )
    missing = [f for f in _FILES if not (folder / f).is_file()]
    if missing:
        raise ModelError(
            "This is not a whole model folder.",
            where=folder,
            found=f"without {', '.join(missing)}",
            expected=", ".join(_FILES),
            mend="Copy the whole folder, or choose a bundled model.",
        )
    try:
        config, words, provenance = (
            json.loads((folder / f).read_text(encoding="utf-8"))
            for f in ("config.json", "vocabulary.json", "provenance.json")
        )
        _check_format(folder, config["format"], config["preset"])
        genes, sizes = [str(g) for g in words["genes"]], dict(config["model"])
        expected = str(provenance["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "The model folder cannot be read.",
            where=folder,
            found=f"{type(error).__name__}: {error}",
            mend="Copy or download the model folder again.",
        ) from error
    checksum = _sha256(folder / "model.safetensors")
    if checksum != expected:
        raise ModelError(
            "The model's weights do not match their checksum: the file is damaged or was altered.",
            where=folder / "model.safetensors",
            found=checksum[:12],
            expected=expected[:12],
            mend="Copy or download the model folder again.",
        )
    loaded = _load_encoder(folder, config["preset"], genes, sizes)
    name, heads = str(config.get("name", folder.name)), None
    if "heads" in config or "heads_sha256" in provenance:
        from stplm.nn.heads_files import read_heads

        heads = read_heads(folder, config.get("heads"), provenance.get("heads_sha256"), loaded.config.dim)
    return Model(loaded, name, provenance, checksum, config["preset"], heads)


def _is_checkpoint(folder: Path) -> bool:
    """Whether ``config.json`` is that of a BERT model of ``transformers``."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "bert"


def _check_format(folder: Path, version: object, preset: object) -> None:
    if version != FORMAT or preset not in PRESETS:
        raise ModelError(
            "This model is of a format that this version does not know.",
            where=folder,
            found=f"format {version}, preset {preset!r}",
            expected=f"format {FORMAT}, preset one of {', '.join(PRESETS)}",
            mend="Update stplm-napari.",
        )


def versions() -> dict[str, str]:
    """Versions that a result depends on, for its provenance."""
    return {"stplm": version("stplm-napari"), "torch": version("torch"), "python": platform.python_version()}


def _find(model: str | Path) -> Path:
    if str(model) == DEFAULT:
        return resource("models") / _BUNDLED_DEFAULT
    restore_interrupted(model)
    if Path(model).is_dir():
        return Path(model)
    bundled = resource("models") / str(model)
    if bundled.is_dir():
        return bundled
    raise ModelError(
        f"There is no model {str(model)!r}.",
        expected=f"a model folder, or one of {', '.join([DEFAULT, *(m.name for m in list_models())])}",
        mend="Check the name or the path.",
    )


def build_encoder(preset: str, genes: list[str], config: dict[str, Any] | None = None) -> Encoder:
    """A new encoder of a preset, with torch's current random state. ``config``: sizes that differ from the preset's.

    Raises TypeError or ValueError for sizes that the preset does not have or that do not fit together.
    """
    import importlib

    module, encoder_class, config_class = _ENCODERS[preset]
    code = importlib.import_module(module)
    encoder: Encoder = getattr(code, encoder_class)(genes, getattr(code, config_class)(**(config or {})))
    return encoder


def _load_encoder(folder: Path, preset: str, genes: list[str], config: dict[str, Any]) -> Encoder:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # The weights drawn here are overwritten; the caller's own random numbers stay as they were.
        with torch.random.fork_rng(devices=[]):
            encoder = build_encoder(preset, genes, config)
        encoder.load_state_dict(load_file(str(folder / "model.safetensors")))
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError("The weights do not fit the model's config.", where=folder, found=str(error)) from error
    return encoder.eval()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _card(name: str, provenance: dict[str, Any], model: Model) -> str:
    sources = "\n".join(f"- {s}" for s in provenance.get("data", [])) or "- not recorded"
    return (
        f"# {name}\n\n{provenance.get('description', '')}\n\n"
        f"- Preset: {model.preset}, {model.dim} numbers per cell, {len(model.encoder.genes)} genes\n"
        f"- Parameters: {sum(p.numel() for p in model.encoder.parameters()):,}\n"
        f"- SHA-256 of the weights: `{provenance['sha256']}`\n\n## Trained on\n\n{sources}\n\n"
        f"## Limits\n\n{provenance.get('limits', 'Not stated.')}\n"
    )
