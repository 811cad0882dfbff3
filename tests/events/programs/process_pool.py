"""The workers of a process pool send with the sender that their parent made."""

import concurrent.futures
import multiprocessing

from prelude import send, sender

events = sender()


def work(start):
    return send(events, range(start, start + 100))


context = multiprocessing.get_context("fork")
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
    assert sum(pool.map(work, range(0, 1000, 100))) == 1000
