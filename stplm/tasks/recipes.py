"""Recipes: a YAML file into frozen dataclasses, strictly.

A recipe is a dataclass whose fields are plain values, ``Literal`` choices, tuples of plain values, or dataclasses of
the same kind; ``| None`` makes any of them optional. Whatever is misspelt or of the wrong type is told with its line.
"""

from __future__ import annotations

import difflib
import glob
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from stplm.errors import StplmError
from stplm.tasks.training import TrainingConfig, training_defaults

R = TypeVar("R")


class RecipeError(StplmError):
    """A recipe cannot be read, or says something that there is not."""


def read_recipe(path: str | Path, cls: type[R], defaults: Mapping[str, Any] | None = None) -> R:
    """Read a YAML file as a ``cls``.

    Parameters
    ----------
    defaults
        Values of top-level fields that the file may leave out; of a field that is a dataclass, an instance of it,
        whose values hold where the file leaves them out.

    Raises
    ------
    RecipeError
        No such file, no YAML, an unknown or doubled key, a missing one, a value of the wrong type.
    """
    path = Path(path)
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise RecipeError("The recipe cannot be read.", where=path, found=str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError("The recipe is not YAML.", where=path, found=" ".join(str(error).split())) from error
    value: R = _Reader(path).dataclass(node, cls, "", dict(defaults or {}))
    return value


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, problem: str, node: yaml.Node | None, **more: str) -> RecipeError:
        line = "" if node is None else f", line {node.start_mark.line + 1}"
        return RecipeError(problem, where=f"{self.path}{line}", **more)

    def dataclass(self, node: yaml.Node | None, cls: type[Any], at: str, defaults: dict[str, Any]) -> Any:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(
                f"{at or 'A recipe'} must be a table of keys and values.",
                node,
                expected=", ".join(f.name for f in fields(cls)),
            )
        kinds, given = typing.get_type_hints(cls), dict[str, yaml.Node]()
        names = [f.name for f in fields(cls) if f.init]
        for key, value in node.value:
            name = str(key.value)
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise self.fail(
                    f"There is no key {name!r}{f' in {at}' if at else ''}.",
                    key,
                    expected=", ".join(names),
                    mend=f"Did you mean {near[0]!r}?" if near else "Remove it.",
                )
            if name in given:
                raise self.fail(f"The key {name!r} is there twice.", key)
            given[name] = value
        values = {}
        for f in fields(cls):
            where = f"{at}.{f.name}" if at else f.name
            if f.name in given:
                values[f.name] = self.value(given[f.name], kinds[f.name], where, defaults.get(f.name))
            elif f.name in defaults:
                values[f.name] = defaults[f.name]
            elif f.default is MISSING and f.default_factory is MISSING:
                raise self.fail(f"The key {where!r} is missing.", node, expected=_describe(kinds[f.name]))
        try:
            return cls(**values)
        except ValueError as error:
            raise self.fail(f"{at or 'The recipe'} does not hold together: {error}", node) from error

    def value(self, node: yaml.Node, kind: Any, at: str, default: Any = None) -> Any:
        origin, inside = typing.get_origin(kind), typing.get_args(kind)
        if origin in (Union, types.UnionType):
            if type(None) in inside and node.tag == "tag:yaml.org,2002:null":
                return None
            return self.value(node, next(k for k in inside if k is not type(None)), at, default)
        if is_dataclass(kind):
            known = {f.name: getattr(default, f.name) for f in fields(kind)} if default is not None else {}
            return self.dataclass(node, typing.cast(type[Any], kind), at, known)
        if origin is tuple:
            parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
            return tuple(self.value(part, inside[0], f"{at}[{i}]") for i, part in enumerate(parts))
        if origin is dict:
            if not isinstance(node, yaml.MappingNode):
                raise self.fail(f"{at} must be a table of keys and values.", node)
            return {str(k.value): self.value(v, inside[1], f"{at}.{k.value}") for k, v in node.value}
        plain = self.plain(node, at, kind)
        if origin is Literal:
            if plain not in inside:
                raise self.fail(f"{at} cannot be {plain!r}.", node, expected=_describe(kind))
            return plain
        return self.scalar(node, plain, kind, at)

    def plain(self, node: yaml.Node, at: str, kind: Any) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            found = "a list" if isinstance(node, yaml.SequenceNode) else "a table"
            raise self.fail(f"{at} must be one value.", node, found=found, expected=_describe(kind))
        return yaml.SafeLoader("").construct_object(node)

    def scalar(self, node: yaml.Node, plain: Any, kind: Any, at: str) -> Any:
        if kind is Any:
            return plain
        if kind is float and not isinstance(plain, bool):
            # YAML takes 5e-4 for text, since it has no point.
            try:
                return float(plain)
            except (TypeError, ValueError):
                pass
        elif kind is Path and isinstance(plain, str):
            return self.path.parent / Path(plain).expanduser()
        elif type(plain) is kind:
            return plain
        raise self.fail(f"{at} must be {_describe(kind)}.", node, found=repr(plain))


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text (in quotes if it looks like a number)",
    bool: "true or false",
    Path: "a path",
}


def _describe(kind: Any) -> str:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, inside))
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if k is type(None) else _describe(k) for k in inside)
    if origin is tuple:
        return f"a list, each {_describe(inside[0])}"
    if is_dataclass(kind):
        return f"a table of {', '.join(f.name for f in fields(kind))}"
    return _WORDS.get(kind, "a value")


@dataclass(frozen=True)
class ValidationRecipe:
    """What is held out: whole ``sections`` (paths with wildcards), or squares of ``blocks`` µm of every section."""

    sections: tuple[Path, ...] = ()
    blocks: float | None = None
    buffer: float = 60.0
    share: float = 0.1
    every: int = 200
    batches: int = 4

    def __post_init__(self) -> None:
        if bool(self.sections) == (self.blocks is not None):
            raise ValueError("give either sections or blocks")
        if self.every < 1 or self.batches < 1:
            raise ValueError("every and batches must be 1 or more")


@dataclass(frozen=True)
class CheckpointRecipe:
    """When the checkpoint is written: after so many steps, or minutes; 0 for never by this. ``folder``: where."""

    every_steps: int = 0
    every_minutes: float = 5.0
    folder: Path | None = None


@dataclass(frozen=True)
class PretrainRecipe:
    """A pretraining run.

    Attributes
    ----------
    sections
        Paths of sections, with wildcards; paths are relative to the recipe's folder.
    out
        The model folder.
    preset, size, architecture, base, train_base, name
        As :func:`stplm.pretrain` takes them.
    training
        What differs from the preset's own figures.
    seed, precision
        Short for ``training.seed`` and ``training.precision``.
    device
        "auto", "cpu", "cuda", ...
    checkpoint, validation
        Of the run; without ``validation`` nothing is held out.
    tensorboard
        Folder of training curves.
    cache
        Folder of the converted sections, to use again; by default beside the model folder, removed after the run.
    description, limits
        For the model card.
    """

    sections: tuple[Path, ...]
    out: Path
    preset: Literal["tissue", "rank", "hybrid"] = "tissue"
    size: Literal["small", "large"] | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    base: str | None = None
    train_base: bool = False
    name: str | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    device: str = "auto"
    checkpoint: CheckpointRecipe = field(default_factory=CheckpointRecipe)
    validation: ValidationRecipe | None = None
    tensorboard: Path | None = None
    cache: Path | None = None
    description: str = ""
    limits: str = ""


def read_pretrain_recipe(path: str | Path) -> PretrainRecipe:
    """A :class:`PretrainRecipe`, with its preset's training figures where it gives none. Raises RecipeError."""
    first = read_recipe(path, PretrainRecipe)
    recipe = read_recipe(path, PretrainRecipe, {"training": training_defaults(first.preset)})
    short = {name: value for name in ("seed", "precision") if (value := getattr(recipe, name)) is not None}
    base = recipe.base
    if base is not None and (Path(path).parent / base).is_dir():
        base = str(Path(path).parent / base)
    return replace(recipe, base=base, training=replace(recipe.training, **short))


def expand(patterns: tuple[Path, ...], what: str = "sections") -> list[Path]:
    """The paths that patterns match, sorted, each once. Raises RecipeError for one that matches nothing."""
    found: list[Path] = []
    for pattern in patterns:
        # A folder may have a wildcard's sign in its very name.
        matches = [pattern] if pattern.exists() else sorted(map(Path, glob.glob(str(pattern), recursive=True)))
        if not matches:
            raise RecipeError(f"No file matches one of the {what}.", where=pattern)
        found += [m for m in matches if m not in found]
    return found
