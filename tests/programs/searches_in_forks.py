"""Three times, eight children of a fork search at once with the client of their parent, which has searched before."""

import os

from algolia_usertoken import TokenAwareClientSync, identity_scope
from algolia_usertoken.testing import LocalAlgolia

with LocalAlgolia() as algolia:
    algolia.save_objects("products", [{"objectID": "1", "name": "hat"}])
    client = TokenAwareClientSync.create_with_config(algolia.search_config())
    for _ in range(3):
        assert client.search_single_index("products", {"query": "parent"}).query == "parent"
        start, started = os.pipe()
        children = []
        for number in range(8):
            child = os.fork()
            if not child:
                try:
                    os.close(started)
                    os.read(start, 1)  # until the parent closes it: all at once
                    for _ in range(5):
                        with identity_scope(f"user-{number}"):
                            query = client.search_single_index("products", {"query": f"child-{number}"}).query
                        assert query == f"child-{number}", query
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(child)
        os.close(started)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert client.search_single_index("products", {"query": "parent"}).query == "parent"
    searches = sorted((search.query, search.user_token) for search in algolia.searches if search.user_token)
    assert searches == sorted((f"child-{number}", f"user-{number}") for number in range(8) for _ in range(15))
    os._exit(0)
