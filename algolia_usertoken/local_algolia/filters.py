"""The filters of a search: which records match, and with which score.

`filters` is a text with a grammar of its own (`filter_grammar`); `facetFilters`, `numericFilters`, `tagFilters` and
`optionalFilters` are lists of conditions. All of them become ANDs of ORs.
https://www.algolia.com/doc/guides/managing-results/refine-results/filtering
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import filter_grammar
from .columns import column_of, facet_value, is_number, values_of
from .filter_grammar import SHOWN, FilterError, Term, checked_score
from .index import Contents
from .parameters import is_true

Record = Mapping[str, Any]
Predicate = Callable[[Record], bool]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
_NEGATED = {"<": ">=", "<=": ">", "=": "!=", "!=": "=", ">=": "<", ">": "<="}
# Algolia compares numbers to three decimals.
_DECIMALS = 3
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_SIGN = re.compile(r"[<>]=?|!=|=")
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?) +TO +(-?\d+(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: a record must have a value in an attribute that passes a test; with `negative`, it must have none.

    A comparison of numbers has the score 0; any other condition has 1, unless its text gives another. If only one facet
    value passes, `facet` is that value in lower case.
    """

    attribute: str
    passes: Callable[[Any], bool]
    score: int
    negative: bool = False
    facet: str | None = None

    def holds(self, record: Record) -> bool:
        """Whether the condition holds for one record."""
        return any(map(self.passes, values_of(record, self.attribute))) is not self.negative

    def positions(self, contents: Contents) -> set[int]:
        """The positions of the records for which the condition holds."""
        column = column_of(contents, self.attribute)
        if self.facet is not None:
            found = column.folded.get(self.facet, set())
        else:
            found = set().union(*(positions for value, positions in column.values if self.passes(value)))
        return contents.positions - found if self.negative else found


Clauses = list[list[Condition]]


class Filters:
    """All the filters of one search."""

    def __init__(self, clauses: Clauses, optional: Clauses, sum_of_scores: bool) -> None:
        self._clauses = clauses
        self._scoring = [*clauses, *optional]
        self._sum_of_scores = sum_of_scores
        # If all records that match have the same score, they need not be sorted.
        self.ranks = bool(optional) or any(
            len({condition.score for condition in clause}) > 1 or (sum_of_scores and len(clause) > 1)
            for clause in clauses
        )

    @property
    def predicate(self) -> Predicate | None:
        """A function that says whether a record matches, or None if all records match."""
        parts = [_any_of([condition.holds for condition in clause]) for clause in self._clauses]
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else lambda record: all(part(record) for part in parts)

    def positions(self, contents: Contents) -> set[int] | None:
        """The positions of the records that match, or None if all records match."""
        found: set[int] | None = None
        for clause in self._clauses:
            first, *others = (condition.positions(contents) for condition in clause)
            matching = first.union(*others)
            found = matching if found is None else found & matching
        return found

    def score(self, record: Record) -> int:
        """The score of a record that matches: the sum over all ANDs of the best score in each OR.

        With `sumOrFiltersScores`, the scores in an OR are summed too.
        https://www.algolia.com/doc/guides/managing-results/refine-results/filtering/in-depth/filter-scoring
        """
        return self._total(
            [condition.score for condition in clause if condition.holds(record)] for clause in self._scoring
        )

    def score_at(self, contents: Contents) -> Callable[[int], int]:
        """As `score`: a function from a position to the score of the record there."""
        clauses = [
            [(condition.positions(contents), condition.score) for condition in clause] for clause in self._scoring
        ]
        return lambda position: self._total(
            [score for positions, score in clause if position in positions] for clause in clauses
        )

    def _total(self, scores_of_clauses: Iterable[list[int]]) -> int:
        return sum(sum(scores) if self._sum_of_scores else max(scores, default=0) for scores in scores_of_clauses)


def read(params: Mapping[str, Any]) -> Filters:
    """The filters of a search. Raises `FilterError`.

    If several texts must all hold, as the key and the request both have one, `filters` is a tuple of them: joined to
    one text, they could mean something else. No request can contain a tuple.
    """
    if params.keys().isdisjoint(_PARAMETERS):
        return _NONE
    clauses: Clauses = []
    expressions = params.get("filters")
    for expression in expressions if isinstance(expressions, tuple) else (expressions,):
        if expression and not isinstance(expression, str):
            raise FilterError("filters: expected a string")
        if expression and not expression.isspace():
            clauses += [[_of_term(term) for term in terms] for terms in filter_grammar.parsed(expression)]
    for name, condition in (("facetFilters", _facet), ("numericFilters", _numeric), ("tagFilters", _tag)):
        clauses += _listed(params, name, condition)
    sum_of_scores = is_true(params.get("sumOrFiltersScores"))
    return Filters(clauses, _listed(params, "optionalFilters", _facet), sum_of_scores)


_PARAMETERS = frozenset({"filters", "facetFilters", "numericFilters", "tagFilters", "optionalFilters"})
_NONE = Filters([], [], False)


# -- Lists of conditions ----------------------------------------------------------------------------------------------


def _listed(params: Mapping[str, Any], name: str, condition: Callable[[str, str], Condition]) -> Clauses:
    """Read `["a:1", ["b:1", "b:2"]]`: the outer list is AND, an inner list is OR. In a `params` string it is JSON."""
    value = params.get(name)
    if not value:
        return []
    if isinstance(value, str):
        value = _decoded(name, value)
    if not isinstance(value, list):
        raise FilterError(f"{name}: expected an array of strings, at most two arrays deep")
    clauses = []
    for item in value:
        alternatives = item if isinstance(item, list) else [item]
        if not all(isinstance(text, str) for text in alternatives):
            raise FilterError(f"{name}: expected an array of strings, at most two arrays deep")
        if alternatives:
            clauses.append([condition(name, text) for text in alternatives])
    return clauses


def _decoded(name: str, text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise FilterError(f"{name}: expected an array of strings, at most two arrays deep") from None
    return _with_commas(text)


def _with_commas(text: str) -> list[str | list[str]]:
    """Read the older form of a list: `a:1,(b:1,b:2)`, in which parentheses mean OR."""
    found: list[str | list[str]] = []
    group: list[str] | None = None
    for part in text.split(","):
        part = part.strip()
        if group is None and part.startswith("("):
            group, part = [], part[1:]
        if group is None:
            if part:
                found.append(part)
            continue
        ends = part.endswith(")")
        group.append(part[:-1] if ends else part)
        if ends:
            found.append(group)
            group = None
    if group is not None:
        found += group
    return found


def _facet(name: str, text: str) -> Condition:
    """Read `attribute:value`; a record must not have `-value`, and `\\-value` is a value that begins with a dash."""
    text, score = _scored(name, text)
    negative = text[:4].upper() == "NOT "
    attribute, colon, value = (text[4:] if negative else text).strip().partition(":")
    if name == "facetFilters" and attribute.startswith('"') and not attribute.endswith('"') and '":' in value:
        # The name is in quotes, as it has a colon in it.
        rest, colon, value = value.partition('":')
        attribute = f'{attribute}:{rest}"'
    if not colon or not attribute:
        raise FilterError(f"{name}: expected attribute:value, got {text[:40]!r}")
    value = value.strip()
    if name == "facetFilters":
        attribute, value = _unquoted(attribute.strip()), _unquoted(value)
    denied, value = _dashed(value)
    return has_value(attribute.strip(), value, negative != denied, score)


def _tag(name: str, text: str) -> Condition:
    text, score = _scored(name, text)
    negative, tag = _dashed(text.strip())
    return _tagged(tag, negative, score)


def _numeric(name: str, text: str) -> Condition:
    """Read `price > 10`, or `price:10 TO 20`, which includes both ends."""
    wrong = FilterError(f"Invalid syntax for numeric condition:{text[:SHOWN]}")
    if sign := _SIGN.search(text):
        attribute, number = text[: sign.start()].strip(), text[sign.end() :].strip()
        if not attribute or not _NUMBER.fullmatch(number):
            raise wrong
        return _compares(attribute, sign[0], float(number))
    attribute, _, ends = text.rpartition(":")
    between = _RANGE.fullmatch(ends.strip())
    if between is None or not attribute.strip():
        raise wrong
    return _within(attribute.strip(), float(between[1]), float(between[2]))


def _scored(name: str, text: str) -> tuple[str, int]:
    """Split `color:red<score=2>` into the text before the score, and the score."""
    if not text.endswith(">"):
        return text, 1
    plain, marker, score = text[:-1].rpartition("<score=")
    return (plain, checked_score(name, score)) if marker else (text, 1)


def _dashed(value: str) -> tuple[bool, str]:
    if value.startswith("-"):
        return True, value[1:]
    return False, value[1:] if value.startswith("\\-") else value


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


# -- Conditions -------------------------------------------------------------------------------------------------------


def _of_term(term: Term) -> Condition:
    if term.kind == "tag":
        return _tagged(term.value, term.negative, term.score)
    if term.kind == "facet":
        return has_value(term.attribute, term.value, term.negative, term.score)
    if term.sign == "TO":
        return _within(term.attribute, term.low, term.high, term.negative)
    sign = _NEGATED[term.sign] if term.negative else term.sign
    return _compares(term.attribute, sign, term.low)


def _any_of(parts: list[Predicate]) -> Predicate:
    return parts[0] if len(parts) == 1 else lambda record: any(part(record) for part in parts)


def has_value(attribute: str, value: str, negative: bool = False, score: int = 1) -> Condition:
    """The condition that a record has this value of a facet; with `negative`, that it does not have it."""
    # Facet values are compared without regard to case, but tags are not.
    wanted = value.lower()

    def passes(each: Any) -> bool:
        written = facet_value(each)
        return written is not None and written.lower() == wanted

    return Condition(attribute, passes, score, negative, wanted)


def _tagged(tag: str, negative: bool, score: int) -> Condition:
    return Condition("_tags", lambda value: value == tag, score, negative)


def _compares(attribute: str, sign: str, number: float) -> Condition:
    compare, number = _COMPARISONS[sign], round(number, _DECIMALS)
    return Condition(attribute, lambda value: is_number(value) and compare(round(value, _DECIMALS), number), 0)


def _within(attribute: str, low: float, high: float, negative: bool = False) -> Condition:
    # A record without this number is neither inside nor outside of the range.
    def passes(value: Any) -> bool:
        return is_number(value) and (low <= round(value, _DECIMALS) <= high) is not negative

    return Condition(attribute, passes, 0)
