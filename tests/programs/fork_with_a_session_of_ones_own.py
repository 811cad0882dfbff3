"""A client with a session of the application's own searches, forks, and searches in the child and in the parent.

Arguments: the port of a stand-in for Algolia, the application's id, and its API key.
"""

import os
import sys

import requests
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.search.config import SearchConfig
from requests.adapters import BaseAdapter, HTTPAdapter

from algolia_usertoken import TokenAwareClientSync

port, app_id, api_key = sys.argv[1:]


class Slow(HTTPAdapter):
    def __init__(self, context):
        self.context = context  # what HTTPAdapter would not copy
        super().__init__()

    def init_poolmanager(self, *arguments, **keywords):
        assert self.context == "ca"
        super().init_poolmanager(*arguments, **keywords)


class Odd:
    init_poolmanager = poolmanager = proxy_manager = None

    def close(self) -> None:
        pass


config = SearchConfig(app_id, api_key)
config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=int(port))])
config.connect_timeout = config.read_timeout = 20_000
client = TokenAwareClientSync.create_with_config(config)
session = client._transporter._session = requests.Session()
session.headers["x-own"] = "1"
session.mount("http://", Slow("ca"))
session.mount("local://", BaseAdapter())
odd = TokenAwareClientSync.create_with_config(config)
odd._transporter._session = requests.Session()
odd._transporter._session.mount("local://", Odd())
client.search_single_index("products", {"query": "parent"})
pools = session.adapters["http://"].poolmanager
child = os.fork()
if not child:
    status = 1
    try:
        assert client._transporter._session is session
        assert odd._transporter._session is None  # it can't be kept: it is opened anew, not shared
        assert session.adapters["http://"].poolmanager is not pools
        assert client.search_single_index("products", {"query": "child"}).query == "child"
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
assert client.search_single_index("products", {"query": "parent"}).query == "parent"
