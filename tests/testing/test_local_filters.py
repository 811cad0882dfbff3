from __future__ import annotations

import pytest

from algolia_usertoken.local_algolia.filters import FilterError, predicate

RECORD = {
    "a": "One Two",
    "n": 5,
    "t": ["x", "y"],
    "b": True,
    "_tags": ["new"],
    "deep": [{"er": 1}, {"er": 2}],
    "z": None,
}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("a:'One Two'", True),
        ('a:"one two"', True),
        ("a:One", False),
        ("n:5", True),
        ("n=5", True),
        ("n != 5", False),
        ("n >= 5 AND n <= 5", True),
        ("n < 5 OR n > 4", True),
        ("n:1 TO 5", True),
        ("n:6 TO 9", False),
        ("n:-1 TO 9.5", True),
        ("t:y", True),
        ("NOT t:y", False),
        ("not t:z and b:true", True),
        ("(t:z OR t:x) AND (NOT (n:6))", True),
        ("new", True),
        ("_tags:new", True),
        ("old", False),
        ("deep.er:2", True),
        ("deep.er:3", False),
        ("deep.none:3", False),
        ("z:1", False),
        ("deep:1", False),
        ("a.b:1", False),
        ("a > 1", False),
        (r'"a":"One \"Two"', False),
    ],
)
def test_expressions(expression: str, holds: bool) -> None:
    found = predicate({"filters": expression})
    assert found is not None
    assert found(RECORD) is holds


@pytest.mark.parametrize(
    "expression",
    [
        "a:",
        ":a",
        "a b",
        "AND",
        "a:b AND",
        "(a:b",
        "a:b)",
        "a:b OR OR c:d",
        "n > x",
        "n:x TO 5",
        'a:"b',
        "(" * 2_000,
        "NOT " * 2_000,
    ],
)
def test_expressions_that_cannot_be_read(expression: str) -> None:
    with pytest.raises(FilterError, match=r"^filters: "):
        predicate({"filters": expression})


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("t:x,t:y", True),
        ('["t:x", ["t:z", "n:5"]]', True),
        ([["t:z"], ["n:5"]], False),
        ([[["t:z", "n:5"]]], False),
        (["t:\\-x"], False),
        (["t:-x"], False),
        (["NOT t:-x"], True),
    ],
)
def test_facet_filters(value: object, holds: bool) -> None:
    found = predicate({"facetFilters": value})
    assert found is not None
    assert found(RECORD) is holds


@pytest.mark.parametrize("value", [{"a": 1}, [1], [[[["a:b"]]]], "[", ["ab"]])
def test_facet_filters_that_cannot_be_read(value: object) -> None:
    with pytest.raises(FilterError, match=r"^facetFilters: "):
        predicate({"facetFilters": value})


def test_numeric_filters() -> None:
    found = predicate({"numericFilters": [["n>9", "n:5 TO 6"], "n = 5"]})
    assert found is not None
    assert found(RECORD)


def test_none() -> None:
    assert predicate({"facetFilters": [], "filters": "", "query": "x"}) is None
