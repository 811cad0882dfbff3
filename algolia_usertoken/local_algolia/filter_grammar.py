"""The grammar of the parameter `filters`: parses a text into its conditions, as ANDs of ORs.

It refuses what Algolia refuses, with the same message and column: an OR of ANDs, conditions of different types in one
OR, NOT before a parenthesis, operators in lower case. The time it takes depends only on the length of the text.
https://www.algolia.com/doc/guides/managing-results/refine-results/filtering/in-depth/combining-boolean-operators
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["facet", "tag", "numeric"]

# The alternatives begin with different characters, all but `<=` and `>=`, so that no text is tried twice.
_TOKEN = re.compile(
    r"""(?P<blank>[ \n\r\t\f]+)
      | (?P<operator>[<>!]=|=) | (?P<sign>[()<>:,])
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<bare>[^ \n\r\t\f()<>=!:'"]+)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?", re.ASCII)
_ESCAPED = re.compile(r"""\\(["'\\])""")
_KEYWORDS = frozenset({"AND", "OR", "NOT", "TO"})
_BIGGEST_SCORE = 65_535
# The deepest nesting. It is far deeper than real filters; a hostile text must not overflow the stack.
_DEEPEST = 50
# How much of a text an error repeats, in characters.
SHOWN = 200

_MIXED_OPERATORS = "filter (X AND Y) OR Z is not allowed, only (X OR Y) AND Z is allowed"
_MIXED_KINDS = "Different types are not allowed in the same OR."
_FORMS: dict[Kind, str] = {
    "numeric": "\nExpected a numeric filter which needs to have one of the following form:"
    "\n - numeric_attr_name=10\n - numeric_attr_name>10\n - numeric_attr_name>=10\n - numeric_attr_name<10"
    "\n - numeric_attr_name<=10\n - numeric_attr_name!=10\n - numeric_attr_name:10 TO 20",
    "facet": "\nExpected a facet filter which needs to have this form:\n - facet_name:facet_value",
    "tag": "\nExpected a tag filter which needs to have this form:\n - _tags:tag_value\n - tag_value",
}


class FilterError(ValueError):
    """A filter that cannot be read. The message of the error is that of Algolia."""


class Term(NamedTuple):
    """One condition of a text.

    A facet or a tag has its value in `value`. A comparison has a `sign` and the number in `low`. A range has the sign
    "TO", and includes both ends. `score` is the score that is written after the condition, or 1.
    """

    kind: Kind
    attribute: str
    value: str = ""
    sign: str = ""
    low: float = 0.0
    high: float = 0.0
    negative: bool = False
    score: int = 1


class _Token(NamedTuple):
    # The kind of token, in the words of Algolia's messages.
    what: str
    text: str
    column: int


class _Group(NamedTuple):
    """Some terms as ANDs of ORs, and which operators stand between them."""

    clauses: list[list[Term]]
    has_and: bool
    has_or: bool


def parsed(text: str) -> list[list[Term]]:
    """The terms of a text: all lists must hold, and a list holds if one of its terms holds. Raises `FilterError`."""
    return _Parser(text).parsed()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0
        # After a closed parenthesis that contains an AND, Algolia accepts no OR.
        self._and_was_closed = False

    def parsed(self) -> list[list[Term]]:
        found = self._ands()
        if self._next.what != "end of filter":
            raise self._unexpected("end of filter")
        return found.clauses

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _ands(self) -> _Group:
        """Parse X AND Y AND …; OR binds more strongly than AND."""
        first = self._ors()
        clauses, has_and, has_or = first.clauses, first.has_and, first.has_or
        while self._take("'AND'"):
            more = self._ors()
            clauses += more.clauses
            has_and, has_or = True, has_or or more.has_or
        if has_and and has_or and self._depth:
            raise FilterError(f"filters: {_MIXED_OPERATORS}")
        return _Group(clauses, has_and, has_or)

    def _ors(self) -> _Group:
        first = self._operand()
        if self._next.what != "'OR'":
            return first
        terms = [*first.clauses[0]]
        while self._take("'OR'"):
            if self._and_was_closed:
                raise FilterError(f"filters: {_MIXED_OPERATORS}")
            more = self._operand()
            if more.has_and:
                raise FilterError(f"filters: {_MIXED_OPERATORS}")
            if more.clauses[0][-1].kind != terms[-1].kind:
                raise FilterError(f"filters: {_MIXED_KINDS}{_FORMS[terms[-1].kind]}")
            terms += more.clauses[0]
        return _Group([terms], False, True)

    def _operand(self) -> _Group:
        if not self._take("'('"):
            return _Group([[self._term()]], False, False)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FilterError("filters: nested too deeply")
        group = self._ands()
        if not self._take("')'"):
            raise self._unexpected("')'")
        self._depth -= 1
        self._and_was_closed = self._and_was_closed or group.has_and
        return group

    def _term(self) -> Term:
        negative = self._take("'NOT'")
        name = self._expect("filter", "string", "numeric")
        sign = self._next.text if self._next.what in ("numeric operator", "<", ">") else ""
        if sign and not (sign == "<" and self._tokens[self._at + 1].text == "score"):
            self._at += 1
            return Term("numeric", name.text, sign=sign, low=float(self._expect("numeric").text), negative=negative)
        if not self._take("':'"):
            return Term("tag", "_tags", name.text, negative=negative, score=self._score())
        value = self._expect("string", "string", "numeric")
        if value.what == "numeric" and self._take("'TO'"):
            high = float(self._expect("numeric").text)
            return Term("numeric", name.text, sign="TO", low=float(value.text), high=high, negative=negative)
        kind: Kind = "tag" if name.text == "_tags" else "facet"
        return Term(kind, name.text, value.text, negative=negative, score=self._score())

    def _score(self) -> int:
        """The score of `<score=3>`, or 1 if there is none."""
        if not self._take("<"):
            return 1
        if self._next.text != "score":
            raise self._unexpected('"score"' if self._next.what == "string" else "string")
        self._at += 1
        if self._next.text != "=":
            raise self._unexpected('"="')
        self._at += 1
        score = checked_score("filters", self._expect("numeric").text)
        if not self._take(">"):
            raise self._unexpected(">")
        return score

    def _take(self, what: str) -> bool:
        if self._next.what != what:
            return False
        self._at += 1
        return True

    def _expect(self, wanted: str, *kinds: str) -> _Token:
        token = self._next
        if token.what not in (kinds or (wanted,)):
            raise self._unexpected(wanted)
        self._at += 1
        return token

    def _unexpected(self, wanted: str) -> FilterError:
        token = self._next
        shown = f"{token.what}({token.text[:SHOWN]})" if token.what in ("string", "numeric") else token.what
        return FilterError(f"filters: Unexpected token {shown} expected {wanted} at col {token.column}")


def checked_score(parameter: str, text: str) -> int:
    """The score of a filter as a number, from 0 to 65,535. Raises `FilterError`."""
    if not (text.isdecimal() and text.isascii() and len(text) < 6 and int(text) <= _BIGGEST_SCORE):
        raise FilterError(f"{parameter}: a score is an integer from 0 to {_BIGGEST_SCORE}")
    return int(text)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if text[at] == "!":
                raise FilterError(f"filters: Not allowed ! at col {at}")
            # A quote that is never closed extends to the end of the text.
            yield _Token("incomplete string", text[at:], at)
            break
        if match.lastgroup != "blank":
            yield _read(match)
        at = match.end()
    yield _Token("end of filter", "", len(text))


def _read(match: re.Match[str]) -> _Token:
    text, column = match[0], match.start()
    if match.lastgroup == "operator":
        return _Token("numeric operator", text, column)
    if match.lastgroup == "sign":
        return _Token(f"'{text}'" if text in "():" else text, text, column)
    if match.lastgroup == "quoted":
        if len(text) == 2:
            return _Token("empty string", "", column + 1)
        return _Token("string", _ESCAPED.sub(r"\1", text[1:-1]), column)
    if text in _KEYWORDS:
        return _Token(f"'{text}'", text, column)
    return _Token("numeric" if _NUMBER.fullmatch(text) else "string", text, column)
