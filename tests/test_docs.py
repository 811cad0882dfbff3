"""Every Python block of the README and the documentation runs, as it stands there, against a stand-in for Algolia.

The blocks of a page run in order and see one another's names; `await` may stand at the top. Whatever hosts they would
call, it is LocalAlgolia that answers, with the demo's catalogue in the index "products". What is not meant to run is
fenced as something else than `python`, and no shell: see test_docs_shell for that. A library that needs a server of
its own to talk to (Kafka) is a name only.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import inspect
import pathlib
import re
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from docs_code import DOCS, PROJECT, answer_for_algolia, blocks

from algolia_usertoken import (
    Identity,
    current_identity,
    identity_scope,
    make_token_aware,
    pseudonymous_user_token,
    set_user_token,
)
from algolia_usertoken.cli import main
from algolia_usertoken.demo import catalogue
from algolia_usertoken.integrations.asgi import IdentityMiddleware
from algolia_usertoken.provider import TokenProvider
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.package_contents, pytest.mark.slow]

PAGES = [PROJECT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]

STARLETTES_OWN = "ignore:Using `httpx` with"  # its TestClient prefers a library that few have yet


def run_page(page: pathlib.Path) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem}
    loop = asyncio.new_event_loop()
    try:
        for source in blocks(page):
            code = compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & inspect.CO_COROUTINE:
                loop.run_until_complete(eval(code, namespace))
            else:
                exec(code, namespace)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def _answering_for_algolia(algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Every client made with default hosts talks to `algolia`, which has the demo's catalogue."""
    algolia.save_objects("products", catalogue())
    answer_for_algolia(algolia, monkeypatch)
    monkeypatch.setitem(sys.modules, "confluent_kafka", SimpleNamespace(Producer=lambda settings: None))
    for module in ("models", "tables"):  # of an application; what the blocks do with them is shown below
        monkeypatch.setitem(sys.modules, f"myshop.{module}", SimpleNamespace(Order=None))
    monkeypatch.setitem(sys.modules, "myshop", SimpleNamespace())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALGOLIA_APP_ID", algolia.app_id)
    monkeypatch.setenv("ALGOLIA_API_KEY", algolia.api_key)


@pytest.mark.usefixtures("_answering_for_algolia")
@pytest.mark.filterwarnings(STARLETTES_OWN)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_python_block_of_the_docs_runs(page: pathlib.Path) -> None:
    contextvars.copy_context().run(run_page, page)


def test_the_tests_that_the_documentation_shows_pass(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # a project of its own, wherever that is
    module = tmp_path / "test_shop.py"
    module.write_text("\n\n\n".join(blocks(DOCS / "testing.md")), encoding="utf-8")

    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:asyncio",
        "-W",
        "error",
        "-W",
        STARLETTES_OWN,
        str(module),
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout
    assert f"{module.read_text(encoding='utf-8').count('def test_')} passed" in result.stdout


@pytest.mark.usefixtures("_answering_for_algolia")
def test_the_readme_tells_users_apart(algolia: LocalAlgolia) -> None:
    contextvars.copy_context().run(run_page, PROJECT / "README.md")

    assert [search.user_token for search in algolia.searches] == ["anonymous-5c3f8f2e"]
    assert [event.user_token for event in algolia.events] == ["anonymous-5c3f8f2e"]
    assert algolia.mismatches() == []


# Both are given an order of 25 items, paid two days ago, and one that is too old.
WITH_DJANGO = """
import django
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, USE_TZ=True)
django.setup()
from django.db import connection, models

class Order(models.Model):
    customer_id = models.IntegerField()
    paid_at = models.DateTimeField()
    class Meta:
        app_label = "myshop"

class Item(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="items")
    product_id = models.IntegerField()
    price = models.DecimalField(max_digits=9, decimal_places=2)
    quantity = models.IntegerField()
    class Meta:
        app_label = "myshop"

with connection.schema_editor() as editor:
    editor.create_model(Order)
    editor.create_model(Item)
for days in (2, 40):
    order = Order.objects.create(customer_id=7, paid_at=now - timedelta(days=days))
    for number in range(25):
        Item.objects.create(order=order, product_id=number, price=Decimal("9.50"), quantity=2)
sys.modules["myshop.models"] = SimpleNamespace(Order=Order)
exec(block)
write_orders(path, "a secret")
"""
WITH_SQLALCHEMY = """
from sqlalchemy import DateTime, ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    paid_at: Mapped[datetime] = mapped_column(DateTime)
    items: Mapped[list["Item"]] = relationship(order_by="Item.id")

class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int]
    price: Mapped[float]
    quantity: Mapped[int]

engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
with Session(engine) as session:
    for days in (2, 40):
        items = [Item(product_id=number, price=9.5, quantity=2) for number in range(25)]
        session.add(Order(customer_id=7, paid_at=now - timedelta(days=days), items=items))
    session.commit()
    sys.modules["myshop.tables"] = SimpleNamespace(Order=Order)
    exec(block)
    write_orders(path, session, "a secret")
engine.dispose()
"""


@pytest.mark.parametrize(("database", "program"), [("django", WITH_DJANGO), ("sqlalchemy", WITH_SQLALCHEMY)])
def test_the_orders_of_a_database_are_sent_as_the_page_about_files_shows(
    database: str, program: str, algolia: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    (block,) = [one for one in blocks(DOCS / "files-of-events.md") if f"from {database}" in one]
    path = tmp_path / "orders.ndjson"
    start = (
        "import sys; from datetime import datetime, timedelta, timezone; from decimal import Decimal\n"
        "from types import SimpleNamespace\n"
        "now = datetime.now(timezone.utc); path, block = sys.argv[1:]; sys.modules['myshop'] = SimpleNamespace()\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", start + program, path, block], check=True)

    assert main(["send", str(path), "--host", f"127.0.0.1:{algolia.port}"]) == 0

    assert [(len(one.event["objectIDs"]), one.user_token) for one in algolia.events] == [
        (20, pseudonymous_user_token(7, secret="a secret")),
        (5, pseudonymous_user_token(7, secret="a secret")),
    ]
    assert 2 * 86_400 - 3600 < time.time() - algolia.events[0].event["timestamp"] / 1000 < 2 * 86_400 + 86_400


@pytest.mark.usefixtures("_answering_for_algolia")
def test_the_page_about_references_credits_the_one_who_searched(algolia: LocalAlgolia) -> None:
    contextvars.copy_context().run(run_page, DOCS / "references.md")

    assert [(event.event_name, event.user_token[-4:], bool(event.query_ids)) for event in algolia.events] == [
        ("Product Clicked", "8f2e", True),
        ("Added to Cart", "8f2e", True),
        ("Order Placed", "8f2e", True),
        ("Product Clicked", "d1aa", False),
    ]
    assert algolia.mismatches() == []


@pytest.mark.usefixtures("_answering_for_algolia")
def test_the_page_about_migrating_sends_the_visitors_address_before_and_after(algolia: LocalAlgolia) -> None:
    namespace: dict[str, Any] = {}
    for source in blocks(DOCS / "migrating.md"):
        exec(source, namespace)
        if "application = IdentityMiddleware" in source:
            body = namespace["application"]({"REMOTE_ADDR": "198.51.100.9"}, lambda *_: None)
            assert b"".join(body)

    seen = [(search.user_token, search.forwarded_for) for search in algolia.searches]
    assert seen == [
        ("anonymous-5c3f8f2e", None),
        ("anonymous-5c3f8f2e", None),
        (None, "203.0.113.7"),
        (None, "198.51.100.9"),
        (None, "203.0.113.7"),
        ("nightly-report", None),
        ("anonymous-5c3f8f2e", None),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_block_hides_from_being_run(page: pathlib.Path) -> None:
    fences = set(re.findall(r"^ *```+(\{?[\w-]*\}?.*)$", page.read_text(encoding="utf-8"), re.MULTILINE))

    assert fences <= {
        *("", "python", "console", "sh", "text", "diff", "html", "html+django", "js", "ini"),
        *("{eval-rst}", "{toctree}", "{include} ../CHANGELOG.md", "{note}", "{raw} html"),
    } | {fence for fence in fences if fence.startswith(("{include}", "{code-block} python"))}


def anchors(page: pathlib.Path) -> set[str]:
    """What a link may lead to: the headings, as GitHub and MyST name them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = (heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {re.sub(r"[^\w-]", "", heading) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_of_the_docs_lead_somewhere(page: pathlib.Path) -> None:
    """Those to other pages; the others are looked at once a week, by `nox -s linkcheck`."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize(
    "words",
    [
        *("privacy", "gdpr", "consent", "email", "environment variables", "dependency injection", "background tasks"),
        *(
            "gevent",
            "sentry",
            "prometheus",
            "opentelemetry",
            "unittest",
            "multi-tenant",
            "type hints",
            "rq",
            "dramatiq",
        ),
        *("arq", "graphql", "revenue", "bulk", "oauth", "one account on several devices"),
    ],
)
def test_a_heading_has_what_readers_search_for(words: str) -> None:
    """The search of the site puts headings first."""
    headings = [
        heading.lower()
        for page in PAGES
        for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]

    assert any(re.search(rf"\b{re.escape(words)}\b", heading) for heading in headings)


def test_links_in_the_code_are_safe_ones() -> None:
    for path in (PROJECT / "algolia_usertoken").rglob("*.py"):
        for target in re.findall(r"\bhttp://[^\s\"'{}`)]+", path.read_text(encoding="utf-8")):
            assert target.startswith(("http://127.0.0.1", "http://host")), f"{path.name}: {target}"


# -- What docs/identity.md says of scopes, and no block there can show ----------------------------------------------

IN_A_GREENLET = """
import gevent, gevent.monkey, gevent.pool, sys
if sys.argv[1] == "patched":
    gevent.monkey.patch_all()
from algolia_usertoken import bind, current_identity, identity_scope

with identity_scope("visitor-ada"):
    assert gevent.spawn(current_identity).get() is None
    assert gevent.pool.Pool(1).spawn(current_identity).get() is None
    assert gevent.spawn(bind(current_identity)).get().user_token == "visitor-ada"
"""


@pytest.mark.parametrize("patched", ["patched", "not patched"])
def test_a_greenlet_starts_with_nothing_and_with_bind_as_the_visitor(patched: str) -> None:
    command = [sys.executable, "-c", IN_A_GREENLET, patched]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("in_a_scope", "view_is"), [(True, "anonymous-ada"), (False, "job")])
async def test_what_a_worker_started_in_a_request_sets_in_a_thread(in_a_scope: bool, view_is: str) -> None:
    """It counts as set by that request, which a scope around the worker prevents."""
    seen = []

    async def work() -> None:
        await asyncio.to_thread(set_user_token, "job")

    async def view(scope: Any, receive: Any, send: Any) -> None:
        if in_a_scope:
            with identity_scope(None):
                worker = asyncio.create_task(work())
        else:
            worker = asyncio.create_task(work())
        await worker
        seen.append(current_identity())

    scope = {"type": "http", "headers": [(b"cookie", b"_ALGOLIA=anonymous-ada")]}
    await IdentityMiddleware(view)(scope, None, None)  # type: ignore[arg-type]

    assert seen == [Identity(view_is)]


def test_a_stream_asks_as_whoever_is_current_when_its_first_piece_is_read() -> None:
    agents = pytest.importorskip("algoliasearch.agent_studio.client")
    from algoliasearch.http.transporter_sync import TransporterSync

    class Mirror(TransporterSync):
        def request_stream(self, verb: Any, path: Any, request_options: Any, use_read_transporter: Any) -> Any:
            return iter([request_options.headers.get("X-Algolia-UserToken")])

    client = agents.AgentStudioClientSync("APP", "key")
    client._transporter = Mirror(client._config)
    make_token_aware(client, TokenProvider())
    ask = ("agent", "ai-sdk-5", {"messages": []})

    with identity_scope("visitor-ada"):
        read_later = client.create_agent_completion_stream_raw(*ask)
        assert list(client.create_agent_completion_stream_raw(*ask)) == ["visitor-ada"]

    assert list(read_later) == [None]


# -- What docs/asgi.md says of the cookie, and no block there can show ------------------------------------------------


async def test_a_new_visitor_s_first_requests_at_the_same_time_get_a_token_each() -> None:
    users: list[str | None] = []
    all_have_begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        identity = current_identity()
        assert identity is not None
        users.append(identity.user_token)
        if len(users) == 3:
            all_have_begun.set()
        await all_have_begun.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def cookie_of_first_request() -> str:
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await IdentityMiddleware(app, set_cookie=True)(scope, None, send)  # type: ignore[arg-type]
        cookie: bytes = dict(messages[0]["headers"])[b"set-cookie"]
        return cookie.decode().partition(";")[0]

    cookies = await asyncio.gather(*[cookie_of_first_request() for _ in range(3)])

    assert len(set(users)) == 3
    assert sorted(cookies) == sorted(f"_ALGOLIA={user}" for user in users)
