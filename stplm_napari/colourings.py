"""What the tissue can be coloured by. Every source of colours has a key that JSON can hold, e.g. "gene:ERBB2". No Qt.

A feature adds its own kind of source with :func:`add_kind` (it is asked for values when they are shown), or puts values
it has made into one session with :meth:`Sources.put`. Either way they are offered, painted, and explained in the docks
like all others, and plots read the very colours from :meth:`CellOverlay.rgba` at the session's signal ``painted``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm_napari.session import Session

CELLS, LABEL, CLUSTER, CLASS = "cells", "label", "cluster", "class"
TUMOUR, CONFIDENCE, UNKNOWN = "tumour", "confidence", "unknown"
GENE, OBS = "gene", "obs"
"""Kinds with a name behind a colon."""
UNSURE_BELOW = 0.6
"""Confidence under which a cell is drawn grey until the user moves the slider: 6 to 11 % of the cells of the demo
section after two clicks in each of two to four classes."""
FILL, OUTLINE, BOTH = "fill", "outline", "both"
_KEPT = 12
"""Sources whose values are kept for the next time: 48 MB of a million cells."""
NO_LABEL = "Not labelled"


@dataclass(frozen=True)
class Colouring:
    """How the cells are coloured: by what, below which confidence grey, what is hidden or faint, between which values.

    ``hidden`` and ``opacity`` are of classes, whether predicted or given; ``hidden_in``, ``ranges`` and ``logs`` are of
    other sources, by their keys.
    """

    by: str = CELLS
    unsure_below: float = UNSURE_BELOW
    hidden: frozenset[str] = frozenset()
    opacity: Mapping[str, float] = field(default_factory=dict)
    hidden_in: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    logs: frozenset[str] = frozenset()
    """Sources drawn on a logarithmic scale, log(1 + x)."""
    style: str = BOTH
    """How a cell is drawn: filled, as an outline in its colour, or filled with a neutral outline."""
    outline_px: int = 1
    """Width of outlines, in pixels of the finest image."""

    @property
    def is_of_classes(self) -> bool:
        """Whether the colours are those of the class registry."""
        return self.by in (CLASS, LABEL)

    @property
    def hidden_now(self) -> frozenset[str]:
        """Categories of the present source whose eye is closed."""
        return self.hidden if self.is_of_classes else self.hidden_in.get(self.by, frozenset())

    def hiding(self, names: frozenset[str]) -> dict[str, Any]:
        """What to hand to ``session.colour`` so that just these categories of the present source are hidden."""
        return {"hidden": names} if self.is_of_classes else {"hidden_in": {**self.hidden_in, self.by: names}}

    def solo(self, name: str, names: Sequence[str]) -> dict[str, Any]:
        """What to hand to ``session.colour`` so that only one category is seen; a second time, all are again."""
        others = frozenset(names) - {name}
        return self.hiding(frozenset() if self.hidden_now == others else others)

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` takes them back."""
        hidden_in = {key: sorted(names) for key, names in self.hidden_in.items()}
        ranges = {key: list(pair) for key, pair in self.ranges.items()}
        lists = {"hidden": sorted(self.hidden), "logs": sorted(self.logs)}
        return {**asdict(self), **lists, "hidden_in": hidden_in, "ranges": ranges, "opacity": dict(self.opacity)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Colouring:
        """From what :meth:`to_json` gave; what is missing is as by default. Raises TypeError or ValueError."""
        made = dict(given)
        for name in ("hidden", "logs"):
            made[name] = frozenset(made.get(name, ()))
        made["hidden_in"] = {str(k): frozenset(v) for k, v in made.get("hidden_in", {}).items()}
        made["ranges"] = {str(k): (float(lo), float(hi)) for k, (lo, hi) in made.get("ranges", {}).items()}
        return cls(**made)


@dataclass(frozen=True)
class Source:
    """Something to colour by: its key, its name on the screen, and the heading it stands under."""

    key: str
    words: str
    group: str = ""


@dataclass(frozen=True, eq=False)
class Categories:
    """One of a few names for each cell.

    ``codes`` is (n_cells,) integers, -1 for none (transparent); ``colours`` "#RRGGBB" and ``opacities`` (all 1 where
    empty) go with ``names``. ``unsure`` cells are drawn grey. Where ``under_labels``, cells that the user labelled show
    in their class's colour instead. ``words`` say where it comes from.
    """

    codes: NDArray[np.integer]
    names: Sequence[str]
    colours: Sequence[str]
    words: str = ""
    opacities: Sequence[float] = ()
    unsure: NDArray[np.bool_] | None = None
    under_labels: bool = False

    def counts(self) -> dict[str, int]:
        """Cells of each name."""
        found = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return {name: int(n) for name, n in zip(self.names, found, strict=True)}

    def rows(self, name: str) -> NDArray[np.int64]:
        """Rows of the cells with that name."""
        places = [i for i, n in enumerate(self.names) if n == name]
        return np.flatnonzero(np.isin(self.codes, places))


@dataclass(frozen=True, eq=False)
class Numbers:
    """A number for each cell; NaN where there is none (grey). See :func:`numbers`, which finds the ranges.

    ``lo`` and ``hi`` are the values of the first and last colour until the user moves them, ``bounds`` the lowest and
    highest value that they can be moved to; ``low`` and ``high`` say in a word what the ends mean. ``is_count``: the
    number counts something, so that a logarithmic scale makes sense. ``words`` say where it comes from.
    """

    values: NDArray[np.floating]
    lo: float
    hi: float
    bounds: tuple[float, float]
    cmap: str = "viridis"
    low: str = ""
    high: str = ""
    unit: str = ""
    is_count: bool = False
    words: str = ""


Shown = Categories | Numbers


def numbers(values: NDArray[Any], lo: float | None = None, hi: float | None = None, **how: Any) -> Numbers:
    """Numbers with a range: by default the 1st to the 99th percentile; of counts, 0 to the 99th of those above 0."""
    values = np.asarray(values, np.float32)
    known = values[np.isfinite(values)]
    bounds = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if how.get("is_count"):
        lo, bounds = 0.0 if lo is None else lo, (min(0.0, bounds[0]), bounds[1])
        known = known[known > 0]
    if len(known) and (lo is None or hi is None):
        low, high = np.percentile(known, (1, 99))
        lo, hi = low if lo is None else lo, high if hi is None else hi
    lo, hi = (float(v) for v in (bounds[0] if lo is None else lo, bounds[1] if hi is None else hi))
    hi = hi if hi > lo else lo + 1
    return Numbers(values, lo, hi, (min(lo, bounds[0]), max(hi, bounds[1])), **how)


@dataclass(frozen=True)
class Kind:
    """A kind of source, the part of a key before the colon.

    Parameters
    ----------
    prefix
        "gene" of "gene:ERBB2"; a key without a colon is a kind with one source, whose name is "".
    offered
        What can be chosen now; a kind that offers thousands offers none here and is found by :attr:`find`.
    resolve
        ``resolve(session, name)``: the values, or None where there are none now. Where ``slow``, it runs in a thread.
    find
        ``find(session, name)``: the source of that name, or None. By default it is looked for among the offered.
    lasts
        How long values hold: "section" until another is opened, "results" until a result comes in, "labels" until
        labels, classes or regions change too, "look" until labels, the class list or the slider change, "" not at all.
    """

    prefix: str
    offered: Callable[[Session], Sequence[Source]]
    resolve: Callable[[Session, str], Shown | None]
    find: Callable[[Session, str], Source | None] | None = None
    lasts: str = "results"
    slow: bool = False


_kinds: dict[str, Kind] = {}


def add_kind(kind: Kind) -> None:
    """Let every session offer another kind of source."""
    _kinds[kind.prefix] = kind


class Sources:
    """What the cells of a session can be coloured by, and the values of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: OrderedDict[str, tuple[Any, Shown | None]] = OrderedDict()
        self._put: dict[str, tuple[Source, Shown]] = {}
        self._offered: tuple[Any, tuple[Source, ...]] = (None, ())
        self._results = 0

    def offered(self) -> tuple[Source, ...]:
        """All that can be chosen from a list; genes are too many for one, see :meth:`find`."""
        if not self._session.is_open:
            return ()
        annotations = self._session.annotations
        some = bool(len(annotations.labels)), any(region.class_name for region in annotations.regions)
        stamp = self._stamp("results"), len(self._put), some
        if self._offered[0] != stamp:
            found = [s for kind in _kinds.values() for s in kind.offered(self._session)]
            self._offered = stamp, (*found, *(source for source, _ in self._put.values()))
        return self._offered[1]

    def find(self, key: str) -> Source | None:
        """The source of a key; None when the cells cannot be coloured by it now."""
        kind, name = self._kind(key)
        if kind is not None and kind.find is not None and self._session.is_open:
            return kind.find(self._session, name)
        return next((source for source in self.offered() if source.key == key), None)

    def of(self, key: str) -> Shown | None:
        """The values of a source, made where they are not kept; None when there are none now."""
        if key in self._put:
            return self._put[key][1]
        kind, name = self._kind(key)
        if kind is None or self.find(key) is None:
            return None
        if self.is_kept(key):
            self._kept.move_to_end(key)
            return self._kept[key][1]
        shown = kind.resolve(self._session, name)
        if kind.lasts:
            self.keep(key, shown, self.stamp(key))
        return shown

    def is_kept(self, key: str) -> bool:
        """Whether the values of a key are at hand."""
        kind, _ = self._kind(key)
        return key in self._put or (kind is not None and key in self._kept and self._kept[key][0] == self.stamp(key))

    def is_slow(self, key: str) -> bool:
        """Whether the values must be made, in a thread, before the key can be chosen."""
        kind, _ = self._kind(key)
        return kind is not None and kind.slow and not self.is_kept(key)

    def make(self, key: str) -> Shown | None:
        """The values of a source; any thread may ask. Hand them to :meth:`keep` in the GUI thread."""
        kind, name = self._kind(key)
        return None if kind is None else kind.resolve(self._session, name)

    def stamp(self, key: str) -> Any:
        """What the values of a key are made from, to hand to :meth:`keep` with them."""
        kind, _ = self._kind(key)
        return self._stamp(kind.lasts if kind else "")

    def keep(self, key: str, shown: Shown | None, stamp: Any) -> None:
        """Remember values of a source, made from what the stamp says."""
        self._kept[key] = (stamp, shown)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def put(self, source: Source, shown: Shown) -> None:
        """Offer values that a feature has made, until the section is closed; what stood under the key is replaced."""
        if len(shown.codes if isinstance(shown, Categories) else shown.values) != self._session.table.n_obs:
            raise ValueError(f"{source.key}: one value per cell is needed")
        self._put[source.key] = (source, shown)
        self._changed()

    def drop(self, key: str) -> None:
        """Take away what was put, all that begins with ``key``."""
        self._put = {k: v for k, v in self._put.items() if not k.startswith(key)}
        self._changed()

    def clear(self) -> None:
        """Forget everything: another section was opened."""
        self._put.clear()
        self._kept.clear()
        self.renew()

    def renew(self) -> None:
        """A result came in: what was made from older ones is made again."""
        self._results += 1

    def range_of(self, key: str, numbers_: Numbers) -> tuple[float, float]:
        """Values of the first and the last colour, as the user wants them or by default."""
        lo, hi = self._session.colouring.ranges.get(key, (numbers_.lo, numbers_.hi))
        return lo, hi if hi > lo else lo + 1e-6 + abs(lo) * 1e-6

    def _changed(self) -> None:
        self.renew()
        self._session.sources_changed.emit()

    def _kind(self, key: str) -> tuple[Kind | None, str]:
        prefix, _, name = key.partition(":")
        return _kinds.get(prefix), name

    def _stamp(self, lasts: str) -> Any:
        now = self._session.revision
        if lasts == "section":
            return (now.section,)
        if lasts == "labels":
            return (now.section, self._results, now.labels, now.classes, self._session.annotations.regions)
        if lasts == "look":
            session = self._session
            return (now.section, self._results, now.labels, session.annotations.classes, session.colouring.unsure_below)
        return (now.section, self._results)
