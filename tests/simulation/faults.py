"""Faults that are put into the sender on purpose, each of which the worlds must find.

Each fault is a change in the source of one function: the old text and the new text. `python tests/simulation/faults.py`
says for each fault how many worlds it took to find it: the median of some runs from different seeds.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import statistics
import sys
import textwrap
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from world import Failure, run

from algolia_usertoken.events import crew, engine, outbox, queue, retries, sending, sqlite, suspects, threads, worker


class Fault(NamedTuple):
    """A fault: its name, the function it is in, and the change of its source."""

    name: str
    where: Any
    function: str
    old: str
    new: str
    seed: int | None = None  # the seed of a world that finds it, for the everyday tests


FAULTS = (
    Fault(
        "a part is lost when a refused group is halved",
        suspects.Suspects, "refused", "self._wait_again(pool, search.rest)", "pass", 2000000,
    ),
    Fault(
        "no pause where Retry-After is 0",
        retries, "pause_s",
        "if asked is not None and asked > pause:  # False for nan\n        pause = min(asked, LONGEST_PAUSE_S)",
        "if asked is not None and asked <= LONGEST_PAUSE_S:\n        pause = asked",
        2000003,
    ),
    Fault(
        "the back-off overflows after 1,024 failures",
        retries, "pause_s", "max(0, min(attempt, _ENOUGH_DOUBLINGS))", "attempt", 3000038,
    ),
    Fault(
        "an answer that comes after all was given up counts too",
        queue.Core, "answered", "if group.abandoned:", "if False:", 2000001,
    ),
    Fault(
        "a flush ends no pause",
        queue.Core, "flush", "self._pause_until = min(self._pause_until, soon)", "pass", 5000011,
    ),
    Fault(
        "a process that was stopped does not ask what is still its own",
        engine.Engine, "confirm", "if self.in_memory:", "if True:", 1001012,
    ),
    Fault(
        "the rest of a call site is given up too early",
        suspects.Suspects, "_most_singles", "SINGLES_IF_NONE_ACCEPTED", "8", 8000011,
    ),
    Fault(
        "all call sites are given up too early",
        suspects.Suspects, "refused", "self._samples_refused >= SINGLES_IF_NONE_ACCEPTED", "self._samples_refused >= 8",
        8000011,
    ),
    Fault(
        "close sets `closed` after its last look",
        engine.Engine, "close_if_empty",
        "notify_every, self.notify_every = self.notify_every, 1  # each event notifies, whatever `idle` is\n"
        "            self.closed = self.idle = True  # before the last look\n"
        "            is_empty = self.is_settled(sys.maxsize)",
        "notify_every, self.notify_every = self.notify_every, 1\n"
        "            is_empty = self.is_settled(sys.maxsize)\n"
        "            self.idle = True",
        1000492,
    ),
    Fault(
        "a thread that ends takes no last look",
        crew.Crew, "_look", "if not self._background or not len(engine.queue):", "if True:", 1000146,
    ),
    Fault(
        "`idle` is set after the look at the queue",
        engine.Engine, "next",
        "self.idle = True  # before the look at the queue\n            waiting = len(self.queue)",
        "waiting = len(self.queue)\n            self.idle = True",
    ),
    Fault(
        "a pool is forgotten while one of its requests is tried again",
        suspects.Pool, "is_empty", "or self.on_their_way", "",
    ),
    Fault(
        "what was given up is sent all the same",
        sending.Sending, "attempt", "if group.abandoned:", "if False:",
    ),
    Fault(
        "with background=False a thread whose flush is over goes on looking",
        crew.Crew, "_look", "if not self._background or not len(engine.queue):", "if not len(engine.queue):",
    ),
    Fault(
        "what is left in the outbox counts as settled",
        queue.Core, "let_go", "self.taken = min(self.taken, suspect.taken.first)", "pass",
    ),
    Fault(
        "the outbox has a lock of its own",
        outbox.SQLiteOutbox, "share_lock", "self._mutex = lock", "pass",
    ),
    Fault(
        "a flush does not wait for what is being read from the file",
        outbox.SQLiteOutbox, "__len__", " + self._read", "", 8000003,
    ),
)  # fmt: skip

# Faults that the sender once had and the worlds have found, put in again.
FOUND = (
    Fault(
        "who waits for a thread keeps the lock meanwhile",
        threads, "bounded",
        "with lock:\n            lock.wait_for(lambda: is_done, for_a_lock(max(MOMENT_S, seconds)))",
        "thread.join(for_a_lock(max(MOMENT_S, seconds)))",
    ),
    Fault(
        "what a close has given up is concluded again when it is written off",
        queue.Core, "written_off", "if group.abandoned:", "if False:",
    ),
    Fault(
        "an exit or a close does not wait for who tells what is given up",
        worker.Worker, "abandon", "if seconds < math.inf and not self.asked_by_on_error():", "if False:",
    ),
    Fault(
        "a flush after a close has an event not notify that is let in late",
        engine.Engine, "close_full", "self.notify_every = 1", "pass",
    ),
    Fault(
        "a flush that a close interrupts is done too early",
        engine.Engine, "_waiting", "if taken == self.core.taken:", "if True:",
    ),
    Fault(
        "a flush tells of what it leaves behind, however long that takes",
        crew.Crew, "write_off",
        "bounded(self._write_off, until + ON_ERROR_S - time.monotonic(), self.lock)",
        "self._write_off()",
    ),
    Fault(
        "events of thirty days wait behind later ones",
        outbox.SQLiteOutbox, "_sorted_out", "if others:", "if False:",
    ),
    Fault(
        "what is back in the queue is behind what is told",
        queue.Core, "let_go", "taken.first = min(taken.first, self.taken)", "pass",
    ),
    Fault(
        "who delivers in his own thread is not counted",
        crew.Crew, "_has_room", " + self._is_helped", "",
    ),
    Fault(
        "a driver takes events out of memory, and they are not counted meanwhile",
        engine.Engine, "next", "while isinstance(action, Take) and self.in_memory:",
        "if isinstance(action, Take) and self.in_memory:",
    ),
    Fault(
        "after a stop, the exit does not wait for who is telling",
        worker.Worker, "abandon", "max(MOMENT_S, until - time.monotonic())", "until - time.monotonic()",
    ),
    Fault(
        "where a thread has ended already, its caller delivers",
        worker.Worker, "flush", "self._crew.is_empty and self._crew.starts_none", "self._crew.is_empty",
    ),
    Fault(
        "who interrupts the start of a thread waits for that thread",
        crew.Crew, "_starts", "sum(starter != ident for starter in starters)", "len(starters)",
    ),
    Fault(
        "who delivers at the exit does not wait for another thread that has taken what is left",
        worker.Worker, "drain", "if outer is not None or not self._others_deliver(deadline):", "if True:",
    ),
    Fault(
        "a flush overlooks that events are back in the outbox",
        engine.Engine, "_asked", "if moves == self.core.moves:", "if True:",
    ),
    Fault(
        "a call that does not wait for the file ends the wait of others",
        sqlite.Connection, "run", "if may_wait:", "if True:",
    ),
    Fault(
        "an exit amid the last look of a close finds the sender closed",
        worker.Worker, "begin_exit", "self._engine.is_over", "self._engine.closed",
    ),
    Fault(
        "what one close has closed is opened by another",
        engine.Engine, "close_if_empty", "self.is_over = is_empty or self.is_over", "self.is_over = is_empty",
    ),
    Fault(
        "a close tells for so long that no time is left to close the delivery",
        worker.Worker, "close", "deadline + ON_ERROR_S", "deadline + GRACE_S",
    ),
)  # fmt: skip


@contextlib.contextmanager
def put_in(fault: Fault) -> Iterator[None]:
    """Keep the fault in the sender while the block runs."""
    original = fault.where.__dict__[fault.function]
    is_property = isinstance(original, property)
    function = original.fget if is_property else original
    source = textwrap.dedent(inspect.getsource(function))
    old, new = fault.old, fault.new
    if inspect.isclass(fault.where):  # the source has lost four spaces of each line
        old, new = (text.replace("\n    ", "\n") for text in (old, new))
    if source.count(old) != 1:
        raise LookupError(f"{fault.function} has changed: adapt the fault {fault.name!r}")
    home: dict[str, Any] = sys.modules[function.__module__].__dict__
    made: dict[str, Any] = {}
    code = compile("from __future__ import annotations\n" + source.replace(old, new), f"<{fault.name}>", "exec")
    exec(code, home | {"__builtins__": home["__builtins__"]}, made)
    changed = made[fault.function]
    plain = changed.fget if isinstance(changed, property) else changed
    bound = types.FunctionType(plain.__code__, home, plain.__name__, plain.__defaults__, plain.__closure__)
    bound.__kwdefaults__ = plain.__kwdefaults__
    setattr(fault.where, fault.function, property(bound) if is_property else bound)
    try:
        yield
    finally:
        setattr(fault.where, fault.function, original)


def worlds_until_found(fault: Fault, first_seed: int, most: float = math.inf) -> tuple[int, str]:
    """How many worlds it takes from this seed on, and the failure of the last one; 0 if `most` worlds do not fail."""
    with put_in(fault):
        for number in itertools.count(1):
            if number > most:
                return 0, "not found"
            try:
                run(first_seed + number - 1)
            except Failure as failure:
                return number, str(failure)
    raise AssertionError


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    chosen = sys.argv[2] if len(sys.argv) > 2 else ""
    for fault in FAULTS + FOUND:
        if chosen not in fault.name:
            continue
        numbers: list[int] = []
        for number in range(runs):
            found, what = worlds_until_found(fault, 1_000_000 * (number + 1))
            numbers.append(found)
            print(f"    {found:6d}  {what}", flush=True)
        print(f"{statistics.median(numbers):6.0f}  {fault.name}  {numbers}", flush=True)


if __name__ == "__main__":
    main()
