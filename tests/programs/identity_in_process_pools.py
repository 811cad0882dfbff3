"""Pools that are first used in a scope, and the processes that are started there."""

import importlib
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from algolia_usertoken import Identity, current_identity, identity_scope

ADA, BEN = Identity("ada"), Identity("ben")


def who(identity=None):
    with identity_scope(identity):
        return current_identity()


def tell(queue):
    queue.put(current_identity())


if __name__ == "__main__":
    library, method = sys.argv[1:]
    context = importlib.import_module(library).get_context(method)
    if library == "multiprocessing":
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            with identity_scope(ADA):
                assert executor.submit(current_identity).result() is None
            with identity_scope(BEN):
                assert executor.submit(current_identity).result() is None
                assert executor.submit(who, current_identity()).result() == BEN
            assert executor.submit(current_identity).result() is None
    with identity_scope(ADA):
        pool = context.Pool(1)
        queue = context.Queue()
        process = context.Process(target=tell, args=(queue,))
        process.start()
        assert queue.get() is None
        process.join()
        assert current_identity() == ADA
    assert pool.apply(current_identity) is None
    pool.close()
    pool.join()

    with identity_scope(ADA):  # a plain fork goes on for its parent's user, also beside multiprocessing
        child = os.fork()
        if not child:
            os._exit(0 if current_identity() == ADA else 1)
    assert os.waitpid(child, 0)[1] == 0
