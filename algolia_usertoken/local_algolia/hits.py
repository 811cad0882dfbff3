"""How records are shown as hits: with which attributes, and with which words marked."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from .errors import ApiError
from .index import WORD, Record, to_json, with_attributes
from .parameters import names_of, text_of

# https://www.algolia.com/doc/api-reference/api-parameters/attributesToSnippet
_SNIPPET_WORDS = 10


class Marker:
    """Marks the words of one query in text: whole words, and the last word also as the beginning of a word."""

    def __init__(self, words: tuple[str, ...], before: str, after: str) -> None:
        self.words = words
        self.before = before
        self.after = after
        self._found = _finder(words) if words else None

    def mark(self, text: str) -> tuple[str, set[str]]:
        """The text as HTML, and the words that were found in it."""
        if self._found is None or self._found.search(text) is None:
            return html.escape(text, quote=False), set()
        parts: list[str] = []
        matched: set[str] = set()
        at = 0
        for match in self._found.finditer(text):
            word = match[0]
            matched.add(word.lower())
            parts += [html.escape(text[at : match.start()], quote=False), self.before, word, self.after]
            at = match.end()
        parts.append(html.escape(text[at:], quote=False))
        return "".join(parts), matched

    def result(self, value: Any) -> Any:
        """The `_highlightResult` of a value, in the same shape; None if there is nothing to show."""
        return _shaped(value, self._highlighted)

    def snippet(self, value: Any, length: int, ellipsis: str) -> Any:
        """The `_snippetResult` of a value: at most `length` words of it, around the first word of the query."""
        return _shaped(value, lambda text: self._snipped(text, length, ellipsis))

    def _highlighted(self, original: str) -> dict[str, Any]:
        text, matched = self.mark(original)
        if not matched:
            return {"value": text, "matchLevel": "none", "matchedWords": []}
        return {
            "value": text,
            "matchLevel": self._level(matched),
            "fullyHighlighted": matched.issuperset(WORD.findall(original.lower())),
            "matchedWords": sorted(matched),
        }

    def _snipped(self, original: str, length: int, ellipsis: str) -> dict[str, Any]:
        words = list(WORD.finditer(original))
        found = self._found.search(original) if self._found is not None else None
        at = next((place for place, word in enumerate(words) if found and word.end() > found.start()), 0)
        first = max(0, min(at - length // 2, len(words) - length))
        last = min(first + length, len(words))
        start = words[first].start() if first else 0
        end = words[last - 1].end() if last < len(words) else len(original)
        text, matched = self.mark(original[start:end])
        before, after = ellipsis if start else "", ellipsis if end < len(original) else ""
        return {"value": f"{before}{text}{after}", "matchLevel": self._level(matched)}

    def _level(self, matched: set[str]) -> str:
        if not matched:
            return "none"
        return "full" if len(matched) == len(set(self.words)) else "partial"


def _shaped(value: Any, of_text: Callable[[str], dict[str, Any]]) -> Any:
    """A result for each text and number in a value, in the shape of the value; None if it has no text and no number."""
    if isinstance(value, Mapping):
        inner = {name: _shaped(each, of_text) for name, each in value.items()}
        return {name: each for name, each in inner.items() if each is not None}
    if isinstance(value, list):
        return [each for item in value if (each := _shaped(item, of_text)) is not None]
    if value is None or isinstance(value, bool):
        return None
    return of_text(str(value))


@lru_cache(maxsize=256)
def _finder(words: tuple[str, ...]) -> re.Pattern[str]:
    # Words consist of letters, digits and underscores, none of which is special in a pattern or in HTML.
    whole = "|".join(dict.fromkeys(words))
    return re.compile(rf"(?<!\w)(?:(?:{whole})(?!\w)|{words[-1]})", re.IGNORECASE)


class Look(NamedTuple):
    """How hits are shown. None means all attributes, and `snippets` has lengths in words."""

    words: tuple[str, ...]
    before: str
    after: str
    retrieved: tuple[str, ...] | None
    highlighted: tuple[str, ...] | None
    snippets: tuple[tuple[str, int], ...]
    ellipsis: str
    never: tuple[str, ...]

    @classmethod
    def of(cls, words: tuple[str, ...], params: Mapping[str, Any]) -> Look:
        """The look that the parameters of a search ask for; the settings of the index are among these parameters."""
        if params.keys().isdisjoint(_PARAMETERS):
            return _PLAIN._replace(words=words)
        return cls(
            words,
            text_of(params, "highlightPreTag") or "<em>",
            text_of(params, "highlightPostTag") or "</em>",
            _frozen(names_of(params, "attributesToRetrieve")),
            _frozen(names_of(params, "attributesToHighlight")),
            tuple(_snippet_length(text) for text in names_of(params, "attributesToSnippet") or ()),
            "…" if params.get("snippetEllipsisText") is None else text_of(params, "snippetEllipsisText"),
            _frozen(names_of(params, "unretrievableAttributes")) or (),
        )

    def plain(self, record: Record) -> str:
        """The JSON text of a record with the requested attributes."""
        if self.retrieved is None and not self.never:
            return record.json
        return to_json(with_attributes(record.data, self.retrieved, self.never))

    def hit(self, record: Record) -> str:
        """The JSON text of a record as a hit, with its highlights and snippets."""
        marker = Marker(self.words, self.before, self.after)
        text = self.plain(record)
        if self.highlighted != ():
            shown = self._results(record, self.highlighted, marker.result)
            text = f'{text[:-1]},"_highlightResult":{to_json(shown)}}}'
        if self.snippets:
            snippets: dict[str, Any] = {}
            for name, length in self.snippets:
                snippet = partial(marker.snippet, length=length, ellipsis=self.ellipsis)
                snippets = {**snippets, **self._results(record, (name,), snippet)}
            text = f'{text[:-1]},"_snippetResult":{to_json(snippets)}}}'
        return text

    def _results(self, record: Record, names: tuple[str, ...] | None, result: Callable[[Any], Any]) -> dict[str, Any]:
        data = with_attributes(record.data, names, self.never)
        return {
            name: found
            for name, value in data.items()
            if name != "objectID" and not name.startswith("_") and (found := result(value)) is not None
        }


_PARAMETERS = frozenset(
    {
        "highlightPreTag",
        "highlightPostTag",
        "attributesToRetrieve",
        "attributesToHighlight",
        "attributesToSnippet",
        "snippetEllipsisText",
        "unretrievableAttributes",
    }
)
_PLAIN = Look((), "<em>", "</em>", None, None, (), "…", ())


def _snippet_length(text: str) -> tuple[str, int]:
    """The attribute and the number of words: `description:20` means 20 words; without a number, it is 10."""
    name, colon, number = text.rpartition(":")
    if not colon:
        return text, _SNIPPET_WORDS
    if not (number.isdecimal() and len(number) < 6 and int(number)):
        raise ApiError(400, f"attributesToSnippet: expected a number of words, got {number[:40]!r}")
    return name, int(number)


def _frozen(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def has_words(text: str, words: Sequence[str]) -> bool:
    if not words:
        return True
    own = WORD.findall(text.lower())
    return all(word in own for word in words[:-1]) and any(word.startswith(words[-1]) for word in own)
