"""Forks 15 times while another thread sends; the children end in three ways. Prints how many the thread sent."""

import os
import signal
import sys
import threading
import time

from prelude import event, send, sender

events = sender(max_queue_size=5_000, batch_size=50, flush_interval=0.01, concurrency=2)
stop = False
accepted = 0


def work() -> None:
    global accepted
    while not stop:
        accepted += events.send(event(f"p{accepted}"))


thread = threading.Thread(target=work)
thread.start()
children = []
for number in range(15):
    time.sleep(0.02)
    child = os.fork()
    if not child:
        signal.alarm(110)  # not to be waited for, if it hangs
        stop = True
        send(events, [f"c{number}-{n}" for n in range(50)])
        if number % 3 == 0:
            os._exit(0 if events.flush(100) else 7)
        if number % 3 == 1:
            os._exit(0 if events.close(100) else 8)
        sys.exit(0)
    children.append(child)
stop = True
thread.join()
ends = [os.waitpid(child, 0)[1] for child in children]
assert ends == [0] * 15, ends
assert events.flush(100)
assert events.stats.delivered == accepted
print(accepted, flush=True)
