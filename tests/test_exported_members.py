"""`__all__` is a promise: sorted, complete, and each name documented."""

from __future__ import annotations

import importlib
import inspect
import pathlib
import re

import pytest

import algolia_usertoken

PACKAGE = pathlib.Path(algolia_usertoken.__file__).parent


PUBLIC = [
    "algolia_usertoken",
    "algolia_usertoken.browser",
    "algolia_usertoken.integrations.aiohttp",
    "algolia_usertoken.integrations.asgi",
    "algolia_usertoken.integrations.celery",
    "algolia_usertoken.integrations.flask",
    "algolia_usertoken.integrations.wsgi",
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
def test_so_is_each_method_and_property(module_name: str) -> None:
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
def test_what_can_raise_says_so(module_name: str) -> None:
    module = importlib.import_module(module_name)

    for name in module.__all__:
        member = getattr(module, name)
        text = inspect.getdoc(member) or ""
        if inspect.isclass(member) and issubclass(member, (Exception, Warning, tuple)):
            continue
        source = inspect.getsource(member)
        if re.search(r"^\s+raise \w*(Value|Type|InvalidUserToken|MissingUserToken)Error\(", source, re.MULTILINE):
            assert "Raises" in text or "Raises" in source, f"{name} does not say what it raises"
