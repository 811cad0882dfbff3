"""A memory of queries. That it does as search-insights' own is in tests/browser/test_query_memory.py."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import flask
import probe_django  # noqa: F401 - sets Django up
import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from itsdangerous import TimestampSigner

from algolia_usertoken import EventSender, HitReference, Identity, MemoryDelivery, QueryMemory, identity_scope
from algolia_usertoken.events.hits.reference import is_old

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
OTHER = "anonymous-00000000-0000-4000-8000-000000000000"
SECRET = "a key of the shop's"
MONTH = 30 * 24 * 60 * 60


def query(number: int) -> str:
    return f"{number:032x}"


def hit(number: int, object_id: str = "p-01", index: str = "products", position: int | None = 7) -> HitReference:
    return HitReference(query(number), index, object_id, position, user_token=TOKEN)


def verified(number: int, object_id: str = "p-01", token: str | None = TOKEN) -> HitReference:
    made = HitReference(query(number), "products", object_id, 3, user_token=token)
    return HitReference.verify(made.sign(SECRET), SECRET)


def aged(reference: HitReference, seconds: float) -> HitReference:
    object.__setattr__(reference, "_searched_at", int(time.time() - seconds))
    return reference


@pytest.fixture(autouse=True)
def _served() -> Iterator[None]:
    with identity_scope(TOKEN):
        yield


@pytest.fixture
def session() -> dict[str, Any]:
    return {}


@pytest.fixture
def memory(session: dict[str, Any]) -> QueryMemory:
    return QueryMemory(session)


class TestRecall:
    def test_what_was_remembered_comes_back(self, memory: QueryMemory) -> None:
        memory.remember([hit(1), hit(2, "p-02", position=None), hit(3, index="articles")])

        assert memory.recall("products", ["p-02", "p-01"]) == [hit(2, "p-02", position=None), hit(1)]
        assert memory.recall("articles", ["p-01"]) == [hit(3, index="articles")]

    def test_what_was_not_remembered_comes_without_a_query(self, memory: QueryMemory) -> None:
        memory.remember([hit(1)])

        assert memory.recall("products", ["p-9", "p-01"]) == [HitReference(None, "products", "p-9"), hit(1)]
        assert memory.recall("articles", ["p-01"]) == [HitReference(None, "articles", "p-01")]
        assert memory.recall("products", []) == []

    def test_ids_may_be_numbers_and_uuids(self, memory: QueryMemory) -> None:
        key = UUID(int=7)
        memory.remember([hit(1, "7"), hit(2, str(key))])

        assert [each.query_id for each in memory.recall("products", (each for each in (7, key)))] == [
            query(1),
            query(2),
        ]
        memory.forget("products", [7])
        assert memory.recall("products", [7])[0].query_id is None

    @pytest.mark.parametrize(
        "query_id", [query(7), "message_alg_msg_1", "q", "a" * 22, "~", "0" * 31, "A" * 32, "\n", "ü\u2028"]
    )
    def test_whatever_the_query_is_called(self, memory: QueryMemory, query_id: str) -> None:
        reference = HitReference(query_id, "products", "p-01", 1, user_token=TOKEN)
        memory.remember([reference])

        assert memory.recall("products", ["p-01"]) == [reference]

    @pytest.mark.parametrize("name", ["p-01", " ", "a.b", "ключ 🔑", '"', "\ud800", "__proto__"])
    def test_whatever_objects_and_indices_are_called(self, memory: QueryMemory, name: str) -> None:
        memory.remember([hit(1, name, name)])

        assert memory.recall(name, [name]) == [hit(1, name, name)]


class TestRemember:
    def test_counts_the_latest_search_of_an_object(self, memory: QueryMemory) -> None:
        memory.remember([hit(1), hit(2)])
        assert memory.recall("products", ["p-01"]) == [hit(2)]
        memory.remember([hit(3)])
        assert memory.recall("products", ["p-01"]) == [hit(3)]
        memory.remember([hit(2)])
        assert memory.recall("products", ["p-01"]) == [hit(2)]

    def test_what_no_search_led_to_changes_nothing(self, memory: QueryMemory, session: dict[str, Any]) -> None:
        memory.remember([HitReference(None, "products", "p-01", user_token=TOKEN)])
        memory.remember([])
        assert session == {}
        memory.remember([hit(1)])
        memory.remember([HitReference(None, "products", "p-01", user_token=TOKEN)])

        assert memory.recall("products", ["p-01"]) == [hit(1)]

    def test_a_search_of_nobody_changes_nothing(self, memory: QueryMemory, session: dict[str, Any]) -> None:
        memory.remember([HitReference(query(1), "products", "p-01"), verified(1, token=None)])

        assert session == {}

    def test_a_verified_reference_counts_for_the_visitor_it_was_made_for(
        self, memory: QueryMemory, session: dict[str, Any]
    ) -> None:
        memory.remember([verified(1, "p-01"), verified(2, "p-02", token=OTHER)])

        found = memory.recall("products", ["p-01", "p-02"])
        assert [each.query_id for each in found] == [query(1), None]
        assert found[0].made_for(TOKEN)
        assert SECRET not in json.dumps(session)

    def test_who_the_visitor_is_may_be_said(self, session: dict[str, Any]) -> None:
        with identity_scope(None):
            QueryMemory(session).remember([verified(1)])
            assert session == {}
            QueryMemory(session).remember([verified(1)], identity=TOKEN)

        assert QueryMemory(session).recall("products", ["p-01"])[0].made_for(TOKEN)

    def test_of_who_opted_out_nothing_is_remembered(self, memory: QueryMemory, session: dict[str, Any]) -> None:
        with identity_scope(Identity(TOKEN, opted_out=True)):
            memory.remember([hit(1), verified(2)])

        assert session == {}

    def test_what_was_recalled_may_be_remembered_elsewhere(self, memory: QueryMemory) -> None:
        memory.remember([hit(1)])
        other = QueryMemory({})
        with identity_scope(OTHER):
            other.remember(memory.recall("products", ["p-01"]))

        assert other.recall("products", ["p-01"])[0].made_for(TOKEN)
        assert not other.recall("products", ["p-01"])[0].made_for(OTHER)

    def test_keeps_how_old_a_search_is(self, memory: QueryMemory) -> None:
        now = int(time.time() * 1000)
        memory.remember([aged(hit(1), 3_000), aged(hit(2, "p-02"), 4_000)])

        assert [is_old(each, now) for each in memory.recall("products", ["p-01", "p-02"])] == [False, True]

    def test_what_is_older_than_a_month_is_forgotten(
        self, memory: QueryMemory, session: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory.remember([aged(hit(1), MONTH + 10)])
        assert session == {}
        memory.remember([aged(hit(1), MONTH - 1_000), hit(2, "p-02")])
        assert memory.recall("products", ["p-01"])[0].query_id == query(1)

        later = time.time() + 2_000
        monkeypatch.setattr("algolia_usertoken.query_memory.time.time", lambda: later)

        assert [each.query_id for each in memory.recall("products", ["p-01", "p-02"])] == [None, query(2)]


class TestForget:
    def test_what_was_bought_is_forgotten(self, memory: QueryMemory) -> None:
        memory.remember([hit(1), hit(2, "p-02"), hit(3, index="articles")])

        memory.forget("products", ["p-01", "p-9"])

        assert [each.query_id for each in memory.recall("products", ["p-01", "p-02"])] == [None, query(2)]
        assert memory.recall("articles", ["p-01"])[0].query_id == query(3)


class TestAfterwards:
    @pytest.fixture
    def delivery(self) -> MemoryDelivery:
        return MemoryDelivery()

    @pytest.fixture
    def events(self, delivery: MemoryDelivery) -> Iterator[EventSender]:
        with EventSender(delivery=delivery, background=False, strict=True) as events:
            yield events

    def bought(
        self, memory: QueryMemory, events: EventSender, delivery: MemoryDelivery, identity: Identity | str
    ) -> list[str | None]:
        with identity_scope(identity):
            events.purchased("Purchased", *memory.recall("products", ["p-01", "p-9"]))
            events.flush()
        data = delivery.events[-1].get("objectData", [{}, {}])
        return [each.get("queryID") for each in data]

    def test_a_login_changes_nothing(self, memory: QueryMemory, events: EventSender, delivery: MemoryDelivery) -> None:
        memory.remember([hit(1)])

        assert self.bought(memory, events, delivery, TOKEN) == [query(1), None]
        assert self.bought(memory, events, delivery, Identity(TOKEN, "login-1")) == [query(1), None]

    def test_for_another_visitor_the_events_have_no_query(
        self, memory: QueryMemory, events: EventSender, delivery: MemoryDelivery
    ) -> None:
        memory.remember([hit(1)])

        assert self.bought(memory, events, delivery, OTHER) == [None, None]
        assert self.bought(memory, events, delivery, Identity(OTHER, TOKEN)) == [None, None]

    def test_from_a_search_to_a_purchase(
        self, memory: QueryMemory, events: EventSender, delivery: MemoryDelivery
    ) -> None:
        found = {
            "index": "products",
            "queryID": query(5),
            "page": 0,
            "hits": [{"objectID": "p-01"}, {"objectID": "p-02"}],
        }
        memory.remember(events.references(found))

        assert self.bought(memory, events, delivery, TOKEN) == [query(5), None]
        events.clicked("Clicked", *memory.recall("products", ["p-02"]))
        events.flush()
        assert (delivery.events[-1]["queryID"], delivery.events[-1]["positions"]) == (query(5), [2])


class TestItsSize:
    @pytest.mark.parametrize(
        "object_id", ["{}", "product-{}", "0b5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e{}", "ключ-{}", "x" * 500 + "{}"]
    )
    def test_forty_stay_under_what_a_cookie_takes(self, session: dict[str, Any], object_id: str) -> None:
        memory = QueryMemory(session)
        for number in range(200):
            memory.remember([hit(number, object_id.format(number), f"index-{number % 5}", position=1_000)])

            assert len(json.dumps(session["algolia_queries"])) <= 3_480
        assert memory.recall("index-4", [object_id.format(199)])[0].query_id == query(199)

    def test_with_ordinary_ids_they_are_forty(self, session: dict[str, Any]) -> None:
        memory = QueryMemory(session)
        ids = [f"product-{number:05}" for number in range(100)]
        for number, each in enumerate(ids):
            memory.remember([hit(number, each)])

        assert [each.query_id is not None for each in memory.recall("products", ids)] == [False] * 60 + [True] * 40
        assert len(json.dumps(session)) < 3_000

    def test_the_oldest_search_goes_first(self, session: dict[str, Any]) -> None:
        memory = QueryMemory(session, max_items=3)
        memory.remember([aged(hit(1, "1"), 300), aged(hit(2, "2"), 500), aged(hit(3, "3"), 100)])
        memory.remember([aged(hit(4, "4"), 400)])
        assert [each.query_id for each in memory.recall("products", "1234".replace("", " ").split())] == [
            query(1),
            None,
            query(3),
            query(4),
        ]
        memory.remember([hit(5, "5")])
        assert memory.recall("products", ["4"])[0].query_id is None

    def test_of_one_page_the_first_that_was_remembered_goes(self, session: dict[str, Any]) -> None:
        memory = QueryMemory(session, max_items=2)
        references = [aged(hit(1, each), 100) for each in "abc"]
        memory.remember(references)
        assert [each.query_id is not None for each in memory.recall("products", list("abc"))] == [False, True, True]
        memory.remember(references[1:2])
        memory.remember(references[:1])
        assert [each.query_id is not None for each in memory.recall("products", list("abc"))] == [True, True, False]

    def test_what_is_too_long_costs_no_other(self, session: dict[str, Any]) -> None:
        memory = QueryMemory(session)
        memory.remember([hit(1), hit(2, "x" * 4_000), hit(3, "p-03")])

        found = memory.recall("products", ["p-01", "x" * 4_000, "p-03"])
        assert [each.query_id for each in found] == [query(1), None, query(3)]


class Watched(dict[str, Any]):
    """Counts what is written."""

    written = 0

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.written += 1


class TestItsMapping:
    def test_is_written_as_a_whole_and_only_where_something_changes(self) -> None:
        session = Watched()
        memory = QueryMemory(session, key="queries")
        memory.remember([hit(1), hit(2, "p-02")])
        before = session["queries"]
        kept = json.dumps(before)
        memory.recall("products", ["p-01"])
        memory.forget("products", ["p-9"])
        assert (list(session), session.written) == (["queries"], 1)
        memory.forget("products", ["p-01"])
        assert session.written == 2
        assert session["queries"] is not before
        assert json.dumps(before) == kept

    def test_holds_what_json_can_hold(self, memory: QueryMemory, session: dict[str, Any]) -> None:
        memory.remember([hit(1), hit(2, "p-02", "articles")])
        copy = json.loads(json.dumps(session))

        assert copy == session
        assert QueryMemory(copy).recall("products", ["p-01"]) == [hit(1)]

    def test_does_not_hold_whose_it_is(self, memory: QueryMemory, session: dict[str, Any]) -> None:
        memory.remember([hit(1), verified(2, "p-02")])

        assert TOKEN not in json.dumps(session)
        assert TOKEN.partition("-")[2][:8] not in json.dumps(session)

    @pytest.mark.parametrize(
        "found",
        [
            *(
                None,
                7,
                "text",
                [],
                [1],
                {"products": 7},
                {"products": ["p-01"]},
                {7: {"p-01": "1"}},
                {"products": {7: 8}},
            ),
            {"": {"p-01": "7.Z7VxX1ffVZbcnG4G.ASNFZ4mrze8BI0VniavN7w"}},
            {"products": {"": "7.Z7VxX1ffVZbcnG4G.ASNFZ4mrze8BI0VniavN7w", "p-01": ""}},
            {"products": {"p-01": "7.short.~q"}},
            {"products": {"p-01": "-1.Z7VxX1ffVZbcnG4G.~q"}},
            {"products": {"p-01": "7.Z7VxX1ffVZbcnG4G.ASNF"}},
            {"products": {"p-01": "7.Z7VxX1ffVZbcnG4G.~"}},
            {"products": {"p-01": "7.AAAAAAAAAAAAAAAA.~q"}},
        ],
    )
    def test_may_hold_something_else_there(self, found: Any) -> None:
        session = {"algolia_queries": found}
        memory = QueryMemory(session)

        assert memory.recall("products", ["p-01"])[0].query_id is None
        memory.forget("products", ["p-01"])
        memory.remember([hit(1)])
        assert memory.recall("products", ["p-01"]) == [hit(1)]

    def test_is_djangos_session(self) -> None:
        store = SessionStore()
        QueryMemory(store).remember([hit(number, f"product-{number}") for number in range(40)])
        assert store.modified
        store.save()

        again = SessionStore(store.session_key)
        assert len(store.session_key or "") < 4_000
        assert QueryMemory(again).recall("products", ["product-7"]) == [hit(7, "product-7")]
        again.modified = False
        QueryMemory(again).forget("products", ["product-7"])
        assert again.modified

    def test_is_flasks_session(self) -> None:
        app = flask.Flask("shop")
        app.secret_key = "a key"
        with app.test_request_context():
            QueryMemory(flask.session).remember([hit(number, f"product-{number}") for number in range(40)])
            assert flask.session.modified
            response = app.make_response("")
            app.session_interface.save_session(app, flask.session, response)
        cookie = response.headers["Set-Cookie"]
        assert len(cookie) < 4_000
        with app.test_request_context(headers={"Cookie": cookie.partition(";")[0]}):
            assert QueryMemory(flask.session).recall("products", ["product-7"]) == [hit(7, "product-7")]

    def test_fits_starlettes_session_which_compresses_nothing(self, session: dict[str, Any]) -> None:
        import base64

        QueryMemory(session).remember([hit(number, f"product-{number}") for number in range(40)])

        cookie = TimestampSigner("a key").sign(base64.b64encode(json.dumps(session).encode()))
        assert len(cookie) < 4_000

    def test_is_anything_that_can_be_pickled_in_a_cache(self, session: dict[str, Any]) -> None:
        QueryMemory(session).remember([hit(1)])

        assert QueryMemory(pickle.loads(pickle.dumps(session))).recall("products", ["p-01"]) == [hit(1)]


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"mapping": None}, TypeError, "mapping must be a mapping that can be written to, not NoneType"),
            ({"mapping": ()}, TypeError, "mapping must be a mapping that can be written to, not tuple"),
            ({"mapping": dict}, TypeError, "mapping must be a mapping that can be written to, not the class dict"),
            ({"max_items": 0}, ValueError, "max_items must be at least 1, not 0"),
            ({"max_items": True}, TypeError, "max_items must be a whole number, not bool"),
            ({"max_items": 4.0}, TypeError, "max_items must be a whole number, not float"),
            ({"key": ""}, ValueError, "key is empty"),
            ({"key": None}, TypeError, "key must be a string, not NoneType"),
        ],
    )
    def test_of_the_constructor_are_named(self, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            QueryMemory(**{"mapping": {}, **arguments})

    @pytest.mark.parametrize("references", [hit(1), "text", None, {"a": 1}])
    def test_that_are_no_list_of_references_are_named(self, memory: QueryMemory, references: Any) -> None:
        with pytest.raises(TypeError, match="references must be a list of HitReference objects"):
            memory.remember(references)

    def test_something_else_in_the_list(self, memory: QueryMemory, session: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match="each of references must be a HitReference, not str"):
            memory.remember([hit(1), "p-01"])  # type: ignore[list-item]
        assert session == {}

    @pytest.mark.parametrize(
        ("index", "object_ids", "error", "text"),
        [
            ("products", "p-01", TypeError, "object_ids must be a list, not str"),
            ("products", None, TypeError, "object_ids must be a list, not NoneType"),
            ("products", [""], ValueError, "object_id is empty"),
            ("products", [None], TypeError, "object_id must be a string, not NoneType"),
            ("products", [["p-01"]], TypeError, "object_id must be a string, not list"),
            ("", ["p-01"], ValueError, "index_name is empty"),
            (None, ["p-01"], TypeError, "index_name must be a string, not NoneType"),
        ],
    )
    def test_of_recall_and_forget_are_named(
        self, memory: QueryMemory, index: Any, object_ids: Any, error: type[Exception], text: str
    ) -> None:
        for method in (memory.recall, memory.forget):
            with pytest.raises(error, match=text):
                method(index, object_ids)
