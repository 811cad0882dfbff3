"""How records are shown as hits: which attributes, and which words in them are marked."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .index import WORD, Index, Record, to_json, with_attributes
from .parameters import names_of, text_of

# How many texts of hits are kept for one way to show them, and for how many ways.
_MOST_TEXTS = 200
_MOST_LOOKS = 256


class Marker:
    """Marks the words of one query in text: whole words, and the last one where a word begins with it."""

    def __init__(self, words: tuple[str, ...], before: str, after: str) -> None:
        self.words = words
        self.before = before
        self.after = after
        self._found = _finder(words) if words else None

    @property
    def key(self) -> tuple[Any, ...]:
        return self.words, self.before, self.after

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
        """The `_highlightResult` of a value, of the same shape; None where there is nothing to show."""
        if isinstance(value, Mapping):
            inner = {name: self.result(each) for name, each in value.items()}
            return {name: each for name, each in inner.items() if each is not None}
        if isinstance(value, list):
            return [each for item in value if (each := self.result(item)) is not None]
        if value is None or isinstance(value, bool):
            return None
        text, matched = self.mark(str(value))
        if not matched:
            return {"value": text, "matchLevel": "none", "matchedWords": []}
        return {
            "value": text,
            "matchLevel": "full" if len(matched) == len(set(self.words)) else "partial",
            "fullyHighlighted": matched.issuperset(WORD.findall(str(value).lower())),
            "matchedWords": sorted(matched),
        }


@lru_cache(maxsize=256)
def _finder(words: tuple[str, ...]) -> re.Pattern[str]:
    # Words are made of letters, digits and underscores: nothing in them is special to a pattern, or to HTML.
    whole = "|".join(dict.fromkeys(words))
    return re.compile(rf"(?<!\w)(?:(?:{whole})(?!\w)|{words[-1]})", re.IGNORECASE)


def hits_of(index: Index, records: Iterable[Record], words: tuple[str, ...], params: Mapping[str, Any]) -> str:
    retrieved = names_of(params, "attributesToRetrieve")
    highlighted = names_of(params, "attributesToHighlight")
    marker = Marker(words, text_of(params, "highlightPreTag") or "<em>", text_of(params, "highlightPostTag") or "</em>")
    known = _known_texts(index, (*marker.key, _frozen(retrieved), _frozen(highlighted)))
    texts = []
    for record in records:
        text = known.get(record.object_id)
        if text is None:
            text = known[record.object_id] = _hit(record, marker, retrieved, highlighted)
        texts.append(text)
    return ",".join(texts)


def _known_texts(index: Index, look: tuple[Any, ...]) -> dict[str, str]:
    known = index.hit_texts.get(look)
    if known is None or len(known) > _MOST_TEXTS:
        if len(index.hit_texts) >= _MOST_LOOKS:
            index.hit_texts.clear()
        known = index.hit_texts[look] = {}
    return known


def _hit(record: Record, marker: Marker, retrieved: list[str] | None, highlighted: list[str] | None) -> str:
    plain = record.json if retrieved is None else to_json(with_attributes(record.data, retrieved))
    if highlighted == []:
        return plain
    everything = highlighted is None or "*" in highlighted
    shown = {
        name: result
        for name, value in record.data.items()
        if name != "objectID" and not name.startswith("_") and (everything or name in (highlighted or ()))
        if (result := marker.result(value)) is not None
    }
    return f'{plain[:-1]},"_highlightResult":{to_json(shown)}}}'


def _frozen(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def plain_hit(record: Record, params: Mapping[str, Any]) -> str:
    attributes = names_of(params, "attributesToRetrieve")
    return record.json if attributes is None else to_json(with_attributes(record.data, attributes))


def has_words(text: str, words: Sequence[str]) -> bool:
    if not words:
        return True
    own = WORD.findall(text.lower())
    return all(word in own for word in words[:-1]) and any(word.startswith(words[-1]) for word in own)
