"""Which records the filters of a search keep, how they score, and what is refused with which words."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from algolia_usertoken.local_algolia import columns
from algolia_usertoken.local_algolia.columns import values_of
from algolia_usertoken.local_algolia.filter_grammar import FilterError
from algolia_usertoken.local_algolia.filters import read
from algolia_usertoken.local_algolia.index import Contents

RECORD: dict[str, Any] = {
    "a": "One Two",
    "n": 5,
    "t": ["x", "y"],
    "b": True,
    "_tags": ["new", "-old"],
    "deep": [{"er": 1}, {"er": 2}],
    "z": None,
    "dash": "-one",
    "odd": 'say "no": never',
    "a:b": "c",
    "price": 9.9994,
}


CONTENTS = Contents()
for each in ({"a": "another", "n": 1}, RECORD, {"t": "x", "b": False, "deep": {"er": 3}}):
    CONTENTS.save(f"{len(CONTENTS.records)}", each)
PLACE = 1


def holds(**filters: object) -> bool:
    """Whether the record passes, looked at alone and found among others."""
    found = read(filters)
    alone = found.predicate
    assert alone is not None
    positions = found.positions(CONTENTS)
    assert positions is not None
    assert (PLACE in positions) is alone(RECORD)
    return alone(RECORD)


@pytest.mark.parametrize(
    ("expression", "expected"),
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
        ("n: 1 TO 5", True),
        ("n:5 TO 9", True),
        ("n:6 TO 9", False),
        ("n:-1 TO 9.5", True),
        ("t:y", True),
        ("NOT t:y", False),
        ("NOT t:z AND b:true", True),
        ("b: false", False),
        ("(t:z OR t:x) AND NOT n:6", True),
        ("t:z OR NOT t:w", True),
        ("NOT t:x OR NOT t:y", False),
        ("new", True),
        ("NOT new", False),
        ("_tags:new", True),
        ("_tags:New", False),
        ("_tags:-old", True),
        ('"-old"', True),
        ("old", False),
        ("deep.er:2", True),
        ("deep.er:3", False),
        ("deep.none:3", False),
        ("z:1", False),
        ("deep:1", False),
        ("a.b:1", False),
        ("a > 1", False),
        (r'"a":"One \"Two"', False),
        (r'odd:"say \"no\": never"', True),
        ("odd:'say \"no\": never'", True),
        ("dash:-one", True),
        ("NOT dash:-one", False),
        ("(t:x AND b:true)", True),
        ("(t:x)", True),
        ("((t:x OR t:z) OR (t:w))", True),
        ("t:z OR t:x AND b:false", False),
        ("t:z OR t:x AND (b:true AND n:5)", True),
        ("n < 6 OR n:8 TO 9", True),
        ("price = 9.999", True),
        ("\tt:x\nAND\r\nb:true ", True),
        ("n:1TO5", False),
    ],
)
def test_an_expression_keeps_what_it_describes(expression: str, expected: bool) -> None:
    assert holds(filters=expression) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("NOT n > 4", False),
        ("NOT n > 5", True),
        ("NOT n:1 TO 4", True),
        ("NOT n:1 TO 5", False),
        ("NOT nothing > 4", False),
        ("NOT nothing:1 TO 5", False),
        ("NOT nothing:4", True),
    ],
)
def test_not_before_numbers_needs_a_number_and_before_a_facet_value_does_not(expression: str, expected: bool) -> None:
    assert holds(filters=expression) is expected


OR_OF_ANDS = "filters: filter (X AND Y) OR Z is not allowed, only (X OR Y) AND Z is allowed"
MIXED = "filters: Different types are not allowed in the same OR."


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("t:x OR (b:true AND n:5)", OR_OF_ANDS),
        ("(t:x AND b:true) OR n:5", OR_OF_ANDS),
        ("((t:x AND b:true)) OR n:5", OR_OF_ANDS),
        ("(t:x AND (b:true OR n:5))", OR_OF_ANDS),
        ("(t:x AND b:true OR n:5)", OR_OF_ANDS),
        ("(t:x OR (b:true OR t:y AND t:z))", OR_OF_ANDS),
        ("((t:x AND b:true) AND (n:0 TO 9 OR n = 10))", OR_OF_ANDS),
        ("t:x OR n > 3", MIXED),
        ("n > 3 OR t:x", MIXED),
        ("t:x OR new", MIXED),
        ("new OR n:1 TO 2", MIXED),
        ("(t:x OR t:y) OR _tags:new", MIXED),
        ("NOT (t:x OR t:y)", "filters: Unexpected token '(' expected filter at col 4"),
        ("NOT(t:x)", "filters: Unexpected token '(' expected filter at col 3"),
        ("NOT NOT t:x", "filters: Unexpected token 'NOT' expected filter at col 4"),
        ("t:x and t:y", "filters: Unexpected token string(and) expected end of filter at col 4"),
        ("not t:x", "filters: Unexpected token string(t) expected end of filter at col 4"),
        ("t:x, t:y", "filters: Unexpected token string(t) expected end of filter at col 5"),
        ("n:1 to 5", "filters: Unexpected token string(to) expected end of filter at col 4"),
        ("a:One Two", "filters: Unexpected token string(Two) expected end of filter at col 6"),
        ("t:", "filters: Unexpected token end of filter expected string at col 2"),
        (":t", "filters: Unexpected token ':' expected filter at col 0"),
        ("t: AND n:5", "filters: Unexpected token 'AND' expected string at col 3"),
        ("AND", "filters: Unexpected token 'AND' expected filter at col 0"),
        ("t:x AND", "filters: Unexpected token end of filter expected filter at col 7"),
        ("t:x OR OR t:y", "filters: Unexpected token 'OR' expected filter at col 7"),
        ("(t:x", "filters: Unexpected token end of filter expected ')' at col 4"),
        ("t:x)", "filters: Unexpected token ')' expected end of filter at col 3"),
        ("()", "filters: Unexpected token ')' expected filter at col 1"),
        ("(t:xORt:y)", "filters: Unexpected token ':' expected ')' at col 7"),
        ("t:x:y", "filters: Unexpected token ':' expected end of filter at col 3"),
        ("t:x(y)", "filters: Unexpected token '(' expected end of filter at col 3"),
        ("t:x>y", "filters: Unexpected token > expected end of filter at col 3"),
        ("t:x=y", "filters: Unexpected token numeric operator expected end of filter at col 3"),
        ("t:x!y", "filters: Not allowed ! at col 3"),
        ("t:x<y", 'filters: Unexpected token string(y) expected "score" at col 4'),
        ("n > x", "filters: Unexpected token string(x) expected numeric at col 4"),
        ("n > AND", "filters: Unexpected token 'AND' expected numeric at col 4"),
        ("n:1 TO x", "filters: Unexpected token string(x) expected numeric at col 7"),
        ("n:x TO 5", "filters: Unexpected token 'TO' expected end of filter at col 4"),
        ("n < 1 <score=2>", "filters: Unexpected token < expected end of filter at col 6"),
        ('t:"x', "filters: Unexpected token incomplete string expected string at col 2"),
        (r't:"x\"', "filters: Unexpected token incomplete string expected string at col 2"),
        ('"x', "filters: Unexpected token incomplete string expected filter at col 0"),
        ('t:""', "filters: Unexpected token empty string expected string at col 3"),
        ("t:x<score=y>", "filters: Unexpected token string(y) expected numeric at col 10"),
        ("t:x<score>", 'filters: Unexpected token > expected "=" at col 9'),
        ("t:x<score=3", "filters: Unexpected token end of filter expected > at col 11"),
        ("t:x<>", "filters: Unexpected token > expected string at col 4"),
        ("t:x<score=70000>", "filters: a score is an integer from 0 to 65535"),
        ("t:x<score=1.5>", "filters: a score is an integer from 0 to 65535"),
        ("(" * 2_000, "filters: nested too deeply"),
        ("NOT " * 2_000, "filters: Unexpected token 'NOT' expected filter at col 4"),
    ],
)
def test_what_algolia_refuses_is_refused_with_its_words(expression: str, message: str) -> None:
    with pytest.raises(FilterError) as refused:
        read({"filters": expression})
    assert str(refused.value).split("\n")[0] == message


def test_an_or_of_different_types_says_which_form_was_expected() -> None:
    with pytest.raises(FilterError, match=r"\n - facet_name:facet_value$"):
        read({"filters": "t:x OR n > 3"})


def test_filters_that_are_no_string_are_refused() -> None:
    with pytest.raises(FilterError, match=r"^filters: expected a string$"):
        read({"filters": ["t:x"]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("t:x,t:y", True),
        ("t:x,(t:z,n:5)", True),
        ("t:x,,n:5,", True),
        ("t:x,(t:z,n:6)", False),
        ("(t:z,t:w", False),
        ('["t:x", ["t:z", "n:5"]]', True),
        ([["t:z"], ["n:5"]], False),
        (["t:\\-x"], False),
        (["t:-x"], False),
        (["NOT t:-x"], True),
        (["dash:\\-one"], True),
        (["dash:--one"], False),
        (["dash:-\\-one"], True),
        (['"a":"One Two"'], True),
        (['"a":One Two'], True),
        (['"a":"-One Two"'], False),
        (['"a":-"One Two"'], True),
        (['"a:b":c'], True),
        (['"a:b":"d"'], False),
        (['odd:say "no": never'], True),
        (['"odd":"say "no": never"'], True),
        ([r'"odd":"say \"no\": never"'], False),
        (["n:5"], True),
        (["b:true"], True),
        ([["t:x<score=2>", "t:y"]], True),
        ([[], "t:x"], True),
    ],
)
def test_facet_filters_keep_what_they_describe(value: object, expected: bool) -> None:
    assert holds(facetFilters=value) is expected


@pytest.mark.parametrize("value", [{"a": 1}, [1], [[["a:b"]]], "[", ["ab"], [":b"], ["a:b<score=x>"], '["a:b"'])
def test_facet_filters_that_cannot_be_read_are_refused(value: object) -> None:
    with pytest.raises(FilterError, match=r"^facetFilters: "):
        read({"facetFilters": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([["n>9", "n:5 TO 6"], "n = 5"], True),
        (["n!=5"], False),
        (["n:6 TO 7"], False),
        ("n>=5,n<=5", True),
        ("n>=5,(n>9,n<2)", False),
        (["price <= 9.999"], True),
    ],
)
def test_numeric_filters_keep_what_they_describe(value: object, expected: bool) -> None:
    assert holds(numericFilters=value) is expected


@pytest.mark.parametrize(
    "text", ["status=open", "n", "n>", ">5", "n:1", ":1 TO 2", "n:1TO2", "n > 1 AND n < 2", "n=5x"]
)
def test_a_numeric_filter_that_cannot_be_read_is_refused_with_algolias_words(text: str) -> None:
    with pytest.raises(FilterError) as refused:
        read({"numericFilters": [text]})
    assert str(refused.value) == f"Invalid syntax for numeric condition:{text}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["new"], True),
        ("new", True),
        ("new,older", False),
        ("(older,new)", True),
        (["New"], False),
        (["-new"], False),
        (["\\-old"], True),
        (["--old"], False),
        (["-\\-old"], True),
        (['"new"'], False),
        ([["none", "new"], "\\-old"], True),
    ],
)
def test_tag_filters_keep_what_they_describe(value: object, expected: bool) -> None:
    assert holds(tagFilters=value) is expected


def test_all_filters_together_are_joined_by_and() -> None:
    assert holds(filters="t:x", facetFilters=["n:5"], numericFilters=["n>4"], tagFilters=["new"])
    assert not holds(filters="t:x", facetFilters=["n:5"], numericFilters=["n>4"], tagFilters=["none"])


VALUES = [True, False, 0, 1, 1.0, 1.5, "1", "1.0", "true", "True", "", None, [1, "1"], [], {"x": 1}, [{"x": 1}, 2], -3]
TEXTS = [
    "v:1",
    "v:1.0",
    "v:true",
    "NOT v:true",
    "v=1",
    "v!=1",
    "NOT v=1",
    "v<2",
    "v:0 TO 1",
    "NOT v:0 TO 1",
    "v.x=1",
    "1",
]


@pytest.mark.parametrize("text", TEXTS)
def test_records_are_found_as_each_alone_would_pass(text: str) -> None:
    contents = Contents()
    for place, value in enumerate(VALUES):
        contents.save(str(place), {"v": value, "_tags": value})
    filters = read({"filters": text})
    alone = filters.predicate
    assert alone is not None

    found = filters.positions(contents)

    assert found == {record.position for record in contents.records.values() if alone(record.data)}
    assert [record.position for record in contents.having((), found)] == sorted(found)


def test_what_was_read_for_filters_and_facets_is_read_anew_after_a_change() -> None:
    contents = Contents()
    filters = read({"filters": "v:1 AND NOT w:x"})
    found = []
    for object_id, value in (("a", 1), ("b", 2), ("b", 1), ("a", 2)):
        contents.save(object_id, {"v": value})
        found.append([record.object_id for record in contents.having((), filters.positions(contents))])
    contents.delete("b")
    found.append([record.object_id for record in contents.having((), filters.positions(contents))])
    contents.clear()

    assert found == [["a"], ["a"], ["a", "b"], ["b"], []]
    assert filters.positions(contents) == set()


def test_an_attribute_is_read_once_for_many_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = Contents()
    for number in range(100):
        contents.save(str(number), {"t": [number]})
    looked_into: list[str] = []

    def counted(record: Mapping[str, Any], attribute: str) -> Iterator[Any]:
        looked_into.append(attribute)
        return values_of(record, attribute)

    monkeypatch.setattr(columns, "values_of", counted)
    for number in range(10):
        found = read({"filters": f"t:{number} OR t:{number + 50}"}).positions(contents)
        assert found == {number, number + 50}

    assert looked_into == ["t"] * 100


def test_attributes_that_no_record_has_take_no_room() -> None:
    contents = Contents()
    contents.save("a", {"v": 1})

    for number in range(1_000):
        assert read({"filters": f"nothing{number}:1"}).positions(contents) == set()

    assert len(contents.columns) <= 100


def test_empty_filters_keep_all_records() -> None:
    assert read({"facetFilters": [], "filters": "", "tagFilters": "", "query": "x"}).predicate is None
    assert read({"filters": "  ", "facetFilters": [[]]}).predicate is None


@pytest.mark.parametrize(
    ("filters", "score"),
    [
        ({"filters": "t:x<score=3> OR t:y"}, 3),
        ({"filters": "t:x<score=3> OR t:y", "sumOrFiltersScores": True}, 4),
        ({"filters": "t:x<score=3> OR t:y", "sumOrFiltersScores": "true"}, 4),
        ({"filters": "t:x<score=0> OR t:z<score=9>"}, 0),
        ({"filters": "t:x<score=3> AND b:true"}, 4),
        ({"filters": " t : x < score = 789 > "}, 789),
        ({"filters": "new<score=7>"}, 7),
        ({"filters": "n > 4"}, 0),
        ({"facetFilters": [["t:x<score=2>", "t:y<score=1>"]]}, 2),
        ({"optionalFilters": ["t:x<score=2>", "b:true", "t:z<score=5>"]}, 3),
        ({"optionalFilters": [["t:x<score=2>", "b:true"]]}, 2),
        ({"optionalFilters": ["t:-z<score=2>"]}, 2),
        ({"optionalFilters": ["dash:\\-one"]}, 1),
        ({"optionalFilters": ['"t":"x"', 't:"x"']}, 0),
        ({"optionalFilters": ['odd:say "no": never']}, 1),
        ({"optionalFilters": "t:x,b:true"}, 2),
        ({"filters": "t:x OR t:y", "optionalFilters": ["b:true<score=500>"]}, 501),
    ],
)
def test_scores_are_summed_over_ands_and_the_best_of_an_or_counts(filters: dict[str, Any], score: int) -> None:
    assert read(filters).score(RECORD) == score
    assert read(filters).score_at(CONTENTS)(PLACE) == score


def test_optional_filters_keep_every_record() -> None:
    assert read({"optionalFilters": ["t:nothing"]}).predicate is None


@pytest.mark.parametrize(
    ("filters", "ranks"),
    [
        ({"filters": "t:x<score=3> OR t:y"}, True),
        ({"optionalFilters": ["t:x"]}, True),
        ({"filters": "t:x OR t:y", "sumOrFiltersScores": True}, True),
        ({"filters": "t:x OR t:y"}, False),
        ({"filters": "t:x<score=3> AND t:y"}, False),
    ],
)
def test_records_need_an_order_only_where_they_can_score_differently(filters: dict[str, Any], ranks: bool) -> None:
    assert read(filters).ranks is ranks


@pytest.mark.slow
@pytest.mark.parametrize(
    "filters",
    [
        {"numericFilters": ["n" + " " * 100_000 + "x"]},
        {"numericFilters": ["n:1" + " " * 100_000 + "x"]},
        {"numericFilters": ["n:" + "1" * 100_000 + "x TO 5"]},
        {"filters": 't:"' + "\\" * 100_001},
        {"filters": 't:"' + 'x"' * 100_000},
        {"filters": "t:x AND " * 50_000},
        {"facetFilters": ["<score=" * 50_000 + ">"]},
        {"facetFilters": "(" * 100_000},
        {"facetFilters": "[" * 100_000},
    ],
)
def test_long_filters_that_cannot_be_read_are_refused(filters: dict[str, Any]) -> None:
    # In a time that grows with the square of the length, this would not end while anybody watched.
    with pytest.raises(FilterError):
        read(filters)


@pytest.mark.slow
def test_a_long_filter_is_read() -> None:
    assert holds(filters=" OR ".join(f"t:{number}" for number in range(20_000)) + " OR t:x")
    assert holds(numericFilters=["n" + " " * 100_000 + "= 5"])


def test_no_text_ends_in_anything_but_filters_or_a_refusal() -> None:
    pieces = ["t:x", "n>1", "new", *"()<>,!:5", "AND", "OR", "NOT", "TO", "<score=1>", '"', "'"]
    chance = random.Random(1)
    read_ones, refused_ones = 0, 0
    for _ in range(3_000):
        text = " ".join(chance.choices(pieces, k=chance.randrange(1, 9)))
        try:
            score = read({"filters": text}).score(RECORD)
        except FilterError:
            refused_ones += 1
        else:
            read_ones += 1
            assert score >= 0, text
    assert read_ones > 100
    assert refused_ones > 100
