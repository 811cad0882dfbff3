"""A world drawn from a seed: processes that send events, a server with moods, a file, clocks, and rules to check.

`run(seed)` plays one world, and raises a `Failure` that names the seed if a rule is violated. The real worker, core and
outbox run in virtual time (`virtual.py`). All rules are checked from outside: the world keeps its own records of which
events `put` took, what the server accepted and answered, what `on_error` was told, and which process held which events.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import itertools
import logging
import math
import os
import pathlib
import re
import shutil
import sqlite3
import tempfile
import types
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from greenlet import GreenletExit
from virtual import Failure, Hub, Task, modules

from algolia_usertoken.errors import (
    BatchRejectedError,
    DeliveryError,
    OutboxError,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
)
from algolia_usertoken.events import (
    crew,
    engine,
    keeper,
    outbox,
    process,
    queue,
    reporting,
    rows,
    sending,
    sqlite,
    suspects,
    threads,
    worker,
)
from algolia_usertoken.events.engine import MemoryQueue
from algolia_usertoken.events.in_flight import Done, InFlight
from algolia_usertoken.events.retries import Answer

NUMBER = re.compile(rb'"n": ?(\d+)')
AFTERMATH_S = 70.0  # how long pauses may last after trouble
BOUND_S = 0.5  # how much longer than their time-out flush, close and exit may take
PROMPT_S = 1.5  # how long after flush_interval an event is delivered at the latest if nothing is wrong

MOODS = (
    "accept", "refuse all", "5xx", "5xx after", "retry after", "late", "trickle", "hang", "hang on", "vanish",
    "vanish after", "unauthorized", "fatal", "odd", "mixed",
)  # fmt: skip


class CutQueue(MemoryQueue):
    """A queue with cuts around each access, at which interruptions come more often than elsewhere."""

    hub: Hub
    on_threshold: list[Task]  # tasks that found room, but have not appended yet

    def __init__(self) -> None:
        super().__init__()
        self.on_threshold = []

    def glance(self) -> int:
        return len(self)

    def __len__(self) -> int:
        hub = self.hub
        if hub.current is None:
            return super().__len__()
        hub.cut()
        length = super().__len__()
        if self.on_threshold and hub.process.takes_last_look:
            hub.let_others_run(self.on_threshold)
        hub.door()
        return length

    def append(self, event: bytes, /) -> None:
        hub, task = self.hub, self.hub.current
        hub.door()
        if hub.p_at_door and task is not None and not task.depth and hub.random.random() < hub.p_at_door / 3:
            self.on_threshold.append(task)  # until a close that this task has not noticed, or for a second
            hub.wait(hub.now + 1.0)
            if task in self.on_threshold:
                self.on_threshold.remove(task)
        super().append(event)
        hub.door()

    def append_all(self, events: Sequence[bytes], /) -> None:  # type: ignore[override]
        self.hub.door()
        super().extend(events)
        self.hub.door()


class Attempt:
    """A request: its events, when it started, and whether the server took them."""

    def __init__(self, numbers: list[int], start: float) -> None:
        self.numbers = numbers
        self.start = start
        self.until = math.inf  # the time by which there should be an answer
        self.accepted = False


class Process:
    """A process with one sender, and the world's records about it."""

    def __init__(self, world: World, name: str, options: dict[str, Any], on_error: str) -> None:
        self.world, self.name, self.options, self.on_error_kind = world, name, options, on_error
        self.dead = self.stopped = self.starts_no_thread = False
        self.worker: worker.Worker | None = None
        self.outbox: outbox.SQLiteOutbox | None = None
        self.is_busy = False  # a close or an exit is running, which no other operation may overlap
        self.closed = self.closing = self.exiting = self.is_exact = False
        self.takes_last_look = False  # a close checks whether the queue is empty, before it marks the sender closed
        self.closing_since = math.inf  # when a close or an exit began
        self.close_at = math.inf  # when the time-out of its close or exit ends
        self.exit_took = 0.0
        self.putting: set[int] = set()  # events of `put` calls that have not returned
        self.accepted = 0
        self.open: dict[int, float] = {}  # events that `put` took and that have no outcome, with the time since
        self.in_hand: set[int] = set()  # events from the check that they are ours until their removal
        self.given_up_by: dict[int, Task | None] = {}  # who has given up an event, and is about to tell
        self.attempts: list[Attempt] = []  # the requests that are running
        self.first_sent: dict[int, float] = {}
        self.not_before: dict[int, tuple[float, float]] = {}  # when an event failed, and when it may be sent again
        self.back: set[int] = set()  # events that an exit had no time for, and put back into the file
        self.suspect_since: dict[int, float] = {}
        self.singles: Counter[str] = Counter()  # by site, how many events in a row were refused alone
        self.singles_of_all = 0  # how many suspects in a row were refused alone, of all sites
        self.suspects_accepted: dict[str, float] = {}  # by site, when a suspect was last accepted
        self.concluded: set[str] = set()
        self.last_start = self.hurried = -math.inf
        self.before: tuple[int, ...] = (0,) * 7
        self.stats_in = 0

    def __repr__(self) -> str:
        return self.name

    @property
    def is_alive(self) -> bool:
        return not self.dead and self.worker is not None

    def boot(self) -> None:
        """Create the sender."""
        world = self.world
        if world.path is not None:
            try:
                self.outbox = outbox.SQLiteOutbox(world.path, lease=world.lease)
            except OutboxError:
                self.dead = True
                return
        reporter = reporting.Reporter(self.on_error)
        self.worker = worker.Worker(SimDelivery(self), reporter, self.outbox, **self.options)

    def fork(self, child: Process) -> None:
        """Fork: make `child` a copy of this process."""
        assert self.worker is not None
        mine = sqlite._holders
        sqlite._holders = weakref.WeakSet([self.outbox] if self.outbox is not None else [])
        try:
            sqlite._before_fork()
            made = copy.copy(self.worker)  # belongs to the child once it has run its fork hooks
            made._reporter = copy.copy(self.worker._reporter)
            made._reporter.on_error = child.on_error
            made._delivery = SimDelivery(child)
            inherited: list[sqlite.Connection] = []
            if self.outbox is not None:
                child.outbox = made._outbox = object.__new__(outbox.SQLiteOutbox)
                child.outbox.__dict__.update(self.outbox.__dict__)
                inherited = [one for one in self.outbox.connections if one.is_open]
            sqlite._after_fork_in_parent()
        finally:
            sqlite._holders = mine
        if inherited:  # a thread was inside a call: the child can't use the file
            child.outbox._closed = child.dead = True  # type: ignore[union-attr]
            return

        def start() -> None:
            if child.outbox is not None:
                child.outbox.start_again([])
            made.start_empty()
            child.worker = made

        self.world.hub.spawn(child, start, "the fork")

    # The calls of the application, and what they lead to.

    def put(self, events: int, *, together: bool = False) -> None:
        assert self.worker is not None
        made = [self.world.new_event(self) for _ in range(events)]
        groups = [made] if together else [[one] for one in made]
        for group in groups:
            numbers = [number for number, _ in group]
            self.putting.update(numbers)
            was_closed, start = self.closed, self.world.hub.now
            try:
                texts = [text for _, text in group]
                taken = self.worker.put_all(texts) if together else self.worker.put(texts[0])
            finally:
                self.putting.difference_update(numbers)
            self.world.has_put(self, numbers, taken, start, was_closed)

    def flush(self, timeout: float | None) -> bool:
        assert self.worker is not None
        world, hub = self.world, self.world.hub
        before = set(self.open)
        start, frozen = hub.now, world.stopped_for(self)
        self.hurried = start
        on_its_way = bool(self.attempts)
        lone = not (self.exiting or self.starts_no_thread)
        result = self.worker.flush(timeout)
        took = hub.now - start - (world.stopped_for(self) - frozen)
        # After the exit hook, a caller delivers in its own thread, and other callers wait for it.
        is_bounded = timeout is not None and not self.starts_no_thread and self.close_at > -math.inf
        if is_bounded and took > timeout + BOUND_S:  # type: ignore[operator]
            raise Failure(f"{self}: flush({timeout}) took {took:.3f} s")
        left = before & self.open.keys()
        # An event that is sent inside of on_error at the very end is given up at once, and told when on_error is done.
        told_later = self.worker._late and self.on_error_kind in ("flushes", "puts")
        if result and not told_later and (left := world.still_own(self, left)):
            raise Failure(f"{self}: flush has returned True, and {sorted(left)[:5]} of {len(left)} are not settled")
        asked = world.telling_depth(hub.current)
        if not result and lone and timeout is not None and timeout >= 0.5 and left and not asked:
            is_slow = self.on_error_kind in ("slow", "puts")  # the delivering thread may be inside of on_error
            # A signal handler may close while the thread that it interrupts uses the file, which no other can use then.
            is_held_up = on_its_way or is_slow or (self.closing and self.outbox is not None)
            if world.file_trouble < start and took > 0.45 and not (is_held_up or start <= self.last_start):
                raise Failure(f"{self}: flush({timeout}) has ended no pause")
            needed = 2 + world.most_latency * (2 + len(before) / self.options["batch_size"])
            if timeout >= 5 and timeout > needed and world.trouble < start - AFTERMATH_S and not self.closing:
                raise Failure(f"{self}: flush({timeout}) has returned False, and nothing is wrong")
        return result

    def close(self, timeout: float | None) -> bool:
        assert self.worker is not None
        world, hub = self.world, self.world.hub
        limit = self.worker.close_timeout if timeout is None else timeout
        start, frozen = hub.now, world.stopped_for(self)
        first, self.closing = not self.closing, True
        self.closing_since = min(self.closing_since, start)
        self.hurried, self.close_at = start, min(self.close_at, start + limit)
        before = set(self.open)
        result = self.worker.close(timeout)
        took = hub.now - start - (world.stopped_for(self) - frozen)
        if not self.starts_no_thread and took > limit + BOUND_S:
            raise Failure(f"{self}: close({limit}) took {took:.3f} s")
        if world.telling_depth(hub.current) and not self.worker._engine.is_over:  # called inside of on_error
            return result
        left = before & self.open.keys()
        if result and (left := world.still_own(self, left)):
            raise Failure(f"{self}: close has returned True, and {sorted(left)[:5]} of {len(left)} are not settled")
        self.closed = True
        # A signal handler can't wait for the code that it has interrupted.
        interrupts_who_tells = hub.current is not None and world.writing_off[hub.current.ident] > 0
        if first and self.outbox is None and left and self.on_error_kind != "slow" and not interrupts_who_tells:
            raise Failure(f"{self}: close({limit}) leaves {sorted(left)[:5]} of {len(left)} without a word")
        return result

    def exit(self, with_threads: bool) -> None:
        """Exit as the interpreter does."""
        assert self.worker is not None
        world, hub = self.world, self.world.hub
        self.exiting = True
        self.starts_no_thread = not with_threads
        start, frozen = hub.now, world.stopped_for(self)
        self.hurried, self.close_at = start, min(self.close_at, start + self.worker.close_timeout)
        before = set(self.open)
        self.closing_since = min(self.closing_since, start)
        process._finish_all([self.worker], start)
        before |= self.open.keys()
        self.worker.be_late()
        process._finish_all([self.worker], start)
        took = hub.now - start - (world.stopped_for(self) - frozen)
        self.exit_took += took
        if with_threads and took > self.worker.close_timeout + BOUND_S:
            raise Failure(f"{self}: the exit took {took:.3f} s, and close_timeout is {self.worker.close_timeout}")
        left = before & self.open.keys()
        # Another thread tells of them, once what has interrupted it is done: a `__del__` that sends and delivers.
        left -= {number for number, giver in self.given_up_by.items() if giver is not None and giver.depth}
        if self.outbox is None and left and self.on_error_kind != "slow":
            raise Failure(f"{self}: the exit leaves {sorted(left)[:5]} of {len(left)} without a word")
        self.close_at = -math.inf
        if hub.random.random() < 0.3:
            self.put(hub.random.randint(1, 3))
        self.world.ends(self)

    def signal(self) -> None:
        """Handle a signal that ends the process after the queued events are delivered."""
        assert self.worker is not None
        self.exiting = True
        self.close_at = self.world.hub.now
        self.flush(self.worker.close_timeout)
        self.hurried = self.world.hub.now
        if self.worker.begin_exit():
            self.worker.finish_exit(0)
        self.world.ends(self)

    def on_error(self, error: Exception, events: Sequence[Any]) -> None:
        numbers = [event["n"] for event in events]
        world, hub = self.world, self.world.hub
        world.told(self, error, numbers)
        kind, luck = self.on_error_kind, hub.random.random()
        assert self.worker is not None
        if kind == "slow" and luck < 0.5:
            # on_error does not sleep in a `__del__` that interrupts a thread with the lock, as all others would have to
            # wait. The sender promises nothing for this case.
            if hub.current is None or self.worker._crew.lock.lock.owner is not hub.current:
                hub.sleep(luck * 4)
        elif kind == "raises" and luck < 0.5:
            raise (ValueError if luck < 0.3 or hub.has_caller else SystemExit)("on_error")
        elif kind == "flushes" and luck < 0.3:
            self.hurried = hub.now
            world.enter_telling(hub.current, 1)
            try:
                self.worker.flush(0.1)
            finally:
                world.enter_telling(hub.current, -1)
        elif kind == "puts" and luck < 0.1:
            self.put(1)


class SimDelivery:
    """The delivery to the simulated server."""

    def __init__(self, owner: Process) -> None:
        self.owner = owner
        self.running = 0

    def deliver(self, batch: Any, timeout: float) -> None:
        owner = self.owner
        world, hub = owner.world, owner.world.hub
        numbers = [int(number) for number in NUMBER.findall(batch.body)]
        attempt = Attempt(numbers, hub.now)
        world.starts(owner, attempt, timeout)
        self.running += 1
        most = owner.options["concurrency"] if owner.options["background"] else 1
        if self.running - world.left_behind(owner) > most:
            raise Failure(f"{owner}: {self.running} threads deliver, and {most} may")
        try:
            world.serve(owner, attempt, timeout)
        except GreenletExit:
            raise
        except BaseException as error:
            world.answered(owner, attempt, error)
            raise
        else:
            world.answered(owner, attempt, None)
        finally:
            self.running -= 1
            owner.attempts.remove(attempt)

    def close(self) -> None:
        hub = self.owner.world.hub
        if hub.random.random() < 0.1:
            hub.sleep(hub.random.random())


class World:
    """A world, as the docstring of this module describes it.

    Args:
        seed: The seed of everything that happens.
        directory: The directory for the file of the outbox.
    """

    def __init__(self, seed: int, directory: pathlib.Path) -> None:
        self.seed = seed
        self.hub = Hub(seed, self.interrupt, self.after_step)
        draw = self.draw = self.hub.random
        self.hub.set_luck(draw.choice((0.0, 0.02, 0.1, 0.3)), draw.choice((0.0, 0.0, 0.003, 0.02, 0.08)))
        self.hub.p_at_door = draw.choice((0.0, 0.0, 0.05, 0.3))
        self.path: str | None = None
        self.memory: sqlite3.Connection | None = None  # to an outbox in memory, which halves the cost of SQLite
        if draw.random() < 0.4:
            self.path = str(directory / f"{seed}.db")
            if draw.random() < 0.85 and has_memory_files():
                self.memory = in_memory(self.path)
                template_in_memory(directory).backup(self.memory)
            else:
                shutil.copyfile(template(directory), self.path)
                os.chmod(self.path, 0o600)
        self.lease = draw.choice((9.0, 30.0, 30.0))  # each third of a lease costs as much time as a few events
        self.is_long = self.path is None and draw.random() < 0.015  # has few events, but many requests
        # The event of an interruption makes more cuts, so without a limit there would be interruptions without end.
        self.interruptions_left = 5 if self.is_long else 100
        self.next_interruption = 0.0  # the earliest time of the next one if none are left
        self.is_healthy = not self.is_long and draw.random() < 0.3
        self.mood = "accept"
        self.locked_until = self.full_until = self.file_trouble = -math.inf
        self.trouble = -math.inf
        self.most_latency = draw.choice((0.0, 0.02, 0.05, 0.3))
        self.sites = draw.choice((1, 3, 8))
        self.bad_sites = {f"s{i}" for i in range(self.sites) if draw.random() < draw.choice((0.0, 0.0, 0.3, 1.0))}
        self.bad_rate = draw.choice((0.0, 0.0, 0.01, 0.2, 0.9))
        if self.is_healthy:
            self.bad_sites, self.bad_rate = set(), 0.0
        elif draw.random() < 0.5:
            self.mood = draw.choice(MOODS)
        self.numbers = itertools.count(1)
        self.processes: list[Process] = []
        self.owner_of: dict[int, Process] = {}
        self.site_of: dict[int, str] = {}
        self.is_bad: dict[int, bool] = {}
        self.sure: set[int] = set()  # events that `put` took
        self.refused: set[int] = set()  # events that `put` did not take
        self.delivered: Counter[int] = Counter()
        self.conclusions: Counter[int] = Counter()  # how often `on_error` was told that an event is rejected or failed
        self.refused_alone: set[int] = set()
        self.excused: set[int] = set()  # events that may arrive twice
        self.moved: set[int] = set()  # adopted events; `put` may return after the adoption
        self.lost: set[int] = set()  # events that were in the memory of a process that crashed
        self.deadlines: list[tuple[float, float, int, Process]] = []  # nearly sorted
        self.telling: Counter[int] = Counter()
        self.writing_off: Counter[int] = Counter()
        self.frozen: dict[Process, float] = defaultdict(float)
        self.held_up: dict[Process, float] = defaultdict(float)
        self.holding_up: dict[Task, tuple[Process, float]] = {}  # the same, of interruptions that have not ended
        self.stopped_at: dict[Process, float] = {}
        self.forking = False
        self.number_of_processes = itertools.count(1)

    # Records.

    def new_event(self, owner: Process) -> tuple[int, bytes]:
        number = next(self.numbers)
        site = f"s{self.draw.randrange(self.sites)}"
        self.is_bad[number] = site in self.bad_sites or self.draw.random() < self.bad_rate
        self.owner_of[number] = owner
        timestamp = f', "timestamp": {int(self.hub.wall() * 1000)}' if self.draw.random() < 0.2 else ""
        self.site_of[number] = f"{site}, timed" if timestamp else site  # as the fields of an event belong to its kind
        return number, b'{"eventName": "%s", "n": %d%s}' % (site.encode(), number, timestamp.encode())

    def has_put(self, owner: Process, numbers: list[int], taken: bool, start: float, was_closed: bool) -> None:
        if not taken:
            self.refused.update(numbers)
            return
        if was_closed and not owner.exiting:
            raise Failure(f"{owner}: an event was taken after close")
        self.sure.update(numbers)
        owner.accepted += len(numbers)
        now = self.hub.now
        for number in numbers:
            if not self.delivered[number] and not self.conclusions[number] and number not in self.moved:
                owner.open[number] = now
        options = owner.options
        if options["background"] and not owner.closing and not owner.exiting and self.trouble < start - AFTERMATH_S:
            batches = 1 + len(owner.open) / options["batch_size"]
            limit = now + options["flush_interval"] + PROMPT_S + 2 * batches * self.most_latency
            self.deadlines += [(limit, start, number, owner) for number in numbers]

    def has_outcome(self, number: int) -> None:
        for one in self.processes:
            one.open.pop(number, None)

    def is_trouble(self, until: float | None = None) -> None:
        self.trouble = max(self.trouble, self.hub.now if until is None else until)

    def told(self, owner: Process, error: Exception, numbers: list[int]) -> None:
        if not numbers:
            return
        if isinstance(error, OutboxError):  # the events were not taken, or not removed from the file
            return
        what = str(error)
        now = self.hub.now
        came_in_late = {number for number in numbers if owner.open.get(number, now) >= owner.closing_since}
        for number in numbers:
            self.conclusions[number] += 1
            self.has_outcome(number)
        if owner.outbox is not None:  # if it ends before their removal, the next process reports them again
            owner.in_hand.update(numbers)
        if "has not answered in time" in what:
            self.excused.update(owner.in_hand.intersection(numbers))
        if "closed" in what or "exited" in what:
            self.excused.update(owner.in_hand.intersection(numbers))
            late = [number for number in numbers if number not in came_in_late]
            # A delivery in the exiting thread gives up early if the next attempt would come too late.
            in_time = now < owner.close_at - 1e-3 and not owner.starts_no_thread
            if late and not owner.closed and in_time:
                raise Failure(f"{owner}: {late[:5]} of {len(late)} are given up ({what}), and there was time")
        elif "given up after" in what:
            first = min(owner.first_sent.get(number, now) for number in numbers)
            if now + 60.01 - first < owner.options["max_retry_time"]:
                raise Failure(f"{owner}: {numbers[:5]} were given up after {now - first:.1f} s ({what})")

    def heard(self, owner: Process, group: InFlight, answer: Answer, concluded: list[Done]) -> None:
        """Check which events the core rejects; called at once, as the answers to other requests count afterwards."""
        numbers = numbers_in(group.events)
        sites = {self.site_of[number] for number in numbers}
        suspected = numbers & owner.suspect_since.keys()
        if answer.kind == "delivered":
            owner.singles_of_all = 0
            owner.concluded -= sites
            for site in {self.site_of[number] for number in suspected}:
                owner.singles[site] = 0
                owner.suspects_accepted[site] = self.hub.now
        elif answer.kind == "refused":
            if len(numbers) == 1 and suspected:
                owner.singles_of_all += 1
                owner.singles.update(sites)
            for done in concluded:
                self._rejected(owner, list(numbers_in(done.group.events)))

    def _rejected(self, owner: Process, numbers: list[int]) -> None:
        if self.refused_alone.issuperset(numbers):
            return
        sites = {self.site_of[number] for number in numbers}
        site = self.site_of[numbers[0]]
        needed = suspects.SINGLES_IF_NONE_ACCEPTED
        if site in owner.concluded:
            needed = min(needed, suspects.SINGLES_AFTER_CONCLUSION)
        since = min(owner.suspect_since.get(number, math.inf) for number in numbers)
        if owner.suspects_accepted.get(site, -math.inf) > since:
            needed = suspects.SINGLES_IF_SOME_ACCEPTED
        if len(sites) > 1 or owner.singles[site] < needed:  # else one site by itself, which says nothing of the others
            if owner.singles_of_all < suspects.SINGLES_IF_NONE_ACCEPTED:
                what = f"{len(numbers)} events of {', '.join(sorted(sites))} are rejected after {owner.singles[site]}"
                raise Failure(f"{owner}: {what} refused alone, and {needed} are needed")
            owner.singles_of_all = 0  # nothing at all was accepted
        owner.concluded.update(sites)
        for given_up in sites:
            owner.singles[given_up] = 0

    # Requests.

    def starts(self, owner: Process, attempt: Attempt, timeout: float) -> None:
        now = self.hub.now
        for other in owner.attempts:
            if now > other.until:  # it is left behind, and its events are sent once more
                self.excused.update(other.numbers)
        attempt.until = now + timeout
        owner.attempts.append(attempt)
        owner.last_start = now
        if not 0 < timeout <= 30:
            raise Failure(f"{owner}: a request may take {timeout} s")
        if not attempt.numbers:
            raise Failure(f"{owner}: an empty request")
        if len(attempt.numbers) > owner.options["batch_size"]:
            raise Failure(f"{owner}: {len(attempt.numbers)} events in a request")
        if not (self.refused.isdisjoint(attempt.numbers)):
            raise Failure(f"{owner}: events are sent that put did not take")
        for number in attempt.numbers:
            owner.first_sent.setdefault(number, now)
            failed_at, not_before = owner.not_before.get(number, (0.0, 0.0))
            if now < failed_at + 0.0999:
                raise Failure(f"{owner}: {number} is sent {now - failed_at:.4f} s after it failed")
            if now < not_before - 1e-3 and owner.hurried < failed_at:
                raise Failure(f"{owner}: {number} is sent {not_before - now:.3f} s too early")

    def left_behind(self, owner: Process) -> int:
        """How many requests have had no answer in time, so that another thread may deliver beside theirs.

        The server hangs, or the process was stopped inside of `deliver`: when it goes on, a flush may look before the
        thread that delivers has a chance to see the answer. With background=True, no thread is left behind.
        """
        if owner.options["background"]:
            return 0
        now = self.hub.now
        return sum(now > attempt.until + worker.GRACE_S / 2 for attempt in owner.attempts)

    def serve(self, owner: Process, attempt: Attempt, timeout: float) -> None:
        """Decide the outcome of a request, by the mood of the server."""
        hub, draw = self.hub, self.draw
        mood = self.mood
        if mood == "mixed":
            mood = draw.choice(MOODS[:-1]) if draw.random() < 0.5 else "accept"
        if mood != "accept":
            self.is_trouble()
        latency = draw.random() * self.most_latency
        numbers = attempt.numbers
        if mood == "hang":
            hub.sleep(timeout)
            raise TimeoutError("no answer")
        if mood == "trickle":
            self.accept(owner, attempt)
            hub.sleep(timeout)
            raise TimeoutError("no whole answer")
        if mood == "hang on":
            until = hub.now + timeout + draw.random() * 100
            self.is_trouble(until)
            self.excused.update(numbers)
            hub.sleep(until - hub.now)
            if draw.random() < 0.5:
                raise TimeoutError("no answer")
        if mood == "late":
            latency = draw.random() * timeout * 0.95
        if latency > timeout:
            if not any(self.is_bad[number] for number in numbers):
                self.accept(owner, attempt)
            hub.sleep(timeout)
            raise TimeoutError("no answer in time")
        hub.sleep(latency)
        if mood == "refuse all" or any(self.is_bad[number] for number in numbers):
            self.is_trouble()
            raise BatchRejectedError("refused")
        if mood == "unauthorized":
            raise UnauthorizedDeliveryError("no such key")
        if mood == "fatal":
            raise DeliveryError("fatal")
        if mood == "odd":
            raised = draw.choice((ValueError, SystemExit, RecursionError))
            raise (ValueError if hub.has_caller else raised)("odd")  # a caller would get SystemExit, as with Ctrl-C
        if mood == "vanish":
            raise ConnectionResetError("gone")
        if mood == "5xx":
            raise RetryableDeliveryError("503")
        if mood == "retry after":
            raise RetryableDeliveryError("429", draw.choice((0, -10, 0.01, 3, 30, 1e6, 10**400, math.nan, math.inf)))
        self.accept(owner, attempt)
        if mood == "5xx after":
            raise RetryableDeliveryError("500")
        if mood == "vanish after":
            raise ConnectionResetError("gone")

    def accept(self, owner: Process, attempt: Attempt) -> None:
        attempt.accepted = True
        for number in attempt.numbers:
            self.delivered[number] += 1

    def answered(self, owner: Process, attempt: Attempt, error: BaseException | None) -> None:
        now = self.hub.now
        numbers = attempt.numbers
        if now > attempt.until:  # for example, the process was stopped: its events may be sent once more
            self.excused.update(numbers)
        if error is None:
            for number in numbers:
                self.has_outcome(number)
                owner.not_before.pop(number, None)
            return
        self.is_trouble()
        if isinstance(error, BatchRejectedError):
            if len(numbers) == 1:
                self.refused_alone.add(numbers[0])
            else:
                for number in numbers:
                    owner.suspect_since.setdefault(number, now)
            return
        if attempt.accepted:
            self.excused.update(numbers)
        if now > attempt.until:
            return
        if isinstance(error, (OSError, RetryableDeliveryError)):
            asked = getattr(error, "delay", None)
            try:
                asked = min(60.0, float(asked)) if asked is not None and asked > 0 else 0.0
            except OverflowError:
                asked = 60.0
            for number in set(numbers) - owner.back:
                owner.not_before[number] = now, now + asked
        if isinstance(error, (OSError, RetryableDeliveryError, UnauthorizedDeliveryError)):
            owner.in_hand.difference_update(numbers)

    # The file.

    def adopted(self, dead: int, new: list[bytes]) -> None:
        numbers = [int(NUMBER.findall(text)[0]) for text in new]
        self.moved.update(numbers)
        for one in self.processes:
            if one.outbox is not None and one.outbox._owner == dead:
                self.excused.update(one.in_hand.intersection(numbers))
                for number in numbers:
                    one.open.pop(number, None)
        self.is_trouble()

    def still_own(self, owner: Process, numbers: set[int]) -> set[int]:
        """The events among these that no other process has taken over, maybe in a call that has not returned yet."""
        if not numbers or self.path is None:
            return numbers
        assert owner.outbox is not None
        found = numbers_in(self.texts("owner != ?", owner.outbox._owner))
        return numbers - found

    def texts(self, condition: str, *parameters: Any) -> list[bytes]:
        """The texts of some events in the file."""
        assert self.path is not None
        connection = self.memory or sqlite3.connect(self.path)
        found = connection.execute(f"SELECT CAST(body AS BLOB) FROM events WHERE {condition}", parameters).fetchall()
        if self.memory is None:
            connection.close()
        return [text for (text,) in found]

    # Processes.

    def new_process(self, parent: Process | None = None) -> Process:
        draw = self.draw
        name = f"process {next(self.number_of_processes)}"
        options: dict[str, Any] = {
            "max_queue_size": draw.choice((20, 200, 10_000)),
            "max_queue_bytes": draw.choice((2_000, 1 << 26, 1 << 26)),
            "batch_size": draw.choice((1, 5, 20, 1000)),
            "flush_interval": draw.choice((0.0, 0.05, 1.0, 5.0)),
            "concurrency": draw.choice((1, 1, 2, 3)),
            "max_retry_time": draw.choice((0, 1.0, 60.0, 3600.0, math.inf)),
            "close_timeout": draw.choice((0.1, 1.0, 5.0)),
            "background": draw.random() < 0.8,
        }
        if self.is_long:
            options.update(max_retry_time=math.inf, background=True)
        on_error = draw.choice(("quick", "quick", "slow", "raises", "flushes", "puts"))
        if parent is not None:
            options, on_error = parent.options, parent.on_error_kind
        made = Process(self, name, options, on_error)
        self.processes.append(made)
        if parent is None:
            self.hub.spawn(made, made.boot, "the start")
        else:
            parent.fork(made)
        return made

    def ends(self, owner: Process) -> None:
        """End the process at this moment."""
        self.is_trouble()
        owner.dead = True
        self.hub.disturb()
        if owner.outbox is None:
            self.lost.update(number for number in owner.open)
            self.lost.update(owner.putting)
        else:
            owner.outbox._closed = True
            for connection in owner.outbox.connections:
                if connection._connection is not None:
                    connection._connection.close()
        owner.open.clear()

    def stop(self, owner: Process) -> None:
        owner.stopped = True
        self.stopped_at[owner] = self.hub.now
        self.is_trouble()

    def go_on(self, owner: Process) -> None:
        if owner.stopped:
            owner.stopped = False
            self.frozen[owner] += self.hub.now - self.stopped_at.pop(owner)
            self.is_trouble()

    def stopped_for(self, owner: Process) -> float:
        """The seconds for which a call could not go on, as its process was stopped or an interruption ran inside it.

        An interruption of a task that holds the sender's lock, such as a `__del__`, keeps all others waiting, too.
        """
        task, now = self.hub.current, self.hub.now - self.frozen[owner]
        held_up = sum(
            now - since for one, (whose, since) in self.holding_up.items() if whose is owner and one is not task
        )
        return self.frozen[owner] + self.held_up[owner] + held_up + (0.0 if task is None else task.stolen)

    def telling_depth(self, task: Task | None) -> int:
        return self.telling[task.ident] if task is not None else 0

    def enter_telling(self, task: Task | None, step: int) -> None:
        if task is not None:
            self.telling[task.ident] += step

    # Interruptions.

    def interrupt(self, task: Task) -> None:
        """Run a `__del__` inside a task, or, if the task is a call of the application, perhaps a signal handler."""
        owner = task.process
        if owner.worker is None:
            return
        if self.interruptions_left:
            self.interruptions_left -= 1
        elif self.hub.now < self.next_interruption:
            return
        self.next_interruption = math.inf if self.is_long else self.hub.now + 2.0
        start = self.hub.now - self.frozen[owner]
        holds_the_lock = owner.worker._crew.lock.lock.owner is task
        if holds_the_lock:
            self.holding_up[task] = owner, start
        try:
            self.something_comes_in_between(task, owner)
        finally:
            took = self.hub.now - self.frozen[owner] - start
            if holds_the_lock:
                del self.holding_up[task]
                self.held_up[owner] += took
            else:
                task.stolen += took

    def something_comes_in_between(self, task: Task, owner: Process) -> None:
        luck = self.draw.random()
        if luck < 0.75 or not task.name.startswith("call"):
            with contextlib.suppress(SystemExit):  # Python ignores the errors of a `__del__`
                owner.put(1)
        elif luck < 0.9:
            owner.flush(self.draw.choice((0.0, 0.1)))
        elif not owner.closing and not owner.exiting:
            owner.close(self.draw.choice((0.0, 1.0)))

    # The rules that are checked after each step.

    def after_step(self, task: Task) -> None:
        self.check_counts(task.process)
        if self.deadlines and self.deadlines[0][0] < self.hub.now:
            self.check_deadlines()

    def check_deadlines(self) -> None:
        """Check that no event waits longer than necessary while nothing is wrong."""
        now = self.hub.now
        while self.deadlines and self.deadlines[0][0] < now:
            _, start, number, owner = self.deadlines.pop(0)
            is_over = number not in owner.open or owner.closing or owner.exiting or owner.dead
            if not is_over and self.trouble < start - AFTERMATH_S:
                raise Failure(f"{owner}: event {number} waits for nothing since {start:.3f} (now {now:.3f})")

    def check_counts(self, owner: Process) -> None:
        made = owner.worker
        if made is None or owner.dead or made._crew.lock.lock.owner is not None:
            return
        if owner.outbox is not None and getattr(owner.outbox._mutex, "lock", owner.outbox._mutex).owner is not None:
            return
        core, queue, box = made._engine.core, made._engine.queue, owner.outbox
        counts = core.counts
        # The same as `counts()`, but without the lock, which no task holds now.
        waiting, adopted = (len(queue), 0) if box is None else (len(box._waiting) + box._read, box._adopted)
        queued = waiting + core.open
        delivered, rejected, failed, gone = counts.delivered, counts.rejected, counts.failed, counts.gone
        accepted = delivered + rejected + failed + gone + queued - adopted
        if not owner.accepted <= accepted <= owner.accepted + len(owner.putting):
            put = len(owner.putting)
            raise Failure(f"{owner}: {accepted} events are counted, {owner.accepted} were taken (and {put} are put)")
        after = delivered, rejected, failed, gone, adopted, counts.requests, counts.retries
        if after != owner.before:
            if any(new < old for new, old in zip(after, owner.before, strict=True)):
                raise Failure(f"{owner}: a count has fallen, from {owner.before} to {after}")
            owner.before = after
        if queued < 0 or core.open < 0 or core._taking < 0:
            raise Failure(f"{owner}: {core.open} are open, {queued} queued")
        owner.stats_in -= 1
        if owner.stats_in < 0:
            owner.stats_in = 40
            stats = made.stats
            if stats.accepted + stats.adopted != sum(stats[1:5]) + stats.gone or stats.accepted != accepted:
                raise Failure(f"{owner}: {stats}")
            if (stats.oldest is None) != (not stats.queued) or (stats.oldest or 0.0) > self.hub.now - 999.0:
                raise Failure(f"{owner}: {stats}")

    # The course of the world.

    def play(self) -> None:
        draw = self.draw
        for _ in range(draw.choice((1, 1, 2)) if self.path is None else draw.choice((1, 2, 3))):
            self.new_process()
        self.let_run(0.01)
        for _ in range(draw.randint(2, 16)):
            for _ in range(draw.choice((1, 1, 2, 3))):
                self.something_happens()
            self.let_run(draw.choice((0.0, 0.0, 0.001, 0.05, 0.3, 0.3, 1.0, 1.0, 3.0, 10.0, 29.9995, 31.0, 80.0)))
        if self.is_long:
            self.mood = "retry after"
            self.something_waits()
            self.let_run(60_000.0)
        self.calm_down()
        self.close_all()
        self.take_stock()

    def something_waits(self) -> None:
        for one in self.processes:
            if one.is_alive and not (one.stopped or one.exiting or one.closing):
                self.hub.spawn(one, functools.partial(one.put, 1), "call of put")

    def let_run(self, seconds: float, done: Callable[[], bool] | None = None) -> None:
        self.hub.run(self.hub.now + seconds, done)
        self.settle_deadlines()

    def settle_deadlines(self) -> None:
        self.deadlines.sort(key=lambda one: one[0])
        for owner in self.processes:
            self.check_counts(owner)
        self.check_deadlines()

    def something_happens(self) -> None:
        draw, hub = self.draw, self.hub
        alive = [one for one in self.processes if one.is_alive]
        if not alive:
            self.new_process()
            self.let_run(0.001)
            return
        owner = draw.choice(alive)
        luck = draw.random()
        call = functools.partial(hub.spawn, owner)
        if luck < 0.6:
            how_many = draw.choice((1, 1, 1, 2, 2, 5, 12, 200 if draw.random() < 0.1 else 24))
            how_many = min(how_many, 2) if self.is_long else how_many
            together = 1 < how_many < 6 and draw.random() < 0.5
            call(functools.partial(owner.put, how_many, together=together), "call of put")
        elif luck < 0.75:
            timeout = draw.choice((0.0, 0.1, 1.0, 5.0, 40.0, None))
            call(functools.partial(owner.flush, timeout), "call of flush")
        elif luck < 0.85:
            if not self.is_healthy:
                self.mood = draw.choice((*MOODS, "accept", "accept", "accept", "accept"))
        elif luck < 0.875:
            if not owner.closing and not owner.exiting:
                # Most faults were found in calls that overlap a close.
                if draw.random() < 0.5:
                    call(functools.partial(owner.put, draw.choice((1, 3, 30))), "call of put")
                if draw.random() < 0.3:
                    call(functools.partial(owner.flush, draw.choice((1.0, 40.0, None))), "call of flush")
                if draw.random() < 0.3:
                    self.let_run(draw.random() * self.most_latency)
                call(functools.partial(owner.close, draw.choice((None, 0.0, 0.3, 5.0, 60.0))), "call of close")
        elif luck < 0.883:
            if not owner.exiting:
                owner.exiting = True
                call(functools.partial(owner.exit, draw.random() < 0.7), "call of exit")
        elif luck < 0.887:
            if not owner.exiting:
                call(owner.signal, "call of a signal handler")
        elif luck < 0.89:
            if not owner.exiting and not owner.closing and owner.options["background"]:
                owner.closing = True  # the application can make no more calls
                owner.hurried = hub.now
                call(owner.worker.orphan, "orphan")  # type: ignore[union-attr]
        elif luck < 0.9:
            self.ends(owner)
        elif luck < 0.92:
            if not owner.stopped and not self.forking:
                self.stop(owner)
        elif luck < 0.94:
            for one in alive:
                self.go_on(one)
        elif luck < 0.95:
            self.fork(owner)
        elif luck < 0.96:
            hub.wall_offset += draw.choice((-1e9, -3600.0, -1.0, 1.0, 3600.0, 86_400.0 * 40, 1e9))
        elif self.path is not None:
            if luck < 0.97:
                self.locked_until = hub.now + draw.choice((0.05, 0.5, 5.0, 60.0))
                self.file_is_trouble(self.locked_until)
            elif luck < 0.98:
                self.full_until = hub.now + draw.choice((0.05, 0.5, 5.0, 60.0))
                self.file_is_trouble(self.full_until)
            elif len(alive) < 4:
                self.new_process()

    def file_is_trouble(self, until: float) -> None:
        self.is_trouble(until)
        self.file_trouble = max(self.file_trouble, until)

    def fork(self, owner: Process) -> None:
        if owner.stopped or owner.exiting or owner.closing or self.forking:
            return
        self.is_trouble()
        self.forking = True

        def do() -> None:
            try:
                self.new_process(owner)
            finally:
                self.forking = False

        self.hub.spawn(owner, do, "call of fork")

    # The end.

    def calm_down(self) -> None:
        """Let everything work again without a flush, and check that all waiting events are delivered."""
        self.mood = "accept"
        self.locked_until = self.full_until = -math.inf
        for one in self.processes:
            self.go_on(one)
        # Running requests may take 130 s, a pause 60 s, and the pause after a conclusion 64 s.
        self.let_run(600.0, self.nothing_open)
        for one in self.processes:
            if one.is_alive and one.open and one.options["background"] and not one.exiting and not one.closed:
                raise Failure(f"{one}: {sorted(one.open)[:5]} of {len(one.open)} wait for nothing")

    def nothing_open(self) -> bool:
        return not any(
            one.is_alive and one.options["background"] and (one.open or one.attempts) for one in self.processes
        )

    def close_all(self) -> None:
        hub = self.hub
        results: dict[Process, bool] = {}

        def close(one: Process) -> None:
            results[one] = one.close(100.0)

        closing = [one for one in self.processes if one.is_alive and not one.exiting and not one.closed]
        self.interruptions_left = 20
        for one in closing:
            hub.spawn(one, functools.partial(close, one), "call of close")
        self.let_run(130.0, lambda: len(results) == len(closing))
        self.let_run(5.0)  # time for a slow on_error
        for one in closing:
            if one.dead:
                continue
            if one not in results:
                raise Failure(f"{one}: close(100) has not returned")
            if not results[one] and not one.worker._closing:  # type: ignore[union-attr]
                raise Failure(f"{one}: close(100) has returned False, and everything works")
        for one in self.processes:
            if one.is_alive:
                if one.closed and one.outbox is None and one.open and not one.exiting:
                    raise Failure(f"{one}: is closed, and {sorted(one.open)[:5]} of {len(one.open)} have no outcome")
                self.ends(one)
        if self.path is not None:
            self.inherit()

    def inherit(self) -> None:
        """Start another process, which delivers the events that the others have left."""
        assert self.path is not None
        for _ in range(2):
            self.hub.set_luck(self.hub.p_switch, 0.0)
            self.hub.p_at_door = 0.0
            heir = self.new_process()
            heir.options = heir.options | {"background": True, "flush_interval": 0.05, "max_retry_time": math.inf}
            self.let_run(self.lease * 2 + 3)
            self.let_run(900.0, lambda: self.rows() == 0)
            if heir.is_alive and not self.rows():
                break
            self.ends(heir)
        if self.rows():
            raise Failure(f"{self.rows()} events are left in the file")

    def rows(self) -> int:
        return len(self.texts("TRUE"))

    def take_stock(self) -> None:
        for number in self.sure:
            outcomes = self.delivered[number] + self.conclusions[number]
            if not outcomes and number not in self.lost:
                raise Failure(f"event {number} of {self.owner_of[number]} is lost")
            if outcomes > 1 and number not in self.excused:
                raise Failure(
                    f"event {number} of {self.owner_of[number]}: delivered {self.delivered[number]} times, told "
                    f"{self.conclusions[number]} times"
                )
        for number in self.refused:
            if self.delivered[number] or self.conclusions[number]:
                raise Failure(f"event {number} was not taken, and has an outcome")
            if number in self.sure:
                raise Failure(f"event {number} was taken and refused")

    def end(self) -> None:
        for one in self.processes:
            one.dead = True
            if one.outbox is not None:
                one.outbox._closed = True
                for connection in one.outbox.connections:
                    if connection._connection is not None:
                        connection._connection.close()
        self.hub.end()
        if self.memory is not None:
            self.memory.close()
        elif self.path is not None:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path + suffix)


@functools.cache
def template(directory: pathlib.Path) -> pathlib.Path:
    """The file of an empty outbox, for copies."""
    path = directory / "template.db"
    made = outbox.SQLiteOutbox(path)
    made.close()
    return path


@functools.cache
def template_in_memory(directory: pathlib.Path) -> sqlite3.Connection:
    """The same outbox as `template`, in the form that SQLite copies fastest."""
    made = sqlite3.connect(":memory:")
    path = shutil.copyfile(template(directory), directory / "without a log.db")
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode = DELETE").fetchall()
        file.backup(made)
    return made


def address_in_memory(path: str) -> str:
    return f"file:{path}?vfs=memdb"  # shared by the connections of this process while one is open


def in_memory(path: str) -> sqlite3.Connection:
    return sqlite3.connect(address_in_memory(path), uri=True, isolation_level=None)


@functools.cache
def has_memory_files() -> bool:
    """Whether SQLite has files in memory: https://www.sqlite.org/releaselog/3_36_0.html."""
    return sqlite3.sqlite_version_info >= (3, 36)


@functools.cache
def scratch() -> pathlib.Path:
    """A directory in memory, if the system has one."""
    shm = pathlib.Path("/dev/shm")
    directory = tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None, ignore_cleanup_errors=True)
    _kept.append(directory)
    return pathlib.Path(directory.name)


_kept: list[Any] = []


@contextlib.contextmanager
def patched(world: World) -> Iterator[None]:
    """Patch the modules of the package with the time and the threads of this world, while the block runs."""
    hub = world.hub
    fakes = modules(hub)
    queue_type = type("CutQueue", (CutQueue,), {"hub": hub})
    undo: list[tuple[Any, str, Any]] = []

    def put(where: Any, name: str, value: Any) -> None:
        undo.append((where, name, where.__dict__[name]))
        setattr(where, name, value)

    for module in (worker, crew, sending, keeper, threads, reporting, outbox, sqlite, rows, engine, process):
        for name, fake in fakes.items():
            if name in module.__dict__ and isinstance(module.__dict__[name], types.ModuleType):
                put(module, name, fake)
    put(worker, "MemoryQueue", queue_type)
    put(worker, "process", SimHooks(world))
    put(suspects, "MOST_POOLS", world.draw.choice((1, 1, 3, 1_000)))
    attempt, write, move = sqlite.Connection._attempt, sqlite.Connection.write, rows.Rows.move
    confirm, settle, give_up = engine.Engine.confirm, engine.Engine.settle, engine.Engine.give_up
    flush, answered = engine.Engine.flush, queue.Core.answered

    def attempt_(self: sqlite.Connection, action: Any) -> Any:
        try:
            hub.cut()
        except GreenletExit:
            raise
        if hub.now < world.locked_until:
            self.lock.release()
            return False, None
        return attempt(self, action)

    def write_(self: sqlite.Connection, *args: Any) -> Any:
        if hub.now < world.full_until:
            error = sqlite3.OperationalError("database or disk is full")
            raise sqlite.explained(self.path, error) from error
        return write(self, *args)

    def move_(self: rows.Rows, dead: int, numbers: list[int], owner: int, *rest: Any) -> Any:
        moved: list[int] = rest[-1]
        count = len(moved)
        try:
            return move(self, dead, numbers, owner, *rest)
        finally:
            if new := moved[count:]:
                # Not with the connection of `self`, which may be closed by now.
                world.adopted(dead, world.texts(f"owner = ? AND number IN ({','.join(map(str, new))})", owner))

    def confirm_(self: engine.Engine, group: InFlight) -> bool:
        owner: Process = hub.process
        in_hand = owner.in_hand
        if (owner.closing or owner.exiting) and hub.random.random() < hub.p_at_door and not hub.is_in_call:
            hub.sleep(min(0.4, max(0.0, owner.close_at - hub.now) + 0.01))  # until the time-out of the close has passed
        asked = numbers_in(group.events)
        in_hand.update(asked)
        start = hub.now
        result = confirm(self, group)
        if start < world.locked_until:  # their owner can't be checked then, and they are sent
            world.excused.update(asked)
        in_hand.difference_update(asked.difference(numbers_in(group.events) if result else ()))
        return result

    def answered_(self: queue.Core, group: InFlight, answer: Answer, now: float, luck: float) -> list[Done]:
        is_heard = not group.abandoned
        concluded = answered(self, group, answer, now, luck)
        if is_heard:
            world.heard(hub.process, group, answer, concluded)
        return concluded

    def settle_(self: engine.Engine, done: Done) -> None:
        hub.process.in_hand.update(numbers_in(done.group.events))
        settle(self, done)
        hub.process.in_hand.difference_update(numbers_in(done.group.events))

    def give_up_(self: engine.Engine) -> InFlight:
        if not self.in_memory:  # when the time of an exit ends, events on their way wait again, like new ones
            world.excused |= hub.process.in_hand
            hub.process.back |= hub.process.in_hand | hub.process.not_before.keys()
            hub.process.not_before.clear()
        given_up = give_up(self)
        # A request may be under way with them, and `on_error` may be told of it much later, when it has returned.
        numbers = numbers_in(given_up.events)
        world.excused |= hub.process.in_hand & numbers
        hub.process.given_up_by.update(dict.fromkeys(numbers, hub.current))
        return given_up

    def prepare_(connection: sqlite.Connection) -> None:
        deadline = hub.monotonic() + sqlite.SET_UP_TIMEOUT
        connection.run(lambda it: it.execute(sqlite.WHAT_FILE).fetchall(), deadline)

    if world.memory is not None:  # a file in memory has no log, and can't be missing
        put(sqlite, "prepare", prepare_)
        put(sqlite, "address_of", address_in_memory)

    def flush_(self: engine.Engine, now: float) -> int | None:
        target = flush(self, now)
        hub.process.hurried = hub.now  # maybe later than the call of `flush`, if it was interrupted
        return target

    length = outbox.SQLiteOutbox.__len__

    def len_(self: outbox.SQLiteOutbox) -> int:
        number = length(self)
        hub.door()
        return number

    close_if_empty = engine.Engine.close_if_empty

    def close_if_empty_(self: engine.Engine) -> bool:
        owner: Process = hub.process
        owner.takes_last_look = True
        try:
            return close_if_empty(self)
        finally:
            owner.takes_last_look = False

    glance = outbox.SQLiteOutbox.glance

    def glance_(self: outbox.SQLiteOutbox) -> int:
        number = glance(self)
        hub.door()
        return number

    put(outbox.SQLiteOutbox, "glance", glance_)
    put(engine.Engine, "close_if_empty", close_if_empty_)
    write_off = crew.Crew._write_off

    def write_off_(self: crew.Crew) -> None:
        ident = 0 if hub.current is None else hub.current.ident
        world.writing_off[ident] += 1
        try:
            write_off(self)
        finally:
            world.writing_off[ident] -= 1

    put(crew.Crew, "_write_off", write_off_)
    may_end = crew.Crew._may_end

    def may_end_(self: crew.Crew, *args: Any) -> bool:
        result = may_end(self, *args)
        if result and hub.random.random() < hub.p_at_door:
            hub.interrupt_now(hub.current, lambda: hub.process.put(1))  # like a `__del__` at exactly this moment
        return result

    put(crew.Crew, "_may_end", may_end_)
    put(outbox.SQLiteOutbox, "__len__", len_)
    put(sqlite, "register", lambda holder: None)  # `Process.fork` sets the holders of connections itself
    put(engine.Engine, "flush", flush_)
    put(sqlite.Connection, "_attempt", attempt_)
    put(sqlite.Connection, "write", write_)
    put(rows.Rows, "move", move_)
    put(engine.Engine, "confirm", confirm_)
    put(queue.Core, "answered", answered_)
    put(engine.Engine, "settle", settle_)
    put(engine.Engine, "give_up", give_up_)
    logger = logging.getLogger("algolia_usertoken.events")
    put_out, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = put_out
        for where, name, value in reversed(undo):
            setattr(where, name, value)


def numbers_in(events: Iterable[bytes]) -> set[int]:
    return {int(number) for event in events for number in NUMBER.findall(event)}


class SimHooks:
    """The replacement of `process.py` for the worker: the hooks of its simulated process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def register(self, made: worker.Worker) -> None:
        pass

    def keep(self, made: worker.Worker) -> None:
        pass

    def hook_exit_of_child(self) -> None:
        pass

    def drain_late(self, made: worker.Worker) -> bool:
        hub = self._world.hub
        owner: Process = hub.process
        start = hub.now
        try:
            return made.drain(start + max(0.0, made.close_timeout - owner.exit_took))
        finally:
            owner.exit_took += hub.now - start


def run(seed: int) -> World:
    """Play a world.

    Raises:
        Failure: A rule is violated; the message names the seed.
    """
    directory = scratch()
    template(directory)
    was_enabled = gc.isenabled()
    gc.disable()
    Failure.seen.clear()
    world = World(seed, directory)
    try:
        with patched(world):
            try:
                world.play()
            finally:
                world.end()
    except Exception as error:
        raise Failure(f"seed {seed}: {error}") from error
    finally:
        if was_enabled:
            gc.enable()
    return world
