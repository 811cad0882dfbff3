"""algoliasearch-django as it is, token-aware, with LocalAlgolia in Algolia's place: what reindexing needs of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import probe_django  # noqa: F401 - sets Django up
import pytest
from algoliasearch.search.config import SearchConfig
from django.core.management import call_command
from django.db import models

from algolia_usertoken import identity_scope, make_token_aware
from algolia_usertoken.testing import LocalAlgolia

RULE = {
    "objectID": "sale",
    "conditions": [{"pattern": "sale", "anchoring": "is"}],
    "consequence": {"params": {"hitsPerPage": 42}},
}
SYNONYM = {"objectID": "street", "type": "altCorrection1", "word": "Street", "corrections": ["St"]}


class Book(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        app_label = "books"


Registered = Callable[..., Any]


@pytest.fixture
def registered(algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registered]:
    """Makes an engine that leads to LocalAlgolia, with two books in an index of these settings."""
    monkeypatch.setattr(
        SearchConfig, "set_default_hosts", lambda config: setattr(config, "hosts", algolia.search_config().hosts)
    )
    from algoliasearch_django import AlgoliaIndex
    from algoliasearch_django import models as of_algolia
    from algoliasearch_django.registration import AlgoliaEngine

    monkeypatch.setattr(of_algolia, "DEBUG", True)  # what goes wrong is raised
    engines = []

    def registered(index_settings: dict[str, Any] | None = None) -> Any:
        class BookIndex(AlgoliaIndex):
            fields = ("name",)
            index_name = "books"
            settings = index_settings

            def get_queryset(self) -> list[Book]:
                return [Book(pk=1, name="Blue book"), Book(pk=2, name="Red book")]

        keys = {"APPLICATION_ID": algolia.app_id, "API_KEY": algolia.api_key, "AUTO_INDEXING": False}
        engine = AlgoliaEngine(keys)
        engine.register(Book, BookIndex)
        make_token_aware(engine.client)
        engines.append(engine)
        return engine

    yield registered
    for engine in engines:
        engine.client.close()


def found(engine: Any, index: str = "books", query: str = "") -> list[str]:
    return [hit.object_id for hit in engine.client.search_single_index(index, {"query": query}).hits]


def test_a_missing_index_is_made_by_reindexing(registered: Registered, algolia: LocalAlgolia) -> None:
    engine = registered()
    assert engine.reindex_all(Book) == 2
    with identity_scope("ada"):
        assert [hit["objectID"] for hit in engine.raw_search(Book, "blue")["hits"]] == ["1"]
    assert algolia.searches[-1].user_token == "ada"
    assert [request.path for request in algolia.requests if request.status == 404] == ["/1/indexes/books/settings"]


def test_reindexing_keeps_settings_that_the_model_does_not_have(registered: Registered) -> None:
    engine = registered()
    engine.client.set_settings("books", {"hitsPerPage": 42, "attributesForFaceting": ["name"]})
    before = engine.get_adapter(Book).get_settings()
    engine.reindex_all(Book)
    assert registered().get_adapter(Book).get_settings() == before


def test_reindexing_keeps_rules_and_synonyms(registered: Registered) -> None:
    engine = registered({"hitsPerPage": 42})
    engine.client.save_rule("books", "sale", RULE)
    engine.client.save_synonym("books", "street", SYNONYM)
    engine.reindex_all(Book)
    assert engine.client.get_rule("books", "sale").to_dict() == RULE
    assert engine.client.get_synonym("books", "street").to_dict() == SYNONYM
    assert engine.get_adapter(Book).get_settings()["hitsPerPage"] == 42


def test_replicas_have_the_records_after_reindexing(registered: Registered) -> None:
    engine = registered({"replicas": ["books_by_name", "books_by_date"]})
    for _ in range(2):  # the second time the replicas are there already
        engine.reindex_all(Book)
        assert found(engine, "books_by_name") == found(engine, "books_by_date") == ["1", "2"]
    engine.client.save_objects("books", [{"objectID": "3", "name": "Green book"}])
    assert found(engine, "books_by_name", "green") == ["3"]
    assert not engine.client.index_exists("books_tmp")


def test_algolia_reindex_keeps_the_rules_and_the_replicas(
    registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algoliasearch_django.management.commands import algolia_reindex

    engine = registered({"replicas": ["books_by_name"]})
    engine.client.save_rules("books", [RULE])
    monkeypatch.setattr(algolia_reindex, "get_registered_model", engine.get_registered_models)
    monkeypatch.setattr(algolia_reindex, "reindex_all", engine.reindex_all)
    output = io.StringIO()
    call_command(algolia_reindex.Command(), stdout=output)
    assert "Book --> 2" in output.getvalue()
    assert engine.client.search_rules("books").nb_hits == 1
    assert found(engine, "books_by_name") == ["1", "2"]


def test_a_record_is_saved_changed_and_deleted(registered: Registered) -> None:
    engine = registered()
    engine.save_record(Book(pk=1, name="Blue book"))
    engine.save_record(Book(pk=1, name="Green book"), update_fields=("name",))
    assert found(engine, query="green") == ["1"]
    engine.delete_record(Book(pk=1, name="Green book"))
    assert found(engine) == []
    engine.clear_objects(Book)
