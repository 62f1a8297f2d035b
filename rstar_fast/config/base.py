"""What settings of all kinds share: to and from plain mappings, and the checks of their values."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any, Self

from rstar_fast.types import InvalidInput


class Mapped:
    """Dataclasses of settings, to and from plain mappings."""

    def replace(self, **settings: Any) -> Self:
        """A copy with some settings changed."""
        return self.from_mapping({**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, **settings})  # type: ignore[arg-type]

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """Builds the config from a plain mapping, e.g. a YAML document."""
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name in settings:
            if name not in known:
                raise InvalidInput(f"unknown {cls._called} setting {name!r}: the settings are {', '.join(sorted(known))}")
        return cls(**settings)

    def to_mapping(self) -> dict[str, Any]:
        """The plain mapping that `from_mapping` reads: enums as their names, numbers as they are."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: _plain(value) for name, value in values.items()}


    def _take(self, **kinds: type[enum.Enum] | type[Mapped]) -> None:
        """Takes settings that may also be given by name, or as mappings of settings, for what they mean."""
        for name, kind in kinds.items():
            value = getattr(self, name)
            if issubclass(kind, enum.Enum):
                value = as_enum(kind, name, value)
            elif isinstance(value, Mapping):
                value = kind.from_mapping(value)
            elif not isinstance(value, kind):
                raise InvalidInput(f"{name} is {value!r}: give a {kind.__name__}, or a mapping of its settings")
            object.__setattr__(self, name, value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapped):
        return value.to_mapping()
    return value.value if isinstance(value, enum.Enum) else value


def as_enum(kind: type[enum.Enum], name: str, value: Any) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(repr(member.value) for member in kind)
        raise InvalidInput(f"{name} is {value!r}: give one of {names}") from None


def is_real(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def check_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInput(f"{name} is {value!r}: give an integer >= {least}")
    if most is not None and value > most:
        raise InvalidInput(f"{name} is {value!r}: give at most {most}")


def check_real(name: str, value: Any, *, above: float | None = None) -> None:
    if not is_real(value) or not math.isfinite(value) or (value < 0 if above is None else value <= above):
        raise InvalidInput(f"{name} is {value!r}: give a finite number {'>= 0' if above is None else f'> {above:g}'}")


def check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r}: give true or false")
