"""The pytest plugin, as other projects load it: each test here runs tests of a project of its own."""

from __future__ import annotations

import json

import pytest
from waiting import PATIENCE

pytestmark = pytest.mark.slow

PRELUDE = """\
import pytest
from algolia_usertoken import *
from algolia_usertoken.testing import assert_anonymous, assert_same_identity

client = TokenAwareClientSync("APP", "key")

def search(**params):
    return client.search_single_index("products", params)

"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(
        """
        [pytest]
        addopts = --strict-markers -p no:cacheprovider
        asyncio_default_fixture_loop_scope = function
        filterwarnings =
            error
            ignore::pytest.PytestConfigWarning
        """
    )
    return pytester


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin waits for queued events as long as a busy machine needs, instead of for two seconds."""
    monkeypatch.setattr("algolia_usertoken.testing.seen._PATIENCE", PATIENCE)


def run(project: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(PRELUDE + tests)
    return project.runpytest_inprocess(*arguments)


def run_apart(project: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(PRELUDE + tests)
    return project.runpytest_subprocess(*arguments)


def test_a_mock_without_any_set_up(project: pytest.Pytester) -> None:
    run(
        project,
        """
def test_one(algolia_mock):
    with identity_scope("u-1"):
        found = search(query="shoe", clickAnalytics=True)
        client.events.clicked_object_ids_after_search("Clicked", "products", ["1"], [1], found.query_id)
    assert client.events.flush(120)
    assert found.hits == []
    assert_same_identity(algolia_mock, token="u-1")

def test_each_test_has_its_own(algolia_mock):
    assert algolia_mock.calls.call_count == 0
    with pytest.raises(Exception, match="objectIDs"):
        client.insights.push_events({"events": [{"eventType": "view", "eventName": "V", "index": "i"}]})
""",
    ).assert_outcomes(passed=2)


def test_algolia_mock_answers_from_its_records(project: pytest.Pytester) -> None:
    run(
        project,
        """
import respx
pytestmark = pytest.mark.algolia(records={"products": [{"objectID": "1", "name": "Shoe"}]})

def test_records(algolia_mock):
    assert [hit.object_id for hit in search(query="shoe").hits] == ["1"]
    with pytest.raises(Exception, match="Index others does not exist"):
        client.search_single_index("others", {})

def test_what_is_written_is_there_afterwards(algolia_mock):
    client.wait_for_task("products", client.save_object("products", {"objectID": "2", "name": "Shoelace"}).task_id)
    assert search(query="shoe").nb_hits == 2

def test_routes_come_first(algolia_mock):
    algolia_mock.post(path="/1/indexes/products/query").respond(403, json={"message": "no", "status": 403})
    with pytest.raises(Exception, match="no"):
        search()

async def test_async(algolia_mock):
    async with TokenAwareClient("APP", "key", user_token="u-1") as client:
        assert (await client.search_single_index("products")).nb_hits == 1
    assert_same_identity(algolia_mock, token="u-1")

def test_a_request_in_gzip(algolia_mock):
    from algoliasearch.search.config import SearchConfig
    config = SearchConfig("APP", "key")
    config.compression_type, config.compression_threshold = "gzip", 1
    assert TokenAwareClientSync.create_with_config(config).search_single_index("products", {"query": "x"}).nb_hits == 0

@pytest.mark.algolia(assert_all_mocked=True)
async def test_only_routes(algolia_mock):
    with pytest.raises(respx.models.AllMockedAssertionError):
        search()
    async with TokenAwareClient("APP", "key") as client:
        with pytest.raises(respx.models.AllMockedAssertionError):
            await client.search_single_index("products")

@pytest.mark.algolia(assert_all_called=False)
def test_a_route_that_is_not_called(algolia_mock):
    algolia_mock.get(path="/never")
""",
        "-o",
        "asyncio_mode=auto",
    ).assert_outcomes(passed=7)


def test_a_route_that_is_not_called_is_an_error(project: pytest.Pytester) -> None:
    result = run(project, "def test_one(algolia_mock): algolia_mock.get(path='/never')\n")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*some routes were not called!*"])


def test_each_test_has_a_local_algolia_of_its_own(project: pytest.Pytester) -> None:
    run(
        project,
        """
@pytest.mark.algolia(records={"products": [{"objectID": "1", "name": "Shoe"}]})
@pytest.mark.user_token("u-1")
def test_one(local_algolia):
    with TokenAwareClientSync.create_with_config(local_algolia.search_config()) as client:
        assert client.search_single_index("products").nb_hits == 1
    assert_same_identity(local_algolia, token="u-1")

def test_each_test_has_its_own(local_algolia):
    assert local_algolia.requests == []
""",
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("marker", "problem"),
    [
        ("algolia(recrods={})", "@pytest.mark.algolia: got an unexpected keyword argument 'recrods'*"),
        ("algolia({})", "@pytest.mark.algolia: takes keywords only"),
        ("algolia(records=[])", "@pytest.mark.algolia: records must be a dict of lists of objects, by index, not list"),
        ("algolia(records={'i': 7})", "@pytest.mark.algolia: records[[]'i'] must be a list of objects, not int"),
        (
            "algolia(records={'i': {'objectID': '1'}})",
            "@pytest.mark.algolia: records[[]'i'] must be a list of *, not dict",
        ),
        (
            "algolia(records={'i': iter([])})",
            "@pytest.mark.algolia: records[[]'i'] must be a list of *, not list_iterator",
        ),
        ("algolia(assert_all_called=1)", "@pytest.mark.algolia: assert_all_called must be a bool, not int"),
        ("algolia(assert_all_mocked=None)", "@pytest.mark.algolia: assert_all_mocked must be a bool, not NoneType"),
        ("user_token('u 1')", "@pytest.mark.user_token: user_token (3 characters) has ' ' at position 2: *"),
        ("user_token()", "@pytest.mark.user_token: names no user"),
        ("user_token(user='u-1')", "@pytest.mark.user_token: got an unexpected keyword argument 'user'*"),
        ("user_token(7)", "@pytest.mark.user_token: user_token *"),
    ],
)
def test_a_wrong_marker_is_an_error_of_its_test(project: pytest.Pytester, marker: str, problem: str) -> None:
    result = run(project, f"@pytest.mark.{marker}\ndef test_one(): pass\n\ndef test_two(): pass\n")

    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([problem, "Usage: *"])


def test_records_of_the_marker_that_are_no_records_are_an_error(project: pytest.Pytester) -> None:
    result = run(project, "@pytest.mark.algolia(records={'i': [7]})\ndef test_one(algolia_mock): pass\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E * ValueError: records: *"])


def test_the_closest_marker_wins_option_by_option(project: pytest.Pytester) -> None:
    run(
        project,
        """
pytestmark = [pytest.mark.algolia(records={"products": [{"objectID": "1"}]}), pytest.mark.user_token("module")]

@pytest.mark.algolia(assert_all_called=False)
class TestThese:
    @pytest.mark.user_token("test")
    def test_one(self, algolia_mock):
        algolia_mock.get(path="/never")
        assert search().nb_hits == 1
        assert current_identity() == Identity("test")

    def test_two(self):
        assert current_identity() == Identity("module")
""",
    ).assert_outcomes(passed=2)


def test_whom_a_test_runs_as(project: pytest.Pytester) -> None:
    run(
        project,
        """
import sys
import unittest

@pytest.fixture
def who():
    return current_identity()

@pytest.mark.user_token("u-1")
def test_test_and_fixture(who):
    assert current_identity() == who == Identity("u-1")

@pytest.mark.user_token(Identity("u-1", "login-1"))
def test_an_identity(who):
    assert who == Identity("u-1", "login-1")

@pytest.mark.user_token("u-1", authenticated_user_token="login-1")
def test_keywords(who):
    assert who == Identity("u-1", "login-1")

@pytest.mark.user_token(opted_out=True)
def test_one_who_opted_out(who):
    assert who == Identity(opted_out=True)

@pytest.mark.parametrize("user", [pytest.param("a", marks=pytest.mark.user_token("a")), "b"])
def test_by_parameter(user, who):
    assert who == (Identity("a") if user == "a" else None)

def test_nobody(who):
    assert who is None

class TestCase(unittest.TestCase):
    @pytest.mark.user_token("u-1")
    def test_one(self):
        assert current_identity() == Identity("u-1")

# What setUp and asyncSetUp set, the other kind of method does not see there, with or without us.
TWO_CONTEXTS = sys.version_info < (3, 11)

@pytest.mark.user_token("u-1")
class TestAsyncCase(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        assert current_identity() == Identity("u-1")

    async def asyncSetUp(self):
        assert current_identity() == Identity("u-1")
        set_user_token("of-async-set-up")

    async def test_one(self):
        assert current_identity() == Identity("of-async-set-up")

    def test_two(self):
        assert current_identity() == Identity("u-1" if TWO_CONTEXTS else "of-async-set-up")

    async def asyncTearDown(self):
        assert current_identity() == Identity("of-async-set-up")

    def tearDown(self):
        assert current_identity() == Identity("u-1" if TWO_CONTEXTS else "of-async-set-up")

class TestAsyncCaseOfNobody(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        assert current_identity() is None
        scope = identity_scope("of-set-up")
        scope.__enter__()
        self.addCleanup(scope.__exit__)

    async def test_three(self):
        assert current_identity() == (None if TWO_CONTEXTS else Identity("of-set-up"))

    def test_four(self):
        assert current_identity() == Identity("of-set-up")
""",
    ).assert_outcomes(passed=12)


ASYNC = """
@pytest.mark.user_token("u-1")
@MARK
async def test_one():
    assert current_identity() == Identity("u-1")
    set_user_token("leaked")

@MARK
async def test_two():
    assert current_identity() is None

@pytest.mark.user_token("u-2")
@MARK
async def test_three():
    assert current_identity() == Identity("u-2")
"""


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [
        ("pytest.mark.asyncio", ["-p", "no:anyio", "-o", "asyncio_mode=strict"]),
        ("pytest.mark.asyncio", ["-p", "no:anyio", "-o", "asyncio_mode=auto"]),
        ("pytest.mark.asyncio(loop_scope='session')", ["-p", "no:anyio"]),
        ("pytest.mark.anyio", ["-p", "no:asyncio"]),
    ],
)
def test_async_tests_run_as_the_user_too(project: pytest.Pytester, mark: str, arguments: list[str]) -> None:
    anyio = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"

    result = run(project, ASYNC.replace("MARK", mark) + anyio, *arguments)

    result.assert_outcomes(passed=3)


def test_an_async_property_runs_as_the_user_too(project: pytest.Pytester) -> None:
    run(
        project,
        """
from hypothesis import given, settings, strategies

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="module")
async def web():
    yield

@pytest.mark.user_token("u-1")
async def test_one(web):
    pass

@pytest.mark.parametrize("again", [1, 2])
@settings(max_examples=2, database=None)
@given(number=strategies.integers())
async def test_two(web, number, again):
    assert current_identity() is None

@pytest.mark.user_token("u-3")
@settings(max_examples=2, database=None)
@given(number=strategies.integers())
async def test_three(web, number):
    assert current_identity() == Identity("u-3")
""",
        "-p",
        "no:asyncio",
    ).assert_outcomes(passed=4)


# A loop, and its context, that lives as long as a wider fixture: what FastAPI's users do to have one client for all.
ONE_LOOP = """
@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

LOOP
async def web(anyio_backend):
    yield

FIXTURE
async def who(web):
    yield current_identity()

class TestClass:
    FIXTURE
    async def own(self, web):
        self.seen = current_identity()
        return self

    @pytest.mark.user_token("u-0")
    @MARK
    async def test_one(self, web, who, own):
        assert own is self
        assert current_identity() == who == self.seen == Identity("u-0")
        set_user_token("leaked")

    @MARK
    async def test_two(self, web, who, own):
        assert current_identity() is who is self.seen is None
        set_user_token("leaked")

@MARK
async def test_three(web):
    assert current_identity() is None

FIXTURE
async def somebody(web):
    set_user_token("fixture")

@MARK
async def test_four(web, somebody, who):
    assert current_identity() == who == Identity("fixture")

@pytest.mark.user_token("u-1")
@MARK
async def test_five(who):
    assert current_identity() == who == Identity("u-1")

@pytest.fixture
def sync_somebody():
    set_user_token("sync-fixture")

@MARK
async def test_six(sync_somebody, who):
    assert current_identity() == who == Identity("sync-fixture")
"""


@pytest.mark.parametrize(
    ("mark", "fixture", "loop", "arguments"),
    [
        ("pytest.mark.anyio", "pytest.fixture", "pytest.fixture(scope='module')", ["-p", "no:asyncio"]),
        (
            "pytest.mark.asyncio(loop_scope='module')",
            "pytest_asyncio.fixture(loop_scope='module')",
            "pytest_asyncio.fixture(scope='module', loop_scope='module')",
            ["-p", "no:anyio"],
        ),
    ],
)
def test_a_loop_of_several_tests_leaks_no_identity(
    project: pytest.Pytester, mark: str, fixture: str, loop: str, arguments: list[str]
) -> None:
    text = ONE_LOOP.replace("MARK", mark).replace("FIXTURE", f"@{fixture}").replace("LOOP", f"@{loop}")
    if "asyncio" in mark:
        text = "import pytest_asyncio\n" + text

    run(project, text, *arguments).assert_outcomes(passed=6)


def test_identity_does_not_leak_from_test_to_test(project: pytest.Pytester) -> None:
    run(
        project,
        """
@pytest.fixture
def somebody():
    set_user_token("fixture")

def test_one(somebody):
    assert current_identity() == Identity("fixture")
    set_authenticated_user_token("login")
    identity_scope("u-1").__enter__()

def test_two():
    assert current_identity() is None
    set_user_token("test")

def test_three():
    assert current_identity() is None
    1 / 0

def test_four():
    assert current_identity() is None
""",
    ).assert_outcomes(passed=3, failed=1)


def test_an_identity_set_before_the_tests_is_there_in_each(project: pytest.Pytester) -> None:
    project.makeconftest("from algolia_usertoken import set_user_token\nset_user_token('everybody')\n")

    run(
        project,
        """
def test_one():
    assert current_identity() == Identity("everybody")
    set_user_token("other")

def test_two():
    assert current_identity() == Identity("everybody")
""",
    ).assert_outcomes(passed=2)


@pytest.mark.usefixtures("_patient")
def test_queued_events_leave_before_the_mock_ends(project: pytest.Pytester) -> None:
    run(
        project,
        """
def test_one(algolia_mock):
    client.events.viewed_object_ids("Viewed", "products", ["1"], identity="u-1")

def test_two(algolia_mock):
    assert client.events.stats.delivered == 1
    search()
    assert algolia_mock.calls.call_count == 1

def test_the_assertions_wait_for_them(algolia_mock):
    client.events.viewed_object_ids("Viewed", "products", ["1"], identity="u-2")
    assert_same_identity(algolia_mock, token="u-2")
""",
    ).assert_outcomes(passed=3)


def test_what_cannot_be_delivered_is_given_up_when_the_mock_ends(project: pytest.Pytester) -> None:
    run(
        project,
        """
import time

@pytest.mark.parametrize("fault", [{"status_code": 503}, {"status_code": 429, "headers": {"Retry-After": "60"}}, {}])
def test_one(fault, algolia_mock):
    route = algolia_mock.post(path="/1/events")
    if fault:
        route.respond(**fault)
    else:
        route.mock(side_effect=OSError)
    assert client.events.viewed_object_ids("Viewed", "products", ["1"], identity="u-1")
    for _ in range(12_000):
        if route.called:
            break
        time.sleep(0.01)

def test_two(monkeypatch, algolia_mock):
    monkeypatch.setattr("algolia_usertoken.testing.seen._PATIENCE", 120.0)
    assert (client.events.stats.queued, client.events.stats.failed) == (0, 3)
    client.events.viewed_object_ids("Viewed", "products", ["1"], identity="u-2")
    assert_same_identity(algolia_mock, token="u-2")
    assert client.events.stats.delivered == 1
""",
    ).assert_outcomes(passed=4)


def test_events_end_with_local_algolia_too(project: pytest.Pytester) -> None:
    run(
        project,
        """
kept = []

def client_of(local_algolia):
    kept.append(TokenAwareClientSync.create_with_config(
        local_algolia.search_config(), insights_config=local_algolia.insights_config(), user_token="u-1"
    ))
    return kept[-1]

def test_one(monkeypatch, local_algolia):
    monkeypatch.setattr("algolia_usertoken.testing.seen._PATIENCE", 120.0)
    client_of(local_algolia).events.viewed_object_ids("Viewed", "products", ["1"])

def test_two(local_algolia):
    local_algolia.fail_next(503, path="/1/events", times=None)
    client_of(local_algolia).events.viewed_object_ids("Viewed", "products", ["1"])

def test_three():
    delivered, given_up = (client.events.stats for client in kept)
    assert (delivered.queued, delivered.delivered) == (0, 1)
    assert (given_up.queued, given_up.failed) == (0, 1)
""",
    ).assert_outcomes(passed=3)


def test_respx_knows_algolia_by_name(project: pytest.Pytester) -> None:
    run(
        project,
        """
import respx

@respx.mock(using="algolia")
def test_one(respx_mock):
    respx_mock.post(path="/1/indexes/products/query").respond(403, json={"message": "mocked", "status": 403})
    with pytest.raises(Exception, match="mocked"):
        search()
""",
    ).assert_outcomes(passed=1)


def test_failures_show_the_test_and_not_the_insides(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
@pytest.mark.user_token("u-1")
def test_same(algolia_mock):
    search()
    assert_same_identity(algolia_mock, token="u-2")

@pytest.mark.user_token("u-1")
def test_anonymous(algolia_mock):
    search()
    assert_anonymous(algolia_mock)
""",
    )

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: the user is not u-2:",
            "E *   u-1   POST  /1/indexes/products/query   (header)",
            "E * AssertionError: requests name a user, and should name nobody:",
        ]
    )
    result.stdout.no_fnmatch_line("*assertions.py*")


def test_the_fixtures_work_under_xdist(project: pytest.Pytester) -> None:
    run_apart(
        project,
        """
@pytest.mark.parametrize("number", range(8))
@pytest.mark.user_token("u-1")
def test_one(algolia_mock, local_algolia, number):
    search()
    assert_same_identity(algolia_mock, token="u-1")
""",
        "-n",
        "2",
    ).assert_outcomes(passed=8)


def test_without_respx_the_error_says_what_to_install(project: pytest.Pytester) -> None:
    project.makeconftest("import sys\nsys.modules['respx'] = None\n")

    result = run_apart(project, "def test_mock(algolia_mock): pass\n\ndef test_local(local_algolia): pass\n")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["E * ImportError: mocking Algolia needs respx (*): pip install 'algolia-usertoken[[]testing]'"]
    )


def test_the_markers_and_fixtures_are_described(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.algolia(*", "@pytest.mark.user_token(*"])
    result = project.runpytest_inprocess("--fixtures")
    result.stdout.fnmatch_lines(["algolia_mock*", "*A respx router*", "local_algolia*", "*A running LocalAlgolia*"])


def test_the_plugin_that_no_test_uses_imports_next_to_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import json, sys
        def test_one():
            print("\\nLOADED", json.dumps(sorted(sys.modules)))
        """
    )
    result = project.runpytest_subprocess("-s")

    line = next(line for line in result.outlines if line.startswith("LOADED"))
    loaded = set(json.loads(line.removeprefix("LOADED ").rstrip(".")))
    assert {name for name in loaded if name.startswith("algolia")} == {
        "algolia_usertoken",
        "algolia_usertoken.testing",
        "algolia_usertoken.testing.plugin",
    }
    assert "algoliasearch" not in loaded


APP = """
from fastapi import FastAPI, Header
from algolia_usertoken import TokenAwareClientSync, identity_scope, pseudonymous_user_token

app = FastAPI()
client = TokenAwareClientSync("YOUR_APP_ID", "YOUR_API_KEY")
last_user = None

def user(login):
    return pseudonymous_user_token(login, secret="a secret of the shop's own")

@app.get("/search")
def search(q: str, login: str = Header()):
    with identity_scope(user(login)):
        found = client.search_single_index("products", {"query": q, "clickAnalytics": True})
    return {"hits": len(found.hits), "queryID": found.query_id}

@app.post("/click")
def click(query_id: str, product: str, login: str = Header()):
    global last_user
    last_user = last_user or user(login)  # kept from the first visitor for ever
    client.events.clicked_object_ids_after_search("Clicked", "products", [product], [1], query_id, identity=last_user)

@app.post("/cart")
def add_to_cart(product: str, login: str = Header()):
    client.search_single_index("products", {"filters": f"objectID:{product}"})  # as nobody
    client.events.added_to_cart_object_ids("Added", "products", [product], identity=user(login))
"""


@pytest.mark.usefixtures("_patient")
def test_short_tests_find_the_two_wrong_endpoints_of_a_shop(project: pytest.Pytester) -> None:
    """Three endpoints, of which two get the identity wrong: the tests that catch it have less than ten lines each."""
    pytest.importorskip("fastapi")
    project.makepyfile(little_shop=APP)
    project.makepyfile(
        """
        import pytest
        from fastapi.testclient import TestClient
        from algolia_usertoken.testing import assert_same_identity
        from little_shop import app, client, user

        visitor = TestClient(app)

        def test_search(algolia_mock):
            visitor.get("/search?q=shoe", headers={"login": "ada"})

            assert_same_identity(algolia_mock, token=user("ada"))

        @pytest.mark.parametrize("login", ["ada", "ben"])
        def test_click(algolia_mock, login):
            found = visitor.get("/search?q=shoe", headers={"login": login}).json()
            visitor.post(f"/click?product=1&query_id={found['queryID']}", headers={"login": login})

            assert_same_identity(algolia_mock, token=user(login))

        def test_cart(algolia_mock):
            visitor.post("/cart?product=1", headers={"login": "ada"})

            assert_same_identity(algolia_mock, token=user("ada"))
        """
    )

    result = project.runpytest_inprocess("-W", "ignore")

    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E * requests disagree about who the user is:",
            "E * user-* POST  /1/indexes/products/query   (header)",
            "E * user-* POST  /1/events                   (events[[]0].userToken)",
            "FAILED *test_click[[]ben]*",
            "FAILED *test_cart*",
        ]
    )


REFUSED = """
def refused():
    assert not client.events.viewed_object_ids("Viewed", "products", ["1"])  # nobody's

def dropped():
    sender = EventSender(delivery=MemoryDelivery(), max_queue_size=1, background=False, user_token="u-1")
    sender.viewed_object_ids("Viewed", "products", ["1"])
    assert not sender.viewed_object_ids("Viewed", "products", ["1"])
    sender.close(0)

"""


@pytest.mark.parametrize("fixture", ["algolia_mock", "local_algolia", "algolia_mock, local_algolia"])
def test_an_event_that_is_refused_fails_the_test(project: pytest.Pytester, fixture: str) -> None:
    result = run(
        project,
        REFUSED
        + f"""
def test_refused({fixture}):
    refused()
    refused()

def test_invalid({fixture}):
    client.events.viewed_object_ids("Viewed", "products", [], identity="u-1")

@pytest.mark.parametrize("number", [1])
async def test_in_async_code({fixture}, number):
    refused()

def test_dropped({fixture}):
    dropped()

def test_the_next_one_is_not_concerned({fixture}):
    client.events.viewed_object_ids("Viewed", "products", ["1"], identity="u-1")

@pytest.mark.algolia(allow_refused=True)
def test_allowed({fixture}):
    refused()
    dropped()
""",
        "-p",
        "pytest_asyncio",
        "-o",
        "asyncio_mode=auto",
        "-rN",  # no summary: with CI in the environment it repeats the whole message
    )

    result.assert_outcomes(passed=2, failed=4)
    output = result.stdout.str()
    assert output.count("a sender refused or dropped") == 4
    assert "event refused: " in output
    assert "(× 2)" in output
    assert "(× 4)" not in output
    assert "event dropped: " in output
    assert "allow_refused=True" in output


def test_tests_without_the_fixtures_are_left_alone(project: pytest.Pytester) -> None:
    run(
        project,
        REFUSED
        + """
def test_one():
    refused()

def test_two():
    refused()
    dropped()
""",
    ).assert_outcomes(passed=2)


def test_a_fixture_that_sends_what_is_refused_is_told_as_well(project: pytest.Pytester) -> None:
    run(
        project,
        REFUSED
        + """
@pytest.fixture
def before(algolia_mock):
    refused()

@pytest.fixture
def after(algolia_mock):
    yield
    refused()

def test_before(before):
    pass

def test_after(after):
    pass

def test_failed(algolia_mock):
    refused()
    assert 1 == 2
""",
    ).assert_outcomes(passed=1, failed=2, errors=1)


def test_an_option_that_is_no_bool(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
@pytest.mark.algolia(allow_refused="yes")
def test_one(algolia_mock):
    pass
""",
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*allow_refused must be a bool, not str*"])


def test_a_rerun_starts_as_nobody(project: pytest.Pytester) -> None:
    pytest.importorskip("pytest_rerunfailures")
    run(
        project,
        """
runs = []

@pytest.mark.flaky(reruns=2)
def test_one(algolia_mock):
    runs.append(current_identity())
    set_user_token("left-behind")
    client.events.viewed_object_ids("Viewed", "products", ["1"])
    assert len(runs) == 3

@pytest.mark.flaky(reruns=1)
@pytest.mark.user_token("u-1")
def test_two(algolia_mock):
    assert current_identity() == Identity("u-1")
    set_user_token("left-behind")
    runs.append(1)
    assert len(runs) == 5

@pytest.mark.flaky(reruns=1)
def test_three(algolia_mock):
    runs.append(1)
    if len(runs) == 6:
        client.events.viewed_object_ids("Viewed", "products", [], identity="u-1")

def test_four():
    assert runs == [None] * 3 + [1] * 4
""",
    ).assert_outcomes(passed=4)


def test_what_arrived_is_read_alike_from_the_mock_and_from_local_algolia(project: pytest.Pytester) -> None:
    run(
        project,
        """
def visit(client):
    with identity_scope("u-1"):
        found = client.search_single_index("products", {"query": "shoe", "clickAnalytics": True})
    client.events.clicked_object_ids_after_search(
        "Clicked", "products", ["1"], [1], found.query_id, identity="u-2"
    )
    assert client.events.flush(120)

def judge(source):
    [search], [event], [mismatch] = source.searches, source.events, source.mismatches()
    assert (search.user, search.query, event.query_ids) == ("u-1", "shoe", (search.query_id,))
    assert list(source.identities()) == ["u-1", "u-2"]
    assert mismatch.kind == "event_token_differs"
    assert source.hints() == []

def test_mock(algolia_mock):
    visit(client)
    judge(algolia_mock)

@pytest.mark.algolia(assert_all_called=False)
def test_a_route_of_ones_own(algolia_mock):
    answer = {"hits": [], "query": "", "params": "", "processingTimeMS": 1, "queryID": "a" * 32}
    algolia_mock.post(path="/1/indexes/products/query").respond(json=answer)
    algolia_mock.post(path="/1/events").respond(json={"status": 200, "message": "OK"})
    visit(client)
    judge(algolia_mock)
    algolia_mock.reset()
    assert algolia_mock.searches == algolia_mock.events == []

@pytest.mark.algolia(records={"products": []})
def test_local(local_algolia):
    with TokenAwareClientSync.create_with_config(
        local_algolia.search_config(), insights_config=local_algolia.insights_config()
    ) as there:
        visit(there)
    judge(local_algolia)
""",
    ).assert_outcomes(passed=3)


def test_what_a_route_refuses_has_not_arrived(project: pytest.Pytester) -> None:
    run(
        project,
        """
def test_one(algolia_mock):
    algolia_mock.post(path="/1/indexes/products/query").respond(403, json={"message": "no", "status": 403})
    with pytest.raises(Exception, match="no"):
        search(query="shoe")
    assert algolia_mock.searches == []
""",
    ).assert_outcomes(passed=1)


@pytest.mark.parametrize("library", ["responses", "requests_mock", "vcr"])
def test_algolia_mock_works_beside_other_libraries_that_stand_in_for_http(
    project: pytest.Pytester, library: str
) -> None:
    pytest.importorskip(library)
    begin = {
        "responses": "import responses\nbegin = responses.RequestsMock(passthru_prefixes=('http://127.0.0.1',))",
        "requests_mock": "import requests_mock\nbegin = requests_mock.Mocker(real_http=True)",
        "vcr": "import vcr\nbegin = vcr.VCR(record_mode='none', ignore_localhost=True).use_cassette('none.yaml')",
    }[library]
    run(
        project,
        begin.replace("begin =", "begin = lambda:")
        + """

def visit(client):
    with identity_scope("u-1"):
        client.search_single_index("products", {"query": "shoe"})
        client.events.viewed_object_ids("Viewed", "products", ["1"])
    assert client.events.flush(120)

def test_inside(algolia_mock):
    with begin():
        visit(client)
    assert_same_identity(algolia_mock, token="u-1", searches=1, events=1)

async def test_async(algolia_mock):
    with begin():
        async with TokenAwareClient("APP", "key", user_token="u-1") as there:
            await there.search_single_index("products", {"query": "shoe"})
    assert_same_identity(algolia_mock, token="u-1", searches=1, events=0)

@pytest.mark.algolia(records={"products": []})
def test_local(local_algolia):
    with begin(), TokenAwareClientSync.create_with_config(
        local_algolia.search_config(), insights_config=local_algolia.insights_config()
    ) as there:
        visit(there)
    assert_same_identity(local_algolia, token="u-1", searches=1, events=1)
""",
        "-p",
        "pytest_asyncio",
        "-o",
        "asyncio_mode=auto",
    ).assert_outcomes(passed=3)
