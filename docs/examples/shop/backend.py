"""Where the shop's Algolia is: what the ALGOLIA_… variables say, or else a stand-in inside this process.

ALGOLIA_APP_ID, ALGOLIA_API_KEY   your application, and a search-only key: the pages hand it to the browser
ALGOLIA_INDEX                     the index to search, "products" if not given
ALGOLIA_URL                       a LocalAlgolia that runs elsewhere, as http://127.0.0.1:8108
SHOP_SECRET                       signs sessions and references, and makes the pseudonyms of logins
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.search.config import SearchConfig

from algolia_usertoken.demo import catalogue
from algolia_usertoken.testing import LocalAlgolia

SECRET = os.environ.get("SHOP_SECRET") or secrets.token_hex()
PRODUCTS = {product["objectID"]: product for product in catalogue()}


@dataclass(frozen=True)
class Backend:
    """`url` is None where it is Algolia itself, and `local` is None where it is not inside this process."""

    search_config: SearchConfig
    insights_config: InsightsConfig
    index: str
    url: str | None = None
    local: LocalAlgolia | None = None


def connect() -> Backend:
    index = os.environ.get("ALGOLIA_INDEX", "products")
    url = os.environ.get("ALGOLIA_URL")
    if url is None and "ALGOLIA_APP_ID" not in os.environ:
        local = LocalAlgolia().start()
        local.save_objects(index, PRODUCTS.values())
        return Backend(local.search_config(), local.insights_config(), index, local.url, local)

    app_id = os.environ.get("ALGOLIA_APP_ID", "LOCALALGOLIA")
    api_key = os.environ.get("ALGOLIA_API_KEY", "local-api-key")
    search_config, insights_config = SearchConfig(app_id, api_key), InsightsConfig(app_id, api_key)
    if url is not None:
        parts = urlsplit(url)
        for config in (search_config, insights_config):
            config.hosts = HostsCollection([Host(url=parts.hostname, scheme=parts.scheme, port=parts.port)])
    return Backend(search_config, insights_config, index, url)
