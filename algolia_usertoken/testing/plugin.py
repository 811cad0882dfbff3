"""The pytest plugin: fixtures and markers for tests of code that searches with Algolia.

Every project that has this package installed loads this plugin, so it imports only what a test uses.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import sys
import types
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from .. import testing  # loads the names in annotations when these are evaluated

if TYPE_CHECKING:
    from ..identity import Identity

_MARKERS = {
    "algolia": "algolia(*, records=None, assert_all_called=True, assert_all_mocked=False, allow_refused=False): "
    "options of the fixtures algolia_mock and local_algolia. records: objects by the name of their index. "
    "allow_refused: whether a sender may refuse or drop an event.",
    "user_token": "user_token(user_token, authenticated_user_token=None, client_ip=None, opted_out=False): run the "
    "test, and its fixtures, as this user; also takes an Identity.",
}
_CONTEXT = "algolia_usertoken.context"
_BEFORE = pytest.StashKey[Any]()  # the identity before a test
_REFUSALS = pytest.StashKey[list[str]]()  # why events of a test were refused or dropped
# The test that a context belongs to.
_test: contextvars.ContextVar[object] = contextvars.ContextVar("algolia_usertoken_test", default=None)


class _AlgoliaOptions:
    """The options of `@pytest.mark.algolia`: an unknown one, or a wrong value, is an error of that test."""

    def __init__(
        self,
        *,
        records: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
        assert_all_called: bool = True,
        assert_all_mocked: bool = False,
        allow_refused: bool = False,
    ) -> None:
        if records is not None and not isinstance(records, Mapping):
            raise TypeError(f"records must be a dict of lists of objects, by index, not {type(records).__name__}")
        for index, objects in (records or {}).items():
            # An iterator can be read only once, so only the first of several tests would get its records.
            if not isinstance(objects, Iterable) or isinstance(objects, (str, bytes, Mapping, Iterator)):
                raise TypeError(f"records[{index!r}] must be a list of objects, not {type(objects).__name__}")
        switches = {
            "assert_all_called": assert_all_called,
            "assert_all_mocked": assert_all_mocked,
            "allow_refused": allow_refused,
        }
        for name, value in switches.items():
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
        self.records = records
        self.assert_all_called = assert_all_called
        self.assert_all_mocked = assert_all_mocked
        self.allow_refused = allow_refused

    @classmethod
    def of(cls, item: Any) -> _AlgoliaOptions:
        """The options of a test. If it has several markers, the closest one wins, for each option by itself."""
        markers = list(item.iter_markers("algolia"))
        if any(marker.args for marker in markers):
            raise TypeError("takes keywords only")
        return cls(**{name: value for marker in reversed(markers) for name, value in marker.kwargs.items()})


def _identity_of(item: pytest.Item) -> Identity | None:
    """The identity that `@pytest.mark.user_token` names."""
    marker = item.get_closest_marker("user_token")
    if marker is None:
        return None
    from ..identity import Identity

    if len(marker.args) == 1 and isinstance(marker.args[0], Identity) and not marker.kwargs:
        return marker.args[0]
    if not marker.args and not marker.kwargs:
        raise TypeError("names no user")
    return Identity(*marker.args, **marker.kwargs)


def _checked(item: pytest.Item, marker: str, read: Any) -> Any:
    try:
        return read(item)
    except (TypeError, ValueError) as error:
        problem = str(error).replace("_AlgoliaOptions.__init__() ", "").replace("Identity.__init__() ", "")
    return pytest.fail(f"@pytest.mark.{marker}: {problem}\nUsage: {_MARKERS[marker]}", pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS.values():
        config.addinivalue_line("markers", marker)


def pytest_collection_finish() -> None:
    # If tests use respx directly, it must know respx.mock(using="algolia"). (pytest imports respx wherever it is
    # installed, but only a project that has imported algoliasearch needs this.)
    if sys.modules.get("respx") and "algoliasearch" in sys.modules:
        from . import mocker  # noqa: F401


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Keep any identity that a test has set and not reset from leaking into the next test."""
    before = item.stash[_BEFORE] = _frame()
    try:
        return (yield)
    finally:
        _set_frame(before)


def _frame() -> Any:
    return sys.modules[_CONTEXT]._frame.get() if _CONTEXT in sys.modules else None


def _set_frame(frame: Any) -> None:
    if _CONTEXT in sys.modules:
        sys.modules[_CONTEXT]._frame.set(frame)


def _of_this_test(function: Any) -> Any:
    """A function, usually async, that finds the identity of the test for which it runs.

    Its event loop, and with it the context of that loop, may be older than the test: then the context has the identity
    of an earlier test.
    """
    if isinstance(function, types.MethodType):
        return types.MethodType(_of_this_test(function.__func__), function.__self__)
    test, frame = _test.get(), _frame()

    def enter() -> None:
        if _test.get() is not test:
            _test.set(test)
            _set_frame(frame)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        enter()
        return function(*args, **kwargs)

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        enter()
        return await function(*args, **kwargs)

    @functools.wraps(function)
    async def iterated(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        enter()
        async with contextlib.aclosing(function(*args, **kwargs)) as values:
            async for value in values:
                yield value

    if inspect.isasyncgenfunction(function):
        return iterated
    return awaited if inspect.iscoroutinefunction(function) else called


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    function: Any = fixturedef.func
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        return (yield)
    definition: Any = fixturedef
    definition.func = _of_this_test(function)
    try:
        return (yield)
    finally:
        definition.func = function


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _test.set(object())
    item.stash[_REFUSALS] = []
    _set_frame(item.stash[_BEFORE])  # an earlier run of this test may have changed it, if this is a rerun
    _checked(item, "algolia", _AlgoliaOptions.of)
    identity = _checked(item, "user_token", _identity_of)
    if identity is not None:
        from ..context import identity_scope

        identity_scope(identity).__enter__()  # until the end of the test's protocol


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test whose events were refused, and let an async test find its own identity."""
    try:
        result = yield from _called_as_itself(item)
    except BaseException:  # the test fails anyway, but its report should mention refusals too
        if refused := _refused(item):
            item.add_report_section("call", "algolia_usertoken", refused)
        raise
    _fail_for_refusals(item)
    return result


def _fail_for_refusals(item: pytest.Item) -> None:
    refused = _refused(item)
    if refused is not None:
        pytest.fail(refused, pytrace=False)


def _refused(item: pytest.Item) -> str | None:
    """The text about what senders refused or dropped, returned once. None if nothing was, or if the test allows it."""
    reasons = item.stash.get(_REFUSALS, [])
    if not reasons or _AlgoliaOptions.of(item).allow_refused:
        return None
    lines = [f"  {reason}" + (f" (× {times})" if times > 1 else "") for reason, times in Counter(reasons).items()]
    reasons.clear()
    return "\n".join(
        [
            "while this test ran, a sender refused or dropped events that the test may count as sent:",
            *lines,
            "",
            "If the test expects this, use @pytest.mark.algolia(allow_refused=True)",
        ]
    )


def _called_as_itself(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let an async test find its own identity, even in an event loop or a context that is older than the test."""
    own: Any = item
    case: Any = sys.modules.get("unittest.async_case")
    if case is not None and isinstance(getattr(own, "instance", None), case.IsolatedAsyncioTestCase):
        # pytest makes the test case and its context when it collects tests. setUp is the first function to run there.
        own.instance.setUp = _of_this_test(own.instance.setUp)
        return (yield)
    holder, name = own, "obj"
    property_test = getattr(getattr(own, "obj", None), "hypothesis", None)
    if hasattr(property_test, "inner_test"):  # this is the async test; the function that pytest calls is sync
        holder, name = property_test, "inner_test"
    function: Any = getattr(holder, name, None)
    if not inspect.iscoroutinefunction(function):
        return (yield)
    setattr(holder, name, _of_this_test(function))
    try:
        return (yield)
    finally:
        setattr(holder, name, function)


@contextlib.contextmanager
def _events_watched(item: pytest.Item, where: str) -> Iterator[None]:
    """Let no event outlive the test, and fail the test if an event is refused or dropped."""
    from .seen import events_end_here, refusals_noted

    reasons = item.stash.setdefault(_REFUSALS, [])
    with refusals_noted(reasons), events_end_here(where):
        yield
    _fail_for_refusals(item)  # for events that were sent after the test, in the teardown of fixtures


@pytest.fixture
def algolia_mock(request: pytest.FixtureRequest) -> Iterator[testing.AlgoliaRouter]:
    """A respx router that stands in for Algolia: no algoliasearch client sends any HTTP request.

    If no route fits a request, the answer is that of an Algolia with empty indices, or with the `records` of
    `@pytest.mark.algolia`.
    """
    from .mocker import AlgoliaRouter

    options = _AlgoliaOptions.of(request.node)
    router = AlgoliaRouter(
        records=options.records,
        assert_all_called=options.assert_all_called,
        assert_all_mocked=options.assert_all_mocked,
    )
    # Events that this test has queued would be sent to Algolia itself, or to the mock of the next test.
    with router, _events_watched(request.node, "algolia_mock"):
        yield router


@pytest.fixture
def local_algolia(request: pytest.FixtureRequest) -> Iterator[testing.LocalAlgolia]:
    """A running LocalAlgolia that has received nothing yet. Its records are those of `@pytest.mark.algolia`."""
    from ..local_algolia import LocalAlgolia

    with LocalAlgolia() as algolia, _events_watched(request.node, "local_algolia"):
        for index, records in (_AlgoliaOptions.of(request.node).records or {}).items():
            algolia.save_objects(index, records)
        yield algolia
