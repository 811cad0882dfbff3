from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import delivering
import pytest
import serving
from algoliasearch.insights.config import InsightsConfig
from celery import Celery
from waiting import wait_until

from algolia_usertoken import EventSender, InsightsDelivery, RetryableDeliveryError
from algolia_usertoken.events.delivery import Batch
from algolia_usertoken.integrations.celery import CeleryDelivery
from algolia_usertoken.testing import LocalAlgolia


@pytest.fixture(scope="module")
def worker_algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        yield algolia


@pytest.fixture(scope="module")
def _worker(redis_url: str, worker_algolia: LocalAlgolia, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    delivering.app.conf.update(broker_url=redis_url)
    command = [sys.executable, "-m", "celery", "-A", "delivering", "worker", "--pool", "prefork", "--concurrency", "2"]
    options = ["-Q", "algolia-events", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    env = {"BROKER": redis_url, "LOCAL_ALGOLIA_PORT": str(worker_algolia.port)}
    log = tmp_path_factory.mktemp("worker") / "log"
    with serving.running([*command, *options, "--loglevel", "WARNING"], None, log, env):
        yield
    delivering.app.close()


def event(name: int) -> dict[str, Any]:
    return {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": [str(name)]}


def arrived(algolia: LocalAlgolia) -> Counter[str]:
    return Counter(event.event["objectIDs"][0] for event in algolia.events)


@pytest.mark.usefixtures("_worker")
class TestWorker:
    def test_delivers_each_event_once_under_the_user_of_its_time(self, worker_algolia: LocalAlgolia) -> None:
        worker_algolia.clear()
        with EventSender(delivery=delivering.delivery, batch_size=100) as sender:
            for number in range(1000):
                assert sender.send(event(number), identity=f"u-{number % 7}")
        assert sender.stats.delivered == 1000

        wait_until(lambda: len(worker_algolia.events) >= 1000)

        assert arrived(worker_algolia) == {str(number): 1 for number in range(1000)}
        for received in worker_algolia.events:
            assert received.user_token == f"u-{int(received.event['objectIDs'][0]) % 7}"

    def test_tries_again_where_algolia_is_busy(self, worker_algolia: LocalAlgolia) -> None:
        worker_algolia.clear()
        worker_algolia.fail_next(503, path="/1/events", times=1)
        worker_algolia.fail_next(429, path="/1/events", times=1, headers={"Retry-After": "1"})
        with EventSender(delivery=delivering.delivery, user_token="u") as sender:
            sender.send(event(1))

        wait_until(lambda: len(worker_algolia.events) >= 1)

        assert arrived(worker_algolia) == {"1": 1}
        assert len(worker_algolia.requests) == 3

    def test_splits_a_batch_that_is_refused(self, worker_algolia: LocalAlgolia) -> None:
        worker_algolia.clear()
        events = [{**event(number), "userToken": "u"} for number in range(8)]
        events[5]["eventName"] = ""  # refused by Algolia; the sender's door would not let it in
        body = delivering.delivery._body(events)

        delivering.delivery.deliver(Batch(events, body), None)
        wait_until(lambda: len(worker_algolia.events) >= 7)

        assert arrived(worker_algolia) == {str(number): 1 for number in range(8) if number != 5}


def test_children_of_a_prefork_pool_deliver_before_they_end(
    redis_url: str, worker_algolia: LocalAlgolia, tmp_path_factory: pytest.TempPathFactory
) -> None:
    worker_algolia.clear()
    delivering.app.conf.update(broker_url=redis_url)
    command = [sys.executable, "-m", "celery", "-A", "delivering", "worker", "--pool", "prefork", "--concurrency", "2"]
    options = ["-Q", "children", "--max-tasks-per-child", "5", "--without-gossip", "--without-mingle"]
    env = {"BROKER": redis_url, "LOCAL_ALGOLIA_PORT": str(worker_algolia.port)}
    with serving.running([*command, *options], None, tmp_path_factory.mktemp("children") / "log", env):
        for number in range(20):
            delivering.send_from_child.apply_async((number,), queue="children")
        wait_until(lambda: len(worker_algolia.events) >= 10)

    # Ten at least, in whatever way the pool dealt them out; its last children end with the worker.
    assert len(worker_algolia.events) >= 10
    assert set(arrived(worker_algolia).values()) == {1}


def test_a_broker_that_is_away_is_tried_again() -> None:
    app = type(delivering.app)("away", broker="redis://127.0.0.1:1/0", set_as_current=False)
    delivery = CeleryDelivery(app)
    with pytest.raises(RetryableDeliveryError, match=r"^no connection to the broker: Op.* refused$") as caught:
        delivery.deliver(Batch([event(1)], b"{}"), None)
    assert caught.value.__context__ is None  # whose text may have the password of the broker
    app.close()


def test_wants_an_application() -> None:
    with pytest.raises(TypeError, match="app must be a Celery application, not str"):
        CeleryDelivery("shop")  # type: ignore[arg-type]


def test_a_queue_has_one_config() -> None:
    app, other_app = Celery(set_as_current=False), Celery(set_as_current=False)
    eu, us = InsightsConfig("A", "k", "de"), InsightsConfig("A", "k", "us")
    CeleryDelivery(app, config=eu)
    CeleryDelivery(app, config=eu)

    for config in (us, None):
        with pytest.raises(ValueError, match=r"^queue 'algolia-events' has a CeleryDelivery with another config"):
            CeleryDelivery(app, config=config)

    assert CeleryDelivery(app, "us-events", config=us)._task.name == "algolia_usertoken.deliver.us-events"
    CeleryDelivery(other_app, config=us)


def test_without_a_config_the_worker_finds_id_and_key_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALGOLIA_APP_ID", "APP")
    monkeypatch.setenv("ALGOLIA_API_KEY", "key")

    delivery = CeleryDelivery(Celery(set_as_current=False))._to_algolia()

    assert isinstance(delivery, InsightsDelivery)
    assert (delivery._config.app_id, delivery._config.api_key) == ("APP", "key")
