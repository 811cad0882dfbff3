"""A child of multiprocessing sends with the sender that its parent made, and returns."""

import multiprocessing

from prelude import send, sender

events = sender()


def work() -> None:
    send(events, range(1000, 2000))


send(events, range(200))
context = multiprocessing.get_context("fork")
child = context.Process(target=work)
child.start()
child.join()
assert child.exitcode == 0
