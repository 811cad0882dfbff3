"""What Algolia has and the stand-in does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [
        ("GET", "/1/clusters/mapping/top", "multi-cluster management"),
        ("POST", "/1/dictionaries/stopwords/batch", "dictionaries"),
        ("GET", "/1/dictionaries/*/settings", "dictionaries"),
        ("POST", "/1/push/products", "the Ingestion API"),
        ("GET", "/2/abtests", "A/B tests"),
        ("GET", "/1/security/sources", "allowed sources"),
        ("POST", "/1/indexes/products/related-products/recommend/rules/search", "rules for recommendations"),
    ],
)
def test_what_the_stand_in_does_not_have_is_a_404_that_says_so(
    ask: Callable[..., Any], method: str, path: str, what: str
) -> None:
    answer = ask(method, path)
    assert (answer.status, answer.json["message"]) == (404, f"LocalAlgolia does not have {what}: {method} {path}")


def test_a_path_that_only_begins_alike_is_unknown_to_all(ask: Callable[..., Any]) -> None:
    assert ask("GET", "/1/clustersize").json["message"] == "Path not supported by this API: GET /1/clustersize"
