"""Two children of multiprocessing send with senders of their own, and return.

Arguments: how they are started, and "before" if their parent has imported the library and sends too.
"""

import multiprocessing
import sys

IMPORTED_BEFORE = sys.argv[2] == "before"
if IMPORTED_BEFORE:
    from prelude import send, sender


def work(start):
    from prelude import send, sender

    global events
    events = sender()
    send(events, range(start, start + 500))
    send(sender(background=False), range(start + 500, start + 1000))


if __name__ == "__main__":
    if IMPORTED_BEFORE:
        events = sender()
        send(events, range(200))
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=work, args=(start,)) for start in (1000, 2000)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
