from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue as queues
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import delivering
import pytest
import serving
from algoliasearch.insights.config import InsightsConfig
from celery import Celery, signals
from celery.exceptions import WorkerLostError
from waiting import PATIENCE, wait_until

from algolia_usertoken import (
    BatchRejectedError,
    EventSender,
    InsightsDelivery,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
)
from algolia_usertoken.events.delivery import Batch, batch_of
from algolia_usertoken.integrations import celery_delivery
from algolia_usertoken.integrations.celery import CeleryDelivery
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

QUEUE = "algolia-events"


@pytest.fixture(scope="module")
def worker_algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        yield algolia


@pytest.fixture(scope="module", autouse=True)
def _broker(redis_url: str) -> Iterator[None]:
    delivering.app.conf.update(broker_url=redis_url)
    yield
    delivering.app.close()


StartWorker = Callable[..., contextlib.AbstractContextManager[pathlib.Path]]


@pytest.fixture(scope="module")
def worker(redis_url: str, worker_algolia: LocalAlgolia, tmp_path_factory: pytest.TempPathFactory) -> StartWorker:
    """Starts a worker that takes the queue, until the end of a block; which gets the path of its log."""

    @contextlib.contextmanager
    def start(pool: str = "prefork", **env: str) -> Iterator[pathlib.Path]:
        options = ["--pool", pool, "--concurrency", "2"]
        command = [sys.executable, "-m", "celery", "-A", "delivering", "worker", *options, "-Q", QUEUE]
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
        env = {"BROKER": redis_url, "LOCAL_ALGOLIA_PORT": str(worker_algolia.port), **env}
        log = tmp_path_factory.mktemp("worker") / "log"
        with serving.running([*command, *options], None, log, env):
            yield log

    return start


@pytest.fixture(scope="class")
def _worker(worker: StartWorker) -> Iterator[None]:
    with worker():
        yield


@pytest.fixture(autouse=True)
def _clean(worker_algolia: LocalAlgolia) -> Iterator[None]:
    worker_algolia.clear()
    worker_algolia.clear_faults()
    yield
    with delivering.app.connection() as connection:
        for name in (QUEUE, delivering.delivery.dead_letters):
            with connection.SimpleQueue(name) as waiting:
                waiting.clear()


def dead_letters(app: Celery = delivering.app) -> list[dict[str, Any]]:
    """Take out those that are there."""
    found: list[dict[str, Any]] = []
    name = f"{QUEUE}-dead"
    with app.connection() as connection, connection.SimpleQueue(name) as letters, contextlib.suppress(queues.Empty):
        while True:
            message = letters.get(block=False)
            found.append(message.payload)
            message.ack()
    return found


def wait_for_dead_letters(number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    wait_until(lambda: len(found.extend(dead_letters()) or found) >= number)
    return found


def event(name: object) -> dict[str, Any]:
    return {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": [str(name)]}


def texts(names: Any) -> list[bytes]:
    """As the queue of a sender has them; Algolia refuses "bad"."""
    events = [{**event(name), "userToken": "u", **({"eventName": ""} if name == "bad" else {})} for name in names]
    return [json.dumps(one).encode() for one in events]


def hand_over(names: Any) -> None:
    delivering.delivery.deliver(batch_of(texts(names)), 30.0)


def children_of_workers() -> set[int]:
    """The processes that processes of this one's have started."""
    found = set()
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parent = pathlib.Path(f"/proc/{fields[1]}/stat").read_text().rpartition(")")[2].split()
            if int(parent[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def is_connected(pid: int, port: int) -> bool:
    """Whether a process has a connection to this port."""
    sockets = {
        line.split()[9]
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01"
    }
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(descriptor))
    return any(f"socket:[{inode}]" in found for inode in sockets)


def arrived(algolia: LocalAlgolia) -> Counter[str]:
    return Counter(event.event["objectIDs"][0] for event in algolia.events)


@pytest.mark.usefixtures("_worker")
class TestWorker:
    def test_delivers_each_event_once_under_the_user_of_its_time(self, worker_algolia: LocalAlgolia) -> None:
        with EventSender(delivery=delivering.delivery, batch_size=100, close_timeout=PATIENCE) as sender:
            for number in range(1000):
                assert sender.send(event(number), identity=f"u-{number % 7}")
        assert sender.stats.delivered == 1000

        wait_until(lambda: len(worker_algolia.events) >= 1000)

        assert arrived(worker_algolia) == {str(number): 1 for number in range(1000)}
        for received in worker_algolia.events:
            assert received.user_token == f"u-{int(received.event['objectIDs'][0]) % 7}"

    def test_tries_again_where_algolia_is_busy(self, worker_algolia: LocalAlgolia) -> None:
        worker_algolia.fail_next(503, path="/1/events", times=1)
        worker_algolia.fail_next(429, path="/1/events", times=1, headers={"Retry-After": "1"})
        with EventSender(delivery=delivering.delivery, user_token="u", close_timeout=PATIENCE) as sender:
            sender.send(event(1))

        wait_until(lambda: len(worker_algolia.events) >= 1)

        assert arrived(worker_algolia) == {"1": 1}
        assert len(worker_algolia.requests) == 3

    def test_takes_what_is_refused_out_of_a_batch_and_puts_it_among_the_dead_letters(
        self, worker_algolia: LocalAlgolia
    ) -> None:
        hand_over([*range(5), "bad", *range(5, 8)])  # the sender's door would not let it in
        [letter] = wait_for_dead_letters(1)

        wait_until(lambda: len(worker_algolia.events) >= 8)
        assert arrived(worker_algolia) == {str(number): 1 for number in range(8)}
        assert [event["objectIDs"] for event in letter["events"]] == [["bad"]]
        assert letter["reason"].startswith("rejected: 422: ")

    @pytest.mark.parametrize("status", [302, 404, 405, 410, 500])
    def test_tries_again_where_a_gateway_answers_for_a_moment(self, worker_algolia: LocalAlgolia, status: int) -> None:
        worker_algolia.fail_next(status, path="/1/events", times=2, body=None)
        hand_over(range(10))

        wait_until(lambda: len(worker_algolia.events) >= 10)
        assert arrived(worker_algolia) == {str(number): 1 for number in range(10)}
        assert not dead_letters()

    def test_gives_up_what_was_tried_for_a_day(self, worker_algolia: LocalAlgolia) -> None:
        worker_algolia.fail_next(503, path="/1/events", body={"message": "for a day"})
        delivering.delivery._send(batch_of(texts(range(3))).body.decode(), 1_500, 86_399.99)

        [letter] = wait_for_dead_letters(1)
        assert [event["objectIDs"] for event in letter["events"]] == [["0"], ["1"], ["2"]]
        assert "503: for a day" in letter["reason"]
        assert letter["age_s"] >= 86_399

    def test_loses_no_event_when_a_process_of_its_pool_is_killed(self, worker_algolia: LocalAlgolia) -> None:
        worker_algolia.hang_next(path="/1/events")
        hand_over(range(10))
        wait_until(lambda: worker_algolia.requests)
        for child in children_of_workers():
            if is_connected(child, worker_algolia.port):  # the one that waits, and maybe the other, which has waited
                os.kill(child, signal.SIGKILL)

        wait_until(lambda: len(worker_algolia.events) >= 10)
        assert arrived(worker_algolia) == {str(number): 1 for number in range(10)}

    def test_keeps_a_message_that_it_does_not_understand(self) -> None:
        # As one that a later release, with another argument, has sent.
        body = batch_of(texts([1])).body.decode()
        delivering.delivery._publish((body,), {"later": 1, "age_s": 86_399.99})

        [letter] = wait_for_dead_letters(1)
        assert letter["reason"] == "failed: the worker failed with TypeError"
        assert letter["events"] == json.loads(body)["events"]

    def test_sends_rubbish_to_the_dead_letters(self) -> None:
        delivering.delivery._publish(("rubbish",), {})
        [letter] = wait_for_dead_letters(1)
        assert letter["events"] == ["rubbish"]


def test_a_worker_without_a_key_says_so_and_keeps_every_event(
    worker_algolia: LocalAlgolia, worker: StartWorker
) -> None:
    # A prefork pool that is stopped while messages come and go may take minutes to end.
    with worker("solo", WITHOUT_CONFIG="1", ALGOLIA_APP_ID="", ALGOLIA_API_KEY="") as log:
        wait_until(lambda: "but its events will wait: the environment has no ALGOLIA_APP_ID" in log.read_text())
        with EventSender(delivery=delivering.delivery, user_token="u", close_timeout=PATIENCE) as sender:
            for number in range(5_000):
                assert sender.send(event(number))
        wait_until(lambda: "events are not delivered, and wait: the environment has no" in log.read_text())
        time.sleep(1)
    assert not worker_algolia.events

    with worker():
        wait_until(lambda: len(worker_algolia.events) >= 5_000)
    assert arrived(worker_algolia) == {str(number): 1 for number in range(5_000)}
    assert not dead_letters()


def test_an_application_s_time_limits_are_not_those_of_a_run(worker_algolia: LocalAlgolia, worker: StartWorker) -> None:
    worker_algolia.delay_next(4.0, path="/1/events")
    with worker(LIMITS="1"):
        hand_over(range(10))
        wait_until(lambda: worker_algolia.events)
    assert arrived(worker_algolia) == {str(number): 1 for number in range(10)}


@pytest.mark.parametrize(
    "limits",
    [{"time_limit": 2, "soft_time_limit": None}, {"time_limit": 20, "soft_time_limit": 1}],
    ids=["hard", "soft"],
)
def test_a_time_limit_that_is_shorter_than_a_request_loses_no_event(
    worker_algolia: LocalAlgolia, worker: StartWorker, limits: dict[str, Any]
) -> None:
    worker_algolia.delay_next(6.0, path="/1/events")  # it is taken, and the answer comes too late
    with worker():
        delivering.delivery._publish((batch_of(texts(range(10))).body.decode(),), {}, **limits)
        wait_until(lambda: len(worker_algolia.events) >= 20)
    assert arrived(worker_algolia) == {str(number): 2 for number in range(10)}
    assert not dead_letters()


def test_children_of_a_prefork_pool_deliver_before_they_end(
    redis_url: str, worker_algolia: LocalAlgolia, tmp_path_factory: pytest.TempPathFactory
) -> None:
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
        delivery.deliver(Batch([event(1)], b"{}"), 30.0)
    assert caught.value.__context__ is None  # whose text may have the password of the broker
    app.close()


# A run of the task, in this process.


@pytest.fixture
def run(algolia: LocalAlgolia) -> Iterator[tuple[CeleryDelivery, list[dict[str, Any]]]]:
    """A delivery that leads to `algolia`, and the messages that its runs send."""
    app = Celery("run", broker="memory://", set_as_current=False)
    sent: list[dict[str, Any]] = []

    def note(headers: dict[str, Any], body: tuple[Any, ...], **_: Any) -> None:
        sent.append({"body": body[0][0], **body[1], "eta": headers["eta"]})

    signals.before_task_publish.connect(note)
    yield CeleryDelivery(app, config=algolia.insights_config()), sent
    signals.before_task_publish.disconnect(note)
    with app.connection() as connection, connection.SimpleQueue(QUEUE) as waiting:
        waiting.clear()  # of all applications of this process
    app.close()


Run = tuple[CeleryDelivery, list[dict[str, Any]]]


def test_what_is_tried_again_says_how_often_and_for_how_long_it_was_tried(run: Run, algolia: LocalAlgolia) -> None:
    delivery, sent = run
    body = batch_of(texts(range(3))).body.decode()
    algolia.fail_next(503, path="/1/events", times=None)

    delivery._task(body)
    for number in range(1, 20):
        last = sent[-1]
        delivery._task(last["body"], attempts=last["attempts"], age_s=last["age_s"])
        assert sent[-1]["attempts"] == number + 1
        assert 0.1 <= sent[-1]["age_s"] - last["age_s"] <= 61

    assert len(sent) == len(algolia.requests) == 20
    assert all(message["eta"] for message in sent)
    assert json.loads(sent[-1]["body"]) == json.loads(body)


def test_what_was_refused_is_taken_apart_in_one_run(run: Run, algolia: LocalAlgolia) -> None:
    delivery, sent = run
    delivery._task(batch_of(texts([0, "bad", 1, "bad", 2])).body.decode())

    assert arrived(algolia) == {"0": 1, "1": 1, "2": 1}
    assert not sent
    [letter] = dead_letters(delivery._app)
    assert len(letter["events"]) == 2


def test_what_is_left_of_a_batch_that_is_taken_apart_goes_back(run: Run, algolia: LocalAlgolia) -> None:
    delivery, sent = run
    algolia.fail_next(422, path="/1/events", body={"message": "something is bad"})
    algolia.fail_next(503, path="/1/events", times=None)
    delivery._task(batch_of(texts(range(100))).body.decode())
    algolia.clear_faults()
    while sent:
        message = sent.pop()
        delivery._task(message["body"], message.get("attempts", 0), message.get("age_s", 0.0))

    assert arrived(algolia) == {str(number): 1 for number in range(100)}
    assert not dead_letters(delivery._app)


def test_a_run_takes_no_more_than_a_minute(run: Run, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery, sent = run
    monkeypatch.setattr(celery_delivery, "LONGEST_RUN_S", 0.0)
    body = batch_of(texts(range(3))).body.decode()
    delivery._task(body)
    assert not algolia.requests
    [message] = sent
    assert json.loads(message["body"]) == json.loads(body)
    assert "attempts" not in message


def test_a_fault_of_a_delivery_is_no_end_of_its_events(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    delivery, _ = run

    def fail(*_: Any) -> None:
        raise ValueError("jane@example.com")

    monkeypatch.setattr(InsightsDelivery, "deliver", fail)
    delivery._task(batch_of(texts(range(3))).body.decode())
    [letter] = dead_letters(delivery._app)
    assert len(letter["events"]) == 3
    assert letter["reason"].startswith("failed: ValueError in test_celery_delivery.py, line ")
    assert "jane@example.com" not in caplog.text + str(letter["reason"])


def test_where_a_batch_cannot_go_back_the_run_fails(
    run: Run, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, sent = run
    algolia.fail_next(503, path="/1/events")
    monkeypatch.setattr(Celery, "send_task", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # so Celery asks DeliverRequest what to do
        delivery._task(batch_of(texts([1])).body.decode())
    assert not sent


class TestRequest:
    """What becomes of a message that its run did not bring to an end."""

    @pytest.fixture
    def request_of(self, run: Run) -> Callable[..., tuple[Any, list[str]]]:
        from algolia_usertoken.integrations.celery_request import DeliverRequest

        delivery, sent = run
        app = delivery._app

        def make(*args: Any, **kwargs: Any) -> tuple[Any, list[str]]:
            done: list[str] = []
            delivery._publish(args, kwargs)
            sent.clear()
            with app.connection() as connection, connection.SimpleQueue(QUEUE) as waiting:
                message = waiting.get()
                message.ack()
            request = DeliverRequest(
                message,
                app=app,
                task=delivery._task,
                hostname="here",
                on_ack=lambda *_: done.append("acknowledged"),
                on_reject=lambda logger, errors, requeue: done.append(f"rejected, requeue={requeue}"),
            )
            return request, done

        return make

    def test_that_is_rejected_goes_back_with_one_attempt_more(self, run: Run, request_of: Any) -> None:
        _, sent = run
        request, done = request_of("body", attempts=3, age_s=7.0, later=1)
        request.reject(requeue=False)
        request.reject(requeue=True)
        assert done == ["acknowledged"]
        [message] = sent
        assert (message["body"], message["attempts"], message["later"]) == ("body", 4, 1)
        assert 7.1 <= message["age_s"] <= 7.0 + 60
        assert message["eta"]

    def test_is_requeued_where_the_broker_takes_no_other(
        self, request_of: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request, done = request_of("body")
        monkeypatch.setattr(Celery, "send_task", lambda *_, **__: 1 / 0)
        request.reject(requeue=False)
        assert done == ["rejected, requeue=True"]

    def test_is_given_up_after_a_day_with_the_reason(self, run: Run, request_of: Any) -> None:
        from billiard.einfo import ExceptionInfo

        request, done = request_of(batch_of(texts([1])).body.decode(), age_s=86_400.0)
        try:
            raise WorkerLostError("killed")
        except WorkerLostError:
            info = ExceptionInfo()
        request.on_failure(info)
        assert done == ["acknowledged"]
        [letter] = dead_letters(run[0]._app)
        assert letter["reason"] == "failed: the worker failed with WorkerLostError"


# Where tasks run eagerly.


def test_an_eager_delivery_delivers_at_once(algolia: LocalAlgolia) -> None:
    app = Celery("eager", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    algolia.fail_next(503, path="/1/events")
    with EventSender(delivery=CeleryDelivery(app, config=algolia.insights_config()), user_token="u") as sender:
        for number in range(10):
            assert sender.send(event(number))
        assert sender.flush(PATIENCE)
    assert sender.stats.delivered == 10
    assert arrived(algolia) == {str(number): 1 for number in range(10)}
    app.close()


def test_an_eager_delivery_tells_the_sender_what_is_wrong(
    algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Celery("eager", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    with pytest.raises(BatchRejectedError):
        CeleryDelivery(app, config=algolia.insights_config()).deliver(batch_of(texts(["bad"])), 30.0)
    monkeypatch.delenv("ALGOLIA_APP_ID", raising=False)
    with pytest.raises(UnauthorizedDeliveryError, match="has no ALGOLIA_APP_ID"):
        CeleryDelivery(app, "other").deliver(batch_of(texts([1])), 30.0)
    app.close()


def test_a_delivery_without_an_application_is_refused() -> None:
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
