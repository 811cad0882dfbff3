"""The records that the demo searches: the shipped catalogue, or the user's own export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

Record = dict[str, Any]


class RecordsError(ValueError):
    """The file holds no usable records; the message is one line that names the file and says what is wrong."""


def catalogue() -> list[Record]:
    """The catalogue that comes with the package. It is small, and its products are invented."""
    text = resources.files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    records: list[Record] = json.loads(text)
    return records


def read_records(path: str) -> list[Record]:
    """The records in the file `path`: a JSON list of objects with an `objectID`, a string or an integer.

    Raises:
        RecordsError: The file cannot be read, or holds something else.
    """
    records = _read_json(path)
    if not isinstance(records, list):
        raise RecordsError(f"{path}: must hold a list of records, not {_json_type(records)}")
    if not records:
        raise RecordsError(f"{path}: the list is empty: it must have at least one record")
    return [_checked(record, f"{path}: record {number}") for number, record in enumerate(records, start=1)]


def search_words(records: list[Record]) -> list[str]:
    """Words to search for: one of each record that has any text, in the order of the records; `[""]` if there is none.

    A word is taken from the first text of a record that is not its `objectID`.
    """
    words = [word for record in records if (word := _first_word(record))]
    return words or [""]


def _read_json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise RecordsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RecordsError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:  # a NUL in the path
        raise RecordsError(f"{path!a}: cannot be read: {error}") from None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        is_lines = error.msg == "Extra data" and text.startswith("{") and text[error.pos] == "{"
        hint = ": there is one object per line, and it must be one list of them" if is_lines else ""
        raise RecordsError(
            f"{path}: is not JSON: line {error.lineno}, column {error.colno}: {error.msg}{hint}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise RecordsError(f"{path}: is not JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _checked(record: Any, where: str) -> Record:
    if not isinstance(record, dict):
        raise RecordsError(f"{where} must be an object, not {_json_type(record)}")
    if "objectID" not in record:
        raise RecordsError(f"{where}: objectID is missing: each record must have one")
    object_id = record["objectID"]
    if isinstance(object_id, int) and not isinstance(object_id, bool):
        return {**record, "objectID": str(object_id)}
    if not isinstance(object_id, str):
        raise RecordsError(f"{where}: objectID must be a string, not {_json_type(object_id)}")
    if not object_id:
        raise RecordsError(f"{where}: objectID is empty: it must have at least one character")
    return record


def _json_type(value: Any) -> str:
    """The name of the JSON type of `value`, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _first_word(record: Record) -> str:
    for text in _texts({key: value for key, value in record.items() if key != "objectID"}):
        if word := re.search(r"\b\w{3,30}\b", text):
            return word[0]
    return ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
