"""The Python code of the documentation's pages, and an Algolia for it to talk to."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.personalization.config import PersonalizationConfig
from algoliasearch.recommend.config import RecommendConfig
from algoliasearch.search.config import SearchConfig

from algolia_usertoken.testing import LocalAlgolia

PROJECT = pathlib.Path(__file__).parents[2]
DOCS = PROJECT / "docs"
BLOCK = re.compile(r"^( *)```+(?:python|\{code-block\} python)\n(.*?)^\1```+$", re.MULTILINE | re.DOTALL)


def blocks(page: pathlib.Path) -> Iterator[str]:
    """The Python blocks of a page, each moved to the line it has there, so that a traceback points into the page."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        code = re.sub(f"^{match[1]}", "", match[2], flags=re.MULTILINE)
        yield "\n" * text.count("\n", 0, match.start(2)) + code


def run_block(page: pathlib.Path, part: str, namespace: dict[str, Any]) -> None:
    """Run the only block of a page that has this part."""
    (source,) = [block for block in blocks(page) if part in block]
    exec(compile(source, page, "exec"), namespace)


def answer_for_algolia(algolia: LocalAlgolia, patch: pytest.MonkeyPatch) -> None:
    """Every client made with default hosts talks to `algolia`, under whatever name and key it is given."""
    ours = algolia.search_config()
    credentials = ("x-algolia-application-id", "x-algolia-api-key")

    def set_default_hosts(config: Any) -> None:
        config.hosts = config.hosts or algolia.search_config().hosts
        config.headers = {**config.headers, **{name: ours.headers[name] for name in credentials}}
        config.connect_timeout, config.read_timeout = ours.connect_timeout, ours.read_timeout

    for config_class in (SearchConfig, InsightsConfig, RecommendConfig, PersonalizationConfig):
        patch.setattr(config_class, "set_default_hosts", set_default_hosts)
