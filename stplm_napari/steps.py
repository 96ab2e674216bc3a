"""A step: what a user did, as a name and plain parameters. What is run is what is recorded. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """One user action: its name and parameters that JSON can hold."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """``{"step": name, "params": {...}}``."""
        return {"step": self.name, "params": dict(self.params)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Step:
        """The step that :meth:`to_json` wrote. Raises KeyError when ``record`` is something else."""
        return cls(str(record["step"]), dict(record.get("params", {})))
