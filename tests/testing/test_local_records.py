"""Keeping records, through the real clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.search.client import SearchClient, SearchClientSync

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]


def ids(client: SearchClientSync, index: str = "products") -> list[str]:
    return [hit.object_id for hit in client.search_single_index(index).hits]


def browsed(client: SearchClientSync, index: str, **parameters: Any) -> list[str]:
    found: list[str] = []
    client.browse_objects(index, lambda page: found.extend(hit.object_id for hit in page.hits), parameters or None)
    return found


def test_one_record_is_saved_changed_got_and_deleted(client: SearchClientSync) -> None:
    assert client.save_object("new", {"name": "made"}).object_id
    assert client.add_or_update_object("new", "1 / é", {"name": "put"}).object_id == "1 / é"
    assert client.get_object("new", "1 / é") == {"objectID": "1 / é", "name": "put"}
    assert client.get_object("products", "shirt", ["name", "price"]) == {
        "objectID": "shirt",
        "name": "Blue Shirt",
        "price": 20,
    }
    client.partial_update_object("new", "1 / é", {"price": 2})
    assert client.get_object("new", "1 / é") == {"objectID": "1 / é", "name": "put", "price": 2}
    client.delete_object("new", "1 / é")
    with pytest.raises(RequestException, match="ObjectID does not exist") as caught:
        client.get_object("new", "1 / é")
    assert caught.value.status_code == 404


def test_partial_update_creates_unless_told_not_to(client: SearchClientSync) -> None:
    client.partial_update_object("products", "ghost", {"a": 1}, create_if_not_exists=False)
    assert "ghost" not in ids(client)
    client.partial_update_object("products", "ghost", {"a": 1})
    assert client.get_object("products", "ghost") == {"objectID": "ghost", "a": 1}


@pytest.mark.parametrize(
    ("operation", "value", "before", "after"),
    [
        ("Increment", 2, 5, 7),
        ("Decrement", 2, 5, 3),
        ("Increment", 2, None, 2),
        ("IncrementFrom", 5, 5, 6),
        ("IncrementFrom", 4, 5, 5),
        ("IncrementSet", 9, 5, 9),
        ("IncrementSet", 3, 5, 5),
        ("Add", "a", ["a"], ["a", "a"]),
        ("AddUnique", "a", ["a"], ["a"]),
        ("AddUnique", "b", ["a"], ["a", "b"]),
        ("Remove", "a", ["a", "b", "a"], ["b"]),
        ("Remove", "a", None, []),
    ],
)
def test_built_in_operations_change_an_attribute(
    client: SearchClientSync, operation: str, value: Any, before: Any, after: Any
) -> None:
    client.add_or_update_object("ops", "1", {"field": before})
    client.partial_update_object("ops", "1", {"field": {"_operation": operation, "value": value}})
    assert client.get_object("ops", "1") == {"objectID": "1", "field": after}


@pytest.mark.parametrize(
    "change", [{"_operation": "Explode", "value": 1}, {"_operation": 1}, {"_operation": "Increment", "value": "1"}]
)
def test_built_in_operations_that_are_none(ask: Ask, change: Any) -> None:
    assert ask("POST", "/1/indexes/products/hat/partial", {"price": change}).status == 400


def test_the_helpers_of_algoliasearch_work(client: SearchClientSync) -> None:
    client.save_objects("many", [{"objectID": str(number), "n": number} for number in range(25)], True, batch_size=10)
    assert len(browsed(client, "many")) == 25
    client.partial_update_objects("many", [{"objectID": "3", "n": -3}, {"objectID": "99", "n": 0}])
    assert client.get_object("many", "3") == {"objectID": "3", "n": -3}
    client.partial_update_objects("many", [{"objectID": "99", "n": 0}], create_if_not_exists=True)
    client.delete_objects("many", ["0", "1", "nothing"])
    assert client.search_single_index("many").nb_hits == 24


def test_every_batch_operation_in_order(client: SearchClientSync) -> None:
    steps = [
        ("clear", {}),
        ("addObject", {"objectID": "a", "n": 1}),
        ("updateObject", {"objectID": "b", "n": 1}),
        ("partialUpdateObject", {"objectID": "c", "n": 1}),
        ("partialUpdateObjectNoCreate", {"objectID": "d", "n": 1}),
        ("deleteObject", {"objectID": "a"}),
    ]
    answer = client.batch("products", {"requests": [{"action": action, "body": body} for action, body in steps]})
    assert answer.object_ids == ["a", "b", "c", "d", "a"]
    assert ids(client) == ["b", "c"]
    client.batch("products", {"requests": [{"action": "delete", "body": {}}]})
    assert not client.index_exists("products")


@pytest.mark.parametrize(
    "bad",
    [
        {"action": "explode", "body": {"objectID": "a"}},
        {"action": "addObject", "body": {"objectID": ""}},
        {"action": "updateObject", "body": {}},
        {"action": "updateObject", "body": {"objectID": 1.5}},
        {"action": "updateObject", "body": {"objectID": True}},
        {"action": "deleteObject", "body": [1]},
        {},
    ],
)
def test_a_bad_operation_refuses_its_batch(ask: Ask, client: SearchClientSync, bad: Any) -> None:
    good = {"action": "deleteObject", "body": {"objectID": "hat"}}
    assert ask("POST", "/1/indexes/products/batch", {"requests": [good, bad]}).status == 400
    assert ids(client) == ["shirt", "hat", "shoe"]


def test_one_request_writes_to_and_reads_from_several_indices(client: SearchClientSync) -> None:
    requests = [
        {"indexName": "one", "action": "addObject", "body": {"objectID": "1"}},
        {"indexName": "two", "action": "addObject", "body": {"objectID": "2"}},
    ]
    answer = client.multiple_batch({"requests": requests})
    assert sorted(answer.task_id) == ["one", "two"]
    assert answer.object_ids == ["1", "2"]
    wanted = [{"indexName": "one", "objectID": "1"}, {"indexName": "two", "objectID": "nothing"}]
    assert client.get_objects({"requests": wanted}).results == [{"objectID": "1"}, None]


def test_browse_gives_all_records_page_by_page(client: SearchClientSync, algolia: LocalAlgolia) -> None:
    algolia.save_objects("many", [{"objectID": str(number), "even": number % 2 == 0} for number in range(25)])
    assert browsed(client, "many", hitsPerPage=10) == [str(number) for number in range(25)]
    assert browsed(client, "many", hitsPerPage=5, filters="even:true") == [str(number) for number in range(0, 25, 2)]
    first = client.browse("many", {"hitsPerPage": 10, "clickAnalytics": True})
    # A cursor is enough to go on with.
    second = client.browse("many", {"cursor": first.cursor})
    assert [hit.object_id for hit in second.hits] == [str(number) for number in range(10, 20)]
    assert algolia.searches[-2].query_id == first.query_id is not None
    assert {search.operation for search in algolia.searches} == {"browse"}


@pytest.mark.parametrize("cursor", ["x", "", "é", 1, "W10=", "WzEsMl0=", "Wy0xLHt9XQ=="])
def test_browse_with_a_bad_cursor(ask: Ask, cursor: Any) -> None:
    assert ask("POST", "/1/indexes/products/browse", {"cursor": cursor}).status == 400


def test_delete_by_clear_and_delete_index(client: SearchClientSync) -> None:
    client.delete_by("products", {"filters": "brand:Acme"})
    assert ids(client) == ["shoe"]
    client.clear_objects("products")
    assert ids(client) == []
    client.delete_index("products")
    client.delete_index("products")
    with pytest.raises(RequestException, match="does not exist"):
        client.search_single_index("products")


def test_settings_of_an_index_are_kept(client: SearchClientSync) -> None:
    client.set_settings("products", {"searchableAttributes": ["name"], "hitsPerPage": 2})
    client.set_settings("products", {"customRanking": ["desc(price)"]})
    settings = client.get_settings("products")
    assert settings.searchable_attributes == ["name"]
    assert settings.custom_ranking == ["desc(price)"]
    assert len(ids(client)) == 2
    with pytest.raises(RequestException, match=r"^Index does not exist$"):
        client.get_settings("nowhere")


def test_tasks_are_published_at_once(client: SearchClientSync, ask: Ask) -> None:
    task = client.save_objects("products", [{"objectID": "1"}])[0].task_id
    assert client.wait_for_task("products", task).status == "published"
    assert client.wait_for_app_task(task).status == "published"
    assert ask("GET", "/1/task/x").status == 400


def test_an_index_is_copied_and_moved(client: SearchClientSync) -> None:
    client.set_settings("products", {"hitsPerPage": 2})
    client.operation_index("products", {"operation": "copy", "destination": "copied"})
    client.operation_index("products", {"operation": "copy", "destination": "empty", "scope": ["settings"]})
    assert client.search_single_index("copied").nb_hits == 3
    assert client.search_single_index("empty").nb_hits == 0
    assert client.get_settings("empty").hits_per_page == 2
    client.operation_index("copied", {"operation": "move", "destination": "moved"})
    assert not client.index_exists("copied")
    client.save_objects("moved", [{"objectID": "extra"}])
    assert client.search_single_index("products").nb_hits == 3


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "swap", "destination": "a"},
        {"operation": "copy"},
        {"operation": "copy", "destination": ""},
        {"operation": "copy", "destination": "a", "scope": "settings"},
    ],
)
def test_bad_operations_on_an_index_are_refused(ask: Ask, body: Any) -> None:
    assert ask("POST", "/1/indexes/products/operation", body).status == 400


async def test_replace_all_objects_keeps_the_settings_only(client: SearchClientSync, algolia: LocalAlgolia) -> None:
    client.set_settings("products", {"hitsPerPage": 7})
    client.replace_all_objects("products", [{"objectID": "only"}])
    assert ids(client) == ["only"]
    assert client.get_settings("products").hits_per_page == 7
    client.replace_all_objects("brand-new", [{"objectID": "1"}])
    async with SearchClient.create_with_config(algolia.search_config()) as async_client:
        await async_client.replace_all_objects("brand-new", [{"objectID": "2"}])
    assert ids(client, "brand-new") == ["2"]
    assert [index.name for index in client.list_indices().items] == ["brand-new", "products"]


def test_copy_of_what_is_not_settings(client: SearchClientSync) -> None:
    client.set_settings("products", {"hitsPerPage": 2})
    client.operation_index("products", {"operation": "copy", "destination": "copied", "scope": ["rules"]})
    client.operation_index("nowhere", {"operation": "move", "destination": "copied"})
    assert client.get_settings("copied").hits_per_page == 20
    client.operation_index("products", {"operation": "move", "destination": "products"})
    assert client.search_single_index("products").nb_hits == 3


def test_indices_are_listed_page_by_page(client: SearchClientSync, ask: Ask) -> None:
    client.save_objects("another", [{"objectID": "1"}])
    another, products = client.list_indices().items
    assert (another.name, another.entries, products.name, products.entries) == ("another", 1, "products", 3)
    assert products.updated_at.endswith("Z")
    assert ask("GET", "/1/indexes?page=" + "9" * 5_000).status == 200
    second = client.list_indices(page=1, hits_per_page=1)
    assert ([index.name for index in second.items], second.nb_pages) == (["products"], 2)


def test_saving_again_keeps_the_place_and_changes_the_words(client: SearchClientSync) -> None:
    client.save_objects("products", [{"objectID": "shirt", "name": "Green shirt"}])
    assert ids(client) == ["shirt", "hat", "shoe"]
    assert client.search_single_index("products", {"query": "blue"}).nb_hits == 1
    assert client.search_single_index("products", {"query": "green"}).nb_hits == 1


def test_settings_have_algolias_defaults_and_a_version(ask: Ask, client: SearchClientSync) -> None:
    client.set_settings("products", {"hitsPerPage": 3, "customRanking": ["desc(price)"]})
    ask("PUT", "/1/indexes/products/settings", {"hitsPerPage": None, "version": 1, "primary": "x"})
    settings = ask("GET", "/1/indexes/products/settings").json
    assert (settings["version"], settings["hitsPerPage"], settings["paginationLimitedTo"]) == (2, 20, 1000)
    assert settings["customRanking"] == ["desc(price)"]
    assert "primary" not in settings


@pytest.mark.parametrize(
    "settings",
    [
        {"attributesForFaceting": 1},
        {"unretrievableAttributes": "name"},
        {"attributesToRetrieve": [1]},
        {"hitsPerPage": "20"},
        {"hitsPerPage": True},
        {"maxValuesPerFacet": -1},
        {"highlightPreTag": ["<b>"]},
    ],
)
def test_a_setting_of_another_type_is_refused_and_changes_nothing(ask: Ask, settings: dict[str, Any]) -> None:
    before = ask("GET", "/1/indexes/products/settings").json
    answer = ask("PUT", "/1/indexes/products/settings", {"customRanking": ["desc(price)"], **settings})
    (name,) = settings
    assert (answer.status, answer.json["message"].split(":")[0]) == (400, name)
    assert ask("GET", "/1/indexes/products/settings").json == before


def test_a_replica_answers_with_the_records_of_its_primary(client: SearchClientSync) -> None:
    client.set_settings("products", {"replicas": ["cheapest", "virtual(newest)"], "hitsPerPage": 9})
    client.save_objects("products", [{"objectID": "late", "name": "Late shirt"}])
    for replica in ("cheapest", "newest"):
        assert ids(client, replica) == ids(client)
        settings = client.get_settings(replica)
        assert (settings.primary, settings.hits_per_page, settings.replicas) == ("products", 9, None)
    client.set_settings("cheapest", {"hitsPerPage": 2})
    assert client.get_settings("products").hits_per_page == 9
    listed = {index.name: index for index in client.list_indices().items}
    assert listed["products"].replicas == ["cheapest", "newest"]
    assert (listed["cheapest"].primary, listed["cheapest"].entries) == ("products", 4)


def test_settings_are_forwarded_to_replicas_only_on_demand(client: SearchClientSync) -> None:
    client.set_settings("products", {"replicas": ["cheapest"]})
    client.set_settings("products", {"hitsPerPage": 1})
    assert client.get_settings("cheapest").hits_per_page == 20
    client.set_settings("products", {"hitsPerPage": 2, "replicas": ["cheapest"]}, forward_to_replicas=True)
    assert client.get_settings("cheapest").hits_per_page == 2
    assert client.get_settings("cheapest").replicas is None


def test_a_replica_is_not_written_to(client: SearchClientSync) -> None:
    client.set_settings("products", {"replicas": ["cheapest"]})
    writes: list[Callable[[], Any]] = [
        lambda: client.save_objects("cheapest", [{"objectID": "1"}]),
        lambda: client.delete_object("cheapest", "shirt"),
        lambda: client.partial_update_object("cheapest", "shirt", {"price": 1}),
        lambda: client.clear_objects("cheapest"),
        lambda: client.operation_index("other", {"operation": "copy", "destination": "cheapest"}),
    ]
    for write in writes:
        with pytest.raises(RequestException, match="cheapest is a replica: write to its primary, products"):
            write()
    assert len(ids(client)) == 3


@pytest.mark.parametrize("release", ["settings", "delete", "null"])
def test_a_released_replica_keeps_the_records_that_it_had(client: SearchClientSync, ask: Ask, release: str) -> None:
    client.set_settings("products", {"replicas": ["cheapest"]})
    if release == "delete":
        client.delete_index("products")
    else:
        ask("PUT", "/1/indexes/products/settings", {"replicas": None if release == "null" else []})
    client.save_objects("products", [{"objectID": "late"}])
    client.save_objects("cheapest", [{"objectID": "own"}])
    assert ids(client, "cheapest") == ["shirt", "hat", "shoe", "own"]
    assert client.get_settings("cheapest").primary is None


def test_a_deleted_replica_is_no_longer_listed(client: SearchClientSync) -> None:
    client.set_settings("products", {"replicas": ["cheapest", "newest"]})
    client.delete_index("cheapest")
    assert client.get_settings("products").replicas == ["newest"]
    assert not client.index_exists("cheapest")


def test_replicas_have_what_is_moved_onto_their_primary(client: SearchClientSync) -> None:
    client.set_settings("products", {"replicas": ["cheapest"]})
    client.replace_all_objects("products", [{"objectID": "only"}])
    assert ids(client, "cheapest") == ids(client) == ["only"]
    client.save_objects("products", [{"objectID": "two"}])
    assert ids(client, "cheapest") == ["only", "two"]
    assert client.get_settings("products").replicas == ["cheapest"]


def test_a_copy_has_no_replicas_and_goes_its_own_way(client: SearchClientSync) -> None:
    client.set_settings("products", {"replicas": ["cheapest"]})
    client.operation_index("cheapest", {"operation": "copy", "destination": "copied"})
    client.save_objects("copied", [{"objectID": "own"}])
    assert len(ids(client)) == 3
    assert client.get_settings("copied").replicas is None
    with pytest.raises(RequestException, match="products has replicas, and cannot be copied to"):
        client.operation_index("copied", {"operation": "copy", "destination": "products"})
    client.operation_index("nowhere", {"operation": "copy", "destination": "copied"})
    assert ids(client, "copied") == []


@pytest.mark.parametrize(
    ("index", "replicas"),
    [
        ("products", "cheapest"),
        ("products", [1]),
        ("products", [""]),
        ("products", ["products"]),
        ("cheapest", ["newest"]),
        ("other", ["cheapest"]),
        ("other", ["products"]),
    ],
)
def test_replicas_that_cannot_be_are_refused(ask: Ask, index: str, replicas: Any) -> None:
    ask("PUT", "/1/indexes/products/settings", {"replicas": ["cheapest"]})
    answer = ask("PUT", f"/1/indexes/{index}/settings", {"replicas": replicas})
    assert (answer.status, answer.json["message"][:9]) == (400, "replicas:")
    assert ask("GET", "/1/indexes/products/settings").json["replicas"] == ["cheapest"]


@pytest.mark.parametrize("object_id", ["o-1", "a/b c", 7])
def test_however_a_record_is_saved_its_object_id_replaces(client: SearchClientSync, object_id: Any) -> None:
    one = {"objectID": object_id, "name": "first"}
    saves = [
        lambda body: client.save_object("p", body),
        lambda body: client.add_or_update_object("p", str(object_id), body),
        lambda body: client.save_objects("p", [body]),
        lambda body: client.batch("p", {"requests": [{"action": "addObject", "body": body}]}),
        lambda body: client.batch("p", {"requests": [{"action": "updateObject", "body": body}]}),
        lambda body: client.multiple_batch({"requests": [{"action": "addObject", "indexName": "p", "body": body}]}),
    ]
    for number, save in enumerate(saves):
        save({**one, "name": f"number {number}"})

        found = client.search_single_index("p", {"query": ""})
        assert [(hit.object_id, hit.name) for hit in found.hits] == [(str(object_id), f"number {number}")]
    assert client.save_object("p", one).object_id == str(object_id)
