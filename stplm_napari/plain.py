"""Small dataclasses of the session from JSON, whatever fields they have or will have. No Qt."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def restored(kind: type[T], record: Mapping[str, Any], start: T | None = None) -> T:
    """A dataclass of that kind from what ``asdict`` gave: the recorded fields that it has, the others as in ``start``.

    Raises TypeError where a field is missing that has no default.
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for field in fields(typing.cast(Any, kind)):
        hint = hints[field.name]
        if field.name in record:
            given = record[field.name]
            values[field.name] = (
                restored(typing.cast(Any, hint), given) if is_dataclass(hint) and isinstance(given, Mapping) else given
            )
        elif start is not None:
            values[field.name] = getattr(start, field.name)
    return kind(**values)
