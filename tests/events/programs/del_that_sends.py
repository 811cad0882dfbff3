"""Sends while the garbage collector runs `__del__` methods that send. Prints four counts."""

import faulthandler
import gc
import sys
import threading

from prelude import adds_up, event, sender

faulthandler.dump_traceback_later(100, exit=True)
events = sender(max_queue_size=1_000_000, batch_size=int(sys.argv[1]), concurrency=int(sys.argv[2]))
from_del = 0
made = 0
stop = False


class Sends:
    def __init__(self) -> None:
        global made
        made += 1
        self.name = f"d{made}"
        self.itself = self

    def __del__(self) -> None:
        if not stop:
            events.send(event(self.name))
            global from_del
            from_del += 1


gc.set_threshold(1)
for number in range(int(sys.argv[3])):
    Sends()
    events.send(event(number))
    if not number % 20:
        _ = events.stats
    if not number % 100:
        threading.Thread(target=int).start()
        assert events.flush(60)
gc.set_threshold(700)
gc.collect()
assert events.flush(60)
stop = True
assert adds_up(events.stats), events.stats
print(made, from_del, events.stats.accepted, events.stats.delivered)
