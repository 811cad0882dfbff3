"""`__all__` is a promise: sorted, complete, and each name documented."""

from __future__ import annotations

import importlib
import inspect
import pathlib
import pkgutil
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import algolia_usertoken
from algolia_usertoken import clients, insights, integrations

pytestmark = [pytest.mark.oldest_versions, pytest.mark.package_contents]

PACKAGE = pathlib.Path(algolia_usertoken.__file__).parent


PUBLIC = [
    "algolia_usertoken",
    "algolia_usertoken.browser",
    "algolia_usertoken.integrations.aiohttp",
    "algolia_usertoken.integrations.asgi",
    "algolia_usertoken.integrations.celery",
    "algolia_usertoken.integrations.flask",
    "algolia_usertoken.integrations.relay",
    "algolia_usertoken.integrations.wsgi",
    "algolia_usertoken.local_algolia",
    "algolia_usertoken.testing",
]


@pytest.mark.parametrize("module_name", PUBLIC)
class TestPublicModule:
    def test_all_is_sorted_and_free_of_repetitions(self, module_name: str) -> None:
        names = list(importlib.import_module(module_name).__all__)

        assert names == sorted(set(names))

    def test_each_name_exists_and_is_documented(self, module_name: str) -> None:
        module = importlib.import_module(module_name)

        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                assert inspect.getdoc(member), f"{name} has no docstring"

    def test_dir_has_all_of_it(self, module_name: str) -> None:
        module = importlib.import_module(module_name)

        assert set(module.__all__) <= set(dir(module))

    def test_an_unknown_name_is_an_attribute_error(self, module_name: str) -> None:
        module = importlib.import_module(module_name)

        with pytest.raises(AttributeError, match="no_such_name"):
            _ = module.no_such_name


def test_every_error_and_warning_is_exported() -> None:
    from algolia_usertoken import errors

    defined = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }

    assert defined <= set(algolia_usertoken.__all__)


def test_everything_defined_in_the_package_init_is_exported() -> None:
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    imported = set()
    for names in re.findall(r"^\s*from \.\S* import (?:\(([^)]*)\)|(.*))$", source, re.MULTILINE):
        imported |= {re.sub(r"#.*", "", name).split(" as ")[-1].strip() for name in "".join(names).split(",")}

    assert {name for name in imported if name and not name.startswith("_")} <= set(algolia_usertoken.__all__)


def test_the_reference_has_every_name() -> None:
    reference = (pathlib.Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")

    for module_name in PUBLIC:
        for name in importlib.import_module(module_name).__all__:
            assert re.search(rf":: (\S+\.)?{name}$", reference, re.MULTILINE), (
                f"docs/api.md has no {module_name}.{name}"
            )


@pytest.mark.parametrize("module_name", PUBLIC)
def test_each_method_and_property_is_documented(module_name: str) -> None:
    module = importlib.import_module(module_name)

    for name in module.__all__:
        member = getattr(module, name)
        for part, value in vars(member).items() if inspect.isclass(member) else ():
            own = inspect.isroutine(value) or isinstance(value, (property, classmethod, staticmethod))
            if own and not part.startswith("_"):
                assert inspect.getdoc(getattr(member, part) if not isinstance(value, property) else value), (
                    f"{name}.{part} has no docstring"
                )


@pytest.mark.parametrize("module_name", PUBLIC)
def test_a_docstring_of_a_public_name_says_what_it_raises(module_name: str) -> None:
    module = importlib.import_module(module_name)

    for name in module.__all__:
        member = getattr(module, name)
        text = inspect.getdoc(member) or ""
        if inspect.isclass(member) and issubclass(member, (Exception, Warning, tuple)):
            continue
        source = inspect.getsource(member)
        if re.search(r"^\s+raise \w*(Value|Type|InvalidUserToken|MissingUserToken)Error\(", source, re.MULTILINE):
            assert "Raises" in text or "Raises" in source, f"{name} does not say what it raises"


def documented() -> Iterator[tuple[str, Any, str]]:
    """Each public function, class and method that takes arguments, and what `help()` says of it."""
    for module_name in PUBLIC:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            member = getattr(module, name)
            if not callable(member) or typing.is_typeddict(member) or member is typing.Any:
                continue
            if inspect.isclass(member) and issubclass(member, (Exception, tuple)):
                continue
            if not getattr(member, "_is_protocol", False):
                yield f"{module_name}.{name}", member, inspect.getdoc(member) or ""
            for part, value in inspect.getmembers(member, inspect.isroutine) if inspect.isclass(member) else ():
                is_own = inspect.isfunction(inspect.unwrap(getattr(value, "__func__", value)))
                is_own = is_own and value.__module__.startswith("algolia_usertoken")
                if is_own and not part.startswith("_") and part not in UPSTREAMS and name != "SQLiteOutbox":
                    yield f"{module_name}.{name}.{part}", value, inspect.getdoc(value) or ""


# Methods of algoliasearch, which have the arguments that they have there. Those of an SQLiteOutbox are for its sender.
UPSTREAMS = {"push_events_with_http_info", "request", "request_stream", "set_client_api_key"}
UPSTREAMS |= {"set_transformation_options"}
DOCUMENTED = {
    path: (member, text)
    for path, member, text in documented()
    if not path.startswith(("algolia_usertoken.testing", "algolia_usertoken.local_algolia"))
}


@pytest.mark.parametrize("path", DOCUMENTED)
def test_help_says_what_each_argument_is(path: str) -> None:
    member, text = DOCUMENTED[path]
    parameters = [name for name in inspect.signature(member).parameters if name not in ("self", "cls")]

    said = text.partition("Args:\n")[2].partition("\n\n")[0]
    missing = [name for name in parameters if not re.search(rf"^ +\*{{0,2}}{name}: ", said, re.MULTILINE)]

    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTED)
def test_a_docstring_has_its_summary_on_the_first_line_and_its_sections_in_one_order(path: str) -> None:
    text = DOCUMENTED[path][1]
    sections = re.findall(r"^(Args|Returns|Raises):$", text, re.MULTILINE)

    assert text.splitlines()[0].rstrip().endswith((".", ":"))
    assert sections == sorted(sections, key=["Args", "Returns", "Raises"].index)
    assert len(set(sections)) == len(sections)


# -- Annotations: dependency containers, for one, evaluate them -------------------------------------------------------


def public_modules() -> Iterator[str]:
    """Every module that users import from, those of integrations included whose framework is installed."""
    yield from ("algolia_usertoken", "algolia_usertoken.browser", "algolia_usertoken.testing")
    for _, name, _ in pkgutil.iter_modules(integrations.__path__, f"{integrations.__name__}."):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            assert not str(error.name).startswith("algolia_usertoken")  # noqa: PT017 - a framework is not installed
            continue
        if hasattr(module, "__all__"):
            yield name


def annotated_parts(name: str, member: Any) -> Iterator[tuple[str, Any]]:
    """A class or function, and of a class what is called on it, and its getters."""
    yield name, member
    for part, value in inspect.getmembers(member) if inspect.isclass(member) else ():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        public = not part.startswith("_") or part in ("__init__", "__call__", "__enter__", "__aenter__")
        # algoliasearch's methods are ours, too; what respx has is its own affair.
        if public and inspect.isfunction(function) and function.__module__.startswith("algolia"):
            yield f"{name}.{part}", function


def evaluated(part: Any) -> list[Any]:
    """The annotations of a class or function, as both ways to ask have them."""
    hints = list(typing.get_type_hints(part).values())
    if inspect.isfunction(part) or (inspect.isclass(part) and "__init__" in vars(part)):
        hints += [each.annotation for each in inspect.signature(part, eval_str=True).parameters.values()]
    return hints


ANNOTATED = {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module in public_modules()
    for name in importlib.import_module(module).__all__
}


@pytest.mark.parametrize("name", ANNOTATED)
def test_annotations_of_public_names_can_be_evaluated(name: str) -> None:
    failed = {}
    for part_name, part in annotated_parts(name, ANNOTATED[name]):
        try:
            hints = evaluated(part)
        except Exception as error:
            failed[part_name] = repr(error)
        else:
            assert not any(isinstance(hint, (str, typing.ForwardRef)) for hint in hints)

    assert failed == {}


def test_everything_public_is_looked_at_for_its_annotations() -> None:
    looked_at = {part for name, member in ANNOTATED.items() for part, _ in annotated_parts(name, member)}

    for part in (
        "TokenAwareClientSync.__init__",
        "TokenAwareClientSync.create_with_config",
        "TokenAwareClientSync.insights",
        "TokenAwareClient.search_single_index",
        "EventSender.__init__",
        "testing.LocalAlgolia.search_config",
        "testing.assert_same_identity",
        "browser.script",
        "integrations.asgi.IdentityMiddleware.__call__",
        "integrations.celery.CeleryDelivery.deliver",
        "integrations.django.IdentityMiddleware.__init__",
        "integrations.flask.init_app",
        "integrations.relay.EventsRelay.handle",
    ):
        assert f"algolia_usertoken.{part}" in looked_at


@pytest.mark.parametrize("fixture", ["algolia_mock", "local_algolia"])
def test_annotations_of_the_fixtures_can_be_evaluated(fixture: str) -> None:
    from algolia_usertoken.testing import plugin

    hints = typing.get_type_hints(inspect.unwrap(getattr(plugin, fixture).__wrapped__))

    assert hints["return"].__args__[0].__name__ in ("AlgoliaRouter", "LocalAlgolia")


def test_the_options_of_a_clients_events_are_typed_as_the_senders() -> None:
    arguments = inspect.signature(algolia_usertoken.EventSender, eval_str=True).parameters
    own = {name: each.annotation for name, each in arguments.items() if name not in clients._FROM_CLIENT}
    options = typing.get_type_hints(algolia_usertoken.EventOptions)

    assert set(clients._FROM_CLIENT) <= set(arguments)
    assert {name: options[name] for name in own} == own
    assert set(options) - set(own) == set()


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (clients.ClientOptions, [algolia_usertoken.TokenAwareClient, algolia_usertoken.TokenAwareClientSync]),
        (
            insights.InsightsClientOptions,
            [algolia_usertoken.TokenAwareInsightsClient, algolia_usertoken.TokenAwareInsightsClientSync],
        ),
    ],
)
def test_create_with_config_is_typed_as_the_constructor(options: Any, kinds: list[Callable[..., Any]]) -> None:
    for kind in kinds:
        keywords = {
            parameter.name: parameter.annotation
            for parameter in inspect.signature(kind, eval_str=True).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

        assert typing.get_type_hints(options) == keywords
