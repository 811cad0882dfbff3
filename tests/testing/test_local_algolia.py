"""Starting, stopping, configuring: the life of a LocalAlgolia."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from algoliasearch.http.hosts import HostsCollection
from algoliasearch.insights.client import InsightsClient, InsightsClientSync
from algoliasearch.personalization.config import PersonalizationConfig
from algoliasearch.recommend.client import RecommendClient, RecommendClientSync
from algoliasearch.search.client import SearchClient, SearchClientSync
from program_files import run_program
from waiting import PATIENCE, wait_until

from algolia_usertoken import testing
from algolia_usertoken.testing import LocalAlgolia


def search_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "LocalAlgolia"]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_local_algolia_listens_in_its_with_block_only() -> None:
    with LocalAlgolia() as algolia:
        assert is_listening(algolia.port)
        assert algolia.url == f"http://127.0.0.1:{algolia.port}"
        assert "running" in repr(algolia)
    assert not is_listening(algolia.port)
    assert "stopped" in repr(algolia)
    assert search_threads() == []


def test_start_and_stop_may_be_repeated() -> None:
    algolia = LocalAlgolia()
    algolia.stop()
    assert algolia.start() is algolia
    port = algolia.port
    algolia.start()
    assert algolia.port == port
    assert len(search_threads()) == 1
    algolia.stop()
    algolia.stop()
    assert search_threads() == []


def test_a_later_start_keeps_port_records_and_what_arrived() -> None:
    algolia = LocalAlgolia()
    algolia.save_objects("products", [{"objectID": "1"}])
    with algolia, SearchClientSync.create_with_config(algolia.search_config()) as client:
        client.search_single_index("products")
        port = algolia.port
    with algolia, SearchClientSync.create_with_config(algolia.search_config()) as client:
        assert algolia.port == port
        assert client.search_single_index("products").nb_hits == 1
    assert len(algolia.searches) == 2


def test_fifty_cycles_leave_nothing_behind() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for _ in range(50):
        with LocalAlgolia():
            pass
    assert search_threads() == []
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_started_and_stopped_by_many_threads_at_once() -> None:
    algolia = LocalAlgolia()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda turn: algolia.start() if turn % 2 else algolia.stop(), range(16)))
    algolia.stop()
    assert search_threads() == []


def test_stopping_ends_open_connections_and_hanging_requests() -> None:
    algolia = LocalAlgolia().start()
    algolia.hang_next()
    with socket.create_connection((algolia.host, algolia.port), timeout=PATIENCE) as hanging:
        hanging.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: algolia.requests)
        algolia.stop()
        assert hanging.recv(1) == b""


def test_stopping_does_not_wait_for_late_answers() -> None:
    algolia = LocalAlgolia().start()
    algolia.fail_next(delay=60)
    with socket.create_connection((algolia.host, algolia.port), timeout=PATIENCE) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: algolia.requests)
        started = time.monotonic()
        algolia.stop()
        assert time.monotonic() - started < 20


def test_a_taken_port_is_an_error_and_leaves_no_thread() -> None:
    with LocalAlgolia() as algolia:
        other = LocalAlgolia(port=algolia.port)
        with pytest.raises(OSError, match="in use"):
            other.start()
        other.stop()
        assert len(search_threads()) == 1


def test_local_algolia_may_listen_on_ipv6() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 here")
    with LocalAlgolia(host="::1") as algolia, SearchClientSync.create_with_config(algolia.search_config()) as client:
        assert algolia.url == f"http://[::1]:{algolia.port}"
        assert client.list_indices().items == []
        assert algolia.requests[0].client_ip == "::1"


def test_a_server_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("algolia_usertoken.local_algolia.server._Connections.accept_from", broken)
        algolia = LocalAlgolia()
        with pytest.raises(RuntimeError, match="broken"):
            algolia.start()
    algolia.stop()
    assert search_threads() == []
    with algolia:
        assert is_listening(algolia.port)


class Reluctant(socket.socket):
    """Fails to accept a few times, as when there are no file descriptors left."""

    failures = 3

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(24, "Too many open files")
        return super().accept()


def test_connections_that_cannot_be_accepted_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    create = socket.create_server
    monkeypatch.setattr(
        "algolia_usertoken.local_algolia.stand_in.socket.create_server",
        lambda *arguments, **options: Reluctant(fileno=create(*arguments, **options).detach()),
    )
    with LocalAlgolia() as algolia, SearchClientSync.create_with_config(algolia.search_config()) as client:
        assert client.list_indices().items == []
    with LocalAlgolia() as algolia, socket.create_connection((algolia.host, algolia.port)):
        # Stopped while one waits.
        pass


def test_a_connection_that_is_gone_before_it_began_does_no_harm(
    algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.SelectorEventLoop, "connect_accepted_socket", gone)
        with socket.create_connection((algolia.host, algolia.port), timeout=PATIENCE) as connection:
            assert connection.recv(1) == b""
    assert is_listening(algolia.port)


def test_port_is_unknown_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="start"):
        _ = LocalAlgolia().port
    assert LocalAlgolia(port=8108).port == 8108
    assert "free" in repr(LocalAlgolia())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_local_algolia_listens_on_other_loopback_hosts(host: str) -> None:
    with LocalAlgolia(host=host) as algolia, SearchClientSync.create_with_config(algolia.search_config()) as client:
        assert client.list_indices().items == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"host": "0.0.0.0"}, "host"),
        ({"host": "192.168.1.1"}, "host"),
        ({"host": "example.com"}, "host"),
        ({"host": ""}, "host"),
        ({"host": None}, "host"),
        ({"port": -1}, "port"),
        ({"port": 65_536}, "port"),
        ({"port": "8108"}, "port"),
        ({"port": True}, "port"),
        ({"app_id": ""}, "app_id"),
        ({"app_id": "two words"}, "app_id"),
        ({"api_key": None}, "api_key"),
        ({"api_key": "line\nbreak"}, "api_key"),
        ({"max_received": 0}, "max_received"),
        ({"max_received": 1.5}, "max_received"),
    ],
)
def test_bad_arguments_of_local_algolia_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must be"):
        LocalAlgolia(**arguments)


def test_config_for_any_client_leads_here(algolia: LocalAlgolia) -> None:
    config = algolia.config_for(PersonalizationConfig)
    assert isinstance(config.hosts, HostsCollection)
    assert [(host.url, host.scheme, host.port) for host in config.hosts.read()] == [("127.0.0.1", "http", algolia.port)]
    assert config.app_id == algolia.app_id
    # A host that is marked down is so for one client only.
    assert config.hosts is not algolia.config_for(PersonalizationConfig).hosts


async def test_all_six_clients_reach_local_algolia(algolia: LocalAlgolia) -> None:
    related = {"requests": [{"indexName": "products", "model": "related-products", "objectID": "hat", "threshold": 0}]}
    event = {"eventType": "view", "eventName": "seen", "index": "products", "userToken": "u", "objectIDs": ["hat"]}
    with SearchClientSync.create_with_config(algolia.search_config()) as search:
        assert search.search_single_index("products").nb_hits == 3
    with RecommendClientSync.create_with_config(algolia.recommend_config()) as recommend:
        assert len(recommend.get_recommendations(related).results[0].hits) == 2
    with InsightsClientSync.create_with_config(algolia.insights_config()) as insights:
        assert insights.push_events({"events": [event]}).status == 200
    async with SearchClient.create_with_config(algolia.search_config()) as search_async:
        assert (await search_async.search_single_index("products")).nb_hits == 3
    async with RecommendClient.create_with_config(algolia.recommend_config()) as recommend_async:
        assert len((await recommend_async.get_recommendations(related)).results[0].hits) == 2
    async with InsightsClient.create_with_config(algolia.insights_config()) as insights_async:
        assert (await insights_async.push_events({"events": [event]})).status == 200


async def test_a_proxy_in_the_environment_does_not_matter(
    algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with SearchClientSync.create_with_config(algolia.search_config()) as client:
        assert client.search_single_index("products").nb_hits == 3
    async with SearchClient.create_with_config(algolia.search_config()) as async_client:
        assert (await async_client.search_single_index("products")).nb_hits == 3
    assert {request.path for request in algolia.requests} == {"/1/indexes/products/query"}


def test_proxies_of_a_config_are_empty_where_the_machine_has_none(
    algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert algolia.search_config().proxies == {}


def test_save_objects_needs_no_start() -> None:
    algolia = LocalAlgolia()
    assert algolia.save_objects("i", [{"objectID": "a"}, {"objectID": 7}]) == ["a", "7"]
    (made,) = algolia.save_objects("i", [{"name": "no id"}])
    assert made.isdecimal()


def test_save_objects_keeps_its_own_copy(algolia: LocalAlgolia, client: SearchClientSync) -> None:
    record: dict[str, Any] = {"objectID": "a", "tags": ["x"], 1: ("y",)}
    algolia.save_objects("i", (each for each in [record]))
    record["tags"].append("z")
    assert client.get_object("i", "a") == {"objectID": "a", "tags": ["x"], "1": ["y"]}


@pytest.mark.parametrize(
    ("index", "records", "named"),
    [
        ("", [], "index"),
        (None, [], "index"),
        ("i", [{}, 1], "records: number 1 must be an object, a dict, not int"),
        ("i", "text", "records: number 0 must be an object, a dict, not str"),
        ("i", [{"objectID": ""}], "records"),
        ("i", [{"objectID": "a", "b": {1, 2}}], "records"),
        ("i", [{"objectID": "a", "b": float("nan")}], "records"),
        ("i", [None], "records"),
        ("i", 1, "records"),
    ],
)
def test_save_objects_names_what_it_refuses(index: Any, records: Any, named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}"):
        LocalAlgolia().save_objects(index, records)


@pytest.mark.slow
def test_8_threads_and_8_tasks_at_once(algolia: LocalAlgolia) -> None:
    each = 25

    def in_a_thread(number: int) -> None:
        with SearchClientSync.create_with_config(algolia.search_config()) as client:
            for _ in range(each):
                found = client.search_single_index("products", {"query": "blue", "userToken": f"thread-{number}"})
                assert found.nb_hits == 2

    async def in_tasks() -> None:
        async def in_a_task(number: int) -> None:
            for _ in range(each):
                found = await client.search_single_index("products", {"query": "blue", "userToken": f"task-{number}"})
                assert found.nb_hits == 2

        async with SearchClient.create_with_config(algolia.search_config()) as client:
            await asyncio.gather(*(in_a_task(number) for number in range(8)))

    with ThreadPoolExecutor(9) as pool:
        running = [pool.submit(in_a_thread, number) for number in range(8)]
        running.append(pool.submit(lambda: asyncio.run(in_tasks())))
        for done in running:
            done.result()
    assert {user: found.searches for user, found in algolia.identities().items()} == {
        f"{kind}-{number}": each for kind in ("thread", "task") for number in range(8)
    }


def run(program: str) -> subprocess.CompletedProcess[str]:
    return run_program(program, code=None, PYTHONWARNINGS="error")


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = run(
        "import sys, algolia_usertoken.testing as testing\n"
        "assert 'LocalAlgolia' in dir(testing)\n"
        "heavy = {'aiohttp', 'algoliasearch', 'httpx', 'respx', 'pydantic', 'requests', 'pytest'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert done.returncode == 0, done.stderr


def test_all_names_of_the_testing_package_are_there() -> None:
    for name in testing.__all__:
        assert getattr(testing, name).__doc__
        assert name in dir(testing)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = testing.Nothing


@pytest.mark.slow
def test_a_program_that_never_stops_local_algolia_ends_quietly() -> None:
    done = run("from algolia_usertoken.testing import LocalAlgolia; LocalAlgolia().start()")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_may_stop_local_algolia_without_harm() -> None:
    done = run("programs/local_algolia_and_a_fork.py")
    assert done.returncode == 0, done.stderr
