from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import probe_celery
import pytest
import serving
from celery import Celery, chain, chord, group, signals
from program_files import run_program
from waiting import PATIENCE, wait_until

from algolia_usertoken import (
    Identity,
    TokenProvider,
    anonymous_user_token,
    current_identity,
    identity_scope,
    set_user_token,
)
from algolia_usertoken.integrations import celery as integration
from algolia_usertoken.integrations.celery import HEADER, install, uninstall
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
EVERYTHING = Identity(TOKEN, "user-42", "203.0.113.7")
IN_HEADER = {"user_token": TOKEN, "authenticated_user_token": "user-42", "client_ip": "203.0.113.7"}


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application with a broker in memory, that the integration is installed for."""
    app = Celery("in-memory", broker="memory://", backend="cache+memory://", set_as_current=False)
    install(app)
    yield app
    uninstall(app)
    app.close()


@pytest.fixture
def published() -> Iterator[list[dict[str, Any]]]:
    """The headers of the tasks that are sent."""
    sent: list[dict[str, Any]] = []

    def note(headers: dict[str, Any], **_: Any) -> None:
        sent.append(headers)

    signals.after_task_publish.connect(note)
    yield sent
    signals.after_task_publish.disconnect(note)


class TestSending:
    def test_takes_the_identity_along(self, app: Celery, published: list[dict[str, Any]]) -> None:
        with identity_scope(EVERYTHING):
            app.send_task("search")

        assert published[0][HEADER] == IN_HEADER

    @pytest.mark.parametrize(
        ("identity", "header"), [(Identity(), {}), (Identity(opted_out=True), {"opted_out": True})]
    )
    def test_nobody_is_somebody_to_take_along(
        self, identity: Identity, header: dict[str, Any], app: Celery, published: list[dict[str, Any]]
    ) -> None:
        with identity_scope(identity):
            app.send_task("search")

        assert published[0][HEADER] == header

    def test_without_an_identity_takes_none_along(self, app: Celery, published: list[dict[str, Any]]) -> None:
        app.send_task("search")

        assert HEADER not in published[0]

    def test_leaves_a_header_of_the_caller(self, app: Celery, published: list[dict[str, Any]]) -> None:
        with identity_scope(EVERYTHING):
            app.send_task("search", headers={HEADER: {"user_token": "another"}})

        assert published[0][HEADER] == {"user_token": "another"}


class TestInstall:
    def test_twice_connects_the_signals_once(self, app: Celery, published: list[dict[str, Any]]) -> None:
        install(app)
        receivers = len(signals.task_prerun.receivers)
        another = Celery("another", set_as_current=False)
        install(another)
        uninstall(another)

        assert len(signals.task_prerun.receivers) == receivers

    def test_is_undone_by_uninstall(self, app: Celery, published: list[dict[str, Any]]) -> None:
        uninstall(probe_celery.app)
        uninstall(app)
        uninstall(app)
        try:
            with identity_scope(EVERYTHING):
                app.send_task("search")
        finally:
            install(probe_celery.app)

        assert HEADER not in published[0]

    def test_undone_for_one_stays_for_another(self, app: Celery, published: list[dict[str, Any]]) -> None:
        another = Celery("another", set_as_current=False)
        install(another)
        uninstall(another)
        with identity_scope(EVERYTHING):
            app.send_task("search")

        assert HEADER in published[0]

    def test_refuses_what_is_no_celery_application(self) -> None:
        with pytest.raises(TypeError, match="app must be a Celery application, not str"):
            install("shop")


class TestProvider:
    """`install(app, token_provider=…)`: whom its `resolve` knows, and its default."""

    @pytest.fixture
    def app(self) -> Iterator[Celery]:
        app = Celery("resolving", broker="memory://", backend="cache+memory://", set_as_current=False)
        yield app
        uninstall(app)
        app.close()

    @pytest.mark.parametrize(
        ("context", "header"),
        [
            (None, {"user_token": "resolved"}),
            ("context", {"user_token": "context"}),
            (Identity(), {}),
            (Identity(None, "login"), {"user_token": "resolved", "authenticated_user_token": "login"}),
            (Identity(opted_out=True), {"opted_out": True}),
        ],
    )
    def test_decides_when_a_task_is_sent(
        self, app: Celery, published: list[dict[str, Any]], context: Any, header: dict[str, Any]
    ) -> None:
        install(app, token_provider=TokenProvider("default", resolve=lambda: "resolved"))
        with identity_scope(context):
            app.send_task("search")

        assert published[0][HEADER] == header

    def test_default_goes_along_too(self, app: Celery, published: list[dict[str, Any]]) -> None:
        install(app, token_provider=TokenProvider("default"))
        app.send_task("search")

        assert published[0][HEADER] == {"user_token": "default"}

    def test_is_not_asked_where_the_caller_says(self, app: Celery, published: list[dict[str, Any]]) -> None:
        install(app, token_provider=TokenProvider(resolve=lambda: 1 / 0))  # type: ignore[arg-type, return-value]
        app.send_task("search", headers={HEADER: {"user_token": "another"}})

        assert published[0][HEADER] == {"user_token": "another"}

    def test_that_fails_means_nobody_and_its_text_is_not_logged(
        self,
        app: Celery,
        published: list[dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        user = "jane@example.com"

        def resolve() -> Any:
            raise LookupError(f"no user {user}")

        monkeypatch.setattr(integration, "_silent_until", 0.0)
        install(app, token_provider=TokenProvider("default", resolve=resolve))
        for _ in range(3):
            app.send_task("search")

        assert [headers[HEADER] for headers in published] == [{}] * 3
        (record,) = [record for record in caplog.records if record.name == "algolia_usertoken.integrations"]
        assert record.getMessage().startswith("token_provider failed with LookupError; the task that is sent runs")
        assert "jane" not in caplog.text

    def test_is_one_for_the_process(self, app: Celery, published: list[dict[str, Any]]) -> None:
        provider = TokenProvider("default")
        another = Celery("another", set_as_current=False)
        install(app, token_provider=provider)
        install(app)
        install(another)
        install(another, token_provider=provider)
        uninstall(another)
        for each in (app, another):
            with pytest.raises(ValueError, match="token_provider must be the one that this process has already"):
                install(each, token_provider=TokenProvider("other"))
        app.send_task("search")
        uninstall(app)
        install(app, token_provider=TokenProvider("other"))
        app.send_task("search")

        assert [headers[HEADER]["user_token"] for headers in published] == ["default", "other"]

    @pytest.mark.parametrize("provider", ["u-1", TokenProvider, lambda: "u-1"])
    def test_must_be_a_token_provider(self, app: Celery, provider: Any) -> None:
        with pytest.raises(TypeError, match=r"^token_provider must be a TokenProvider, not "):
            install(app, token_provider=provider)

        assert app not in integration._installed


class TestEagerTask:
    def test_runs_as_its_caller(self, app: Celery) -> None:
        app.conf.update(task_always_eager=True, task_eager_propagates=True)
        seen: list[Identity | None] = []

        @app.task
        def note(*_: Any) -> None:
            seen.append(current_identity())

        with identity_scope(EVERYTHING):
            note.delay()
            chain(note.s(), note.s()).delay()
            group(note.s(), note.s()).delay()
            note.apply(headers={HEADER: {"user_token": "another"}})
            assert current_identity() == EVERYTHING

        assert seen == [EVERYTHING] * 6

    def test_what_it_sets_is_gone_after_it(self, app: Celery) -> None:
        app.conf.update(task_always_eager=True, task_eager_propagates=True)

        @app.task
        def become(*_: Any) -> None:
            set_user_token("of-the-task")

        become.delay()
        assert current_identity() is None
        with identity_scope(EVERYTHING):
            become.delay()
            chain(become.s(), become.s()).apply()
            assert current_identity() == EVERYTHING


def test_a_task_may_install_the_integration() -> None:
    done = run_program("programs/celery_task_that_installs.py")

    assert "raised" not in done.stderr  # Celery logs what a receiver of its signals raises


class TestHeader:
    @pytest.mark.parametrize(
        "header", ["a", 7, [], {"user_token": "jane@example.com"}, {"client_ip": "x"}, {"name": "x"}, {"opted_out": 1}]
    )
    def test_that_is_no_identity_means_nobody(self, header: Any, caplog: pytest.LogCaptureFixture) -> None:
        assert integration._as_identity(header) == Identity()
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "jane" not in caplog.text

    @pytest.mark.parametrize("identity", [EVERYTHING, Identity(), Identity(opted_out=True), Identity("u")])
    def test_comes_back_as_it_went(self, identity: Identity) -> None:
        assert integration._as_identity(integration._as_header(identity)) == identity

    def test_may_be_missing(self) -> None:
        assert integration._as_identity(None) is None


@pytest.fixture(scope="module")
def worker_algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1", "name": "Trail shoe"}])
        yield algolia


@pytest.fixture(scope="module")
def _worker(redis_url: str, worker_algolia: LocalAlgolia, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A prefork worker, four processes of it, and Redis."""
    probe_celery.app.conf.update(broker_url=redis_url, result_backend=redis_url)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "probe_celery",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "4",
    ]
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    env = {"BROKER": redis_url, "LOCAL_ALGOLIA_PORT": str(worker_algolia.port)}
    with serving.running([*command, *options], None, tmp_path_factory.mktemp("worker") / "log", env):
        yield
    probe_celery.app.close()


@pytest.mark.slow
@pytest.mark.usefixtures("_worker")
class TestWorker:
    def test_runs_a_thousand_tasks_as_those_they_were_sent_for(self, worker_algolia: LocalAlgolia) -> None:
        expected: dict[str, tuple[Identity, int]] = {}
        identities = [
            Identity(anonymous_user_token(), f"user-{number}" if number % 2 else None, opted_out=number % 10 == 9)
            for number in range(50)
        ]
        tasks = probe_celery
        for number in range(375):
            identity, what = identities[number * 7 % 50], str(number)
            with identity_scope(identity):
                if number % 5 == 0:
                    tasks.search.delay(what)
                    tasks.leave_behind.delay(what)
                    searches = 1
                elif number % 5 == 1:
                    chain(tasks.search.s(what), tasks.search_next.s(what)).delay()
                    searches = 2
                elif number % 5 == 2:
                    group(tasks.search.s(what), tasks.search.s(what)).delay()
                    searches = 2
                elif number % 5 == 3:
                    tasks.search_on_retry.delay(what)  # three runs
                    searches = 1
                else:
                    chord([tasks.search.s(what)], tasks.search_next.s(what)).delay()
                    tasks.send_another.delay(what)
                    tasks.fail.delay(what)
                    searches = 4
            expected[what] = identity, searches
        sent = sum(searches for _, searches in expected.values())
        clicks = sum(searches for identity, searches in expected.values() if not identity.opted_out)

        wait_until(lambda: len(worker_algolia.searches) >= sent and len(worker_algolia.events) >= clicks)

        assert Counter(search.query for search in worker_algolia.searches) == {
            what: searches for what, (_, searches) in expected.items()
        }
        for search in worker_algolia.searches:
            identity, _ = expected[search.query]
            assert search.user_token == (None if identity.opted_out else identity.user_token)
        assert len(worker_algolia.events) == clicks
        for event in worker_algolia.events:
            identity, _ = expected[event.event["objectIDs"][0]]
            assert event.user_token == identity.user_token
            assert event.authenticated_user_token == identity.authenticated_user_token
        assert worker_algolia.mismatches() == []

    def test_runs_tasks_as_those_whom_a_provider_knows_when_they_are_sent(self) -> None:
        visitors = iter([f"u-{number}" for number in range(8)])
        uninstall(probe_celery.app)
        install(probe_celery.app, token_provider=TokenProvider("default", resolve=lambda: next(visitors, None)))
        try:
            results = [probe_celery.seen.delay() for _ in range(9)]
        finally:
            uninstall(probe_celery.app)
            install(probe_celery.app)

        seen = [result.get(timeout=PATIENCE)["user_token"] for result in results]
        assert seen == [*(f"u-{number}" for number in range(8)), "default"]

    def test_leaves_nothing_for_the_next_task(self) -> None:
        with identity_scope(EVERYTHING):
            left = [probe_celery.leave_behind.delay("x") for _ in range(8)]
        sent_by_nobody = [probe_celery.seen.delay() for _ in range(8)]
        with identity_scope(Identity()):
            sent_for_nobody = probe_celery.seen.delay()

        assert {result.get(timeout=PATIENCE)["user_token"] for result in left} == {"left-behind"}
        assert [result.get(timeout=PATIENCE) for result in sent_by_nobody] == [{"identity": None}] * 8
        assert sent_for_nobody.get(timeout=PATIENCE)["user_token"] is None
        assert current_identity() is None
