"""Dataclasses as JSON, and back with every type checked.

Written here rather than taken from a library: unknown fields must be refused, and the client needs one package less.
"""

import dataclasses
import enum
import functools
import json
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def to_json(record: Any, indent: int = 2) -> str:
    """A dataclass as indented JSON; paths become strings, tuples become lists."""
    return json.dumps(dataclasses.asdict(record), indent=indent, default=str) + "\n"


def from_json(kind: type[Record], text: str, *, file_format: int | None = None) -> Record:
    """The inverse of `to_json`. Fields that have defaults may be missing.

    Args:
        kind: the dataclass.
        text: the JSON.
        file_format: what the field ``format`` must be, which changes when the file's meaning does.

    Raises:
        ValueError: if the text is no JSON, or a field is missing, unknown or of another type; it names the field.
    """
    content = json.loads(text)
    if file_format is not None and isinstance(content, dict) and content.get("format") != file_format:
        raise ValueError(f"format {content.get('format')}, while this version reads format {file_format}")
    record: Record = _decode(kind, content, kind.__name__)
    return record


def _decode(kind: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, value, place)
    if origin in (types.UnionType, Union):
        return _decode_union(arguments, value, place)
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
    elif origin in (tuple, list):
        if isinstance(value, list):
            return origin(_decode(arguments[0], item, f"{place}[{index}]") for index, item in enumerate(value))
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {key: _decode(arguments[1], item, f"{place}.{key}") for key, item in value.items()}
    elif isinstance(kind, type) and issubclass(kind, tuple):
        hints = _hints(kind)
        if isinstance(value, list) and len(value) == len(hints):
            return kind(*(_decode(hint, item, place) for hint, item in zip(hints.values(), value, strict=True)))
    elif isinstance(kind, type) and issubclass(kind, (enum.Enum, PurePath)):
        if isinstance(value, str):
            return kind(value)
    elif _is_plain(kind, value):
        return value
    raise ValueError(f"{place} cannot be {value!r}")


def _decode_dataclass(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place} cannot be {value!r}")  # noqa: TRY004 - of the file's content, not of an argument
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := value.keys() - fields.keys():
        raise ValueError(f"{place} has no {', '.join(sorted(unknown))}")
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in required if name not in value]:
        raise ValueError(f"{place} lacks {', '.join(missing)}")
    hints = _hints(kind)
    return kind(**{name: _decode(hints[name], item, f"{place}.{name}") for name, item in value.items()})


def _decode_union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    failures = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _decode(kind, value, place)
            except ValueError as error:
                failures.append(error)
    raise failures[0]


def _is_plain(kind: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool  # Python takes True for the int 1
    return isinstance(value, (float, int) if kind is float else kind)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
