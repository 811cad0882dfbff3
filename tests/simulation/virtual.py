"""Virtual time and threads: they replace `threading`, `time` and `random` in a simulated process.

A thread is a greenlet, so only one thread runs at a time, and the seed decides which. Time passes only when all threads
wait. At each "cut" (before a lock is taken, after it is released, when the time is read, around `append` and `len` of
the queue, around each call of SQLite) the seed decides whether the thread goes on, another thread runs, or other code
interrupts the thread, as a signal handler or a `__del__` would.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random
import threading
import types
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from greenlet import GreenletExit, getcurrent, greenlet

A_MOMENT_S = 0.02  # a time in which some threads may poll a file each millisecond
STEPS_IN_A_MOMENT, CUTS_IN_A_MOMENT = 25_000, 150_000  # the most in one moment: more is a busy loop
MOST_CALM_CUTS = 5_000  # cuts after which the limit is checked at the latest


class Failure(AssertionError):
    """The world has seen a violation of its rules."""

    seen: ClassVar[list[Failure]] = []  # in this world; kept, as the sender catches the errors of delivery and on_error
    hub: ClassVar[Hub | None] = None  # the scheduler of this world

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.seen.append(self)
        if self.hub is not None:
            self.hub.disturb()


class Task:
    """A thread of a simulated process."""

    def __init__(self, hub: Hub, process: Any, run: Callable[[], object], name: str) -> None:
        self.hub, self.process, self.name = hub, process, name
        self.ident = next(hub.idents)
        self.waits = 0  # counts how often the task began to wait
        self.is_waiting = self.woken = self.ended = False
        self.started = False
        self.depth = 0  # how many interruptions are running inside the task
        self.stolen = 0.0  # the seconds that interruptions took
        self.joiners: list[Task] = []
        self._run = run
        self.greenlet = greenlet(self._main, hub.main)

    def _main(self) -> None:
        self.started = True
        for joiner in self.joiners:
            self.hub.wake(joiner)
        self.joiners.clear()
        try:
            self._run()
        except GreenletExit:
            pass
        except BaseException as error:
            if not self.process.dead:
                self.hub.crashed(self, error)
        self.ended = True
        for joiner in self.joiners:
            self.hub.wake(joiner)


class Hub:
    """The scheduler.

    Args:
        seed: The seed of all random choices.
        interrupt: Runs an interruption inside the task that it is given.
        after_step: Called when a task has run, between two cuts.
    """

    def __init__(self, seed: int, interrupt: Callable[[Task], None], after_step: Callable[[Task], None]) -> None:
        self.random = random.Random(seed)
        self.main = getcurrent()
        self.idents = itertools.count(1)
        self.now = 1_000.0 + self.random.random()
        self.wall_offset = 1_800_000_000.0
        self.current: Task | None = None
        self.acting: Any = None  # the process for which the director acts while no task runs
        self.tasks: list[Task] = []
        self.calm = 0  # how many more cuts pass until one has an event
        self.ended = False
        self.errors: list[BaseException] = []
        self._interrupt = interrupt
        self.after_step = after_step
        self._ready: list[Task] = []
        self._timers: list[tuple[float, int, Task, int]] = []
        self._sequence = itertools.count()
        self._steps = self._cuts = 0
        self._moment = self.now  # the time since which steps and cuts are counted
        self.p_switch = self.p_interrupt = self.p_at_door = 0.0
        self._gap = 0  # the value with which `calm` began
        self._next: str | None = None  # the event that happens when `calm` is over
        Failure.hub = self

    # Methods for tasks.

    @property
    def process(self) -> Any:
        return self.acting if self.current is None else self.current.process

    @property
    def is_in_call(self) -> bool:
        """Whether the running task is a call by the application, and not a thread of the sender."""
        return self.current is not None and self.current.name.startswith("call")

    @property
    def has_caller(self) -> bool:
        """Whether a call of `put`, by the application or by a `__del__`, might end by what is raised here."""
        return self.is_in_call or (self.current is not None and self.current.depth > 0)

    def cut(self) -> None:
        """Let another task run here, or an interruption, if that is drawn."""
        self.calm -= 1
        self.now += 1e-6
        if self.calm <= 0:
            self.stir()

    def stir(self) -> None:
        """Carry out the event of this cut, and draw how many cuts later the next comes: cheaper than a draw at each."""
        task = self.current
        if task is None:
            return
        if task.process.dead or self.ended:
            raise GreenletExit
        if Failure.seen:  # also if the sender has caught the failure
            self._switch(task)
        self._cuts += self._gap
        if self._cuts > CUTS_IN_A_MOMENT:
            raise Failure(f"{task.name} of {task.process} is busy without end")
        event = self._next
        self._draw_next()
        if event == "switch":
            if self._ready or (self._timers and self._timers[0][0] <= self.now):
                self._ready.append(task)
                self._switch(task)
            else:  # a switch would come back to this task at once
                self.current = None
                self.after_step(task)
                self.current = task
        elif event == "interrupt":
            self.interrupt_now(task, functools.partial(self._interrupt, task))

    def door(self) -> None:
        """Make a cut at which an interruption comes more often than at others."""
        self.cut()
        task = self.current
        if self.p_at_door and task is not None and self.random.random() < self.p_at_door:
            self.interrupt_now(task, functools.partial(self._interrupt, task))

    def interrupt_now(self, task: Task | None, run: Callable[[], object]) -> None:
        """Run a function inside of the task, unless an interruption runs there already."""
        if task is not None and not task.depth:
            task.depth += 1
            try:
                run()
            finally:
                task.depth -= 1

    def let_others_run(self, tasks: list[Task]) -> None:
        """Wake these tasks, and pause the current one, so that they may run before it goes on."""
        task = self.current
        if task is not None and not (task.process.dead or self.ended):
            for other in tasks:
                self.wake(other)
            tasks.clear()
            self._ready.append(task)
            self._switch(task)

    def set_luck(self, p_switch: float, p_interrupt: float) -> None:
        """Set how probable it is at a cut that another task runs, or that an interruption comes."""
        self.p_switch, self.p_interrupt = p_switch, p_interrupt
        p = p_switch + p_interrupt
        self._mean_gap, self._share_of_switch = (-1 / math.log(1 - p), p_switch / p) if p else (math.inf, 0.0)
        self._draw_next()

    def disturb(self) -> None:
        """Have the next cut check what has happened: a process has ended, or a rule is violated."""
        self.calm, self._next = 0, None

    def _draw_next(self) -> None:
        draw = self.random.random
        gap = -self._mean_gap * math.log(1 - draw())  # the same geometric distribution as with a draw at each cut
        if gap < MOST_CALM_CUTS:
            self.calm = self._gap = 1 + int(gap)
            self._next = "switch" if draw() < self._share_of_switch else "interrupt"
        else:
            self.calm = self._gap = MOST_CALM_CUTS
            self._next = None

    def wait(self, until: float) -> bool:
        """Wait to be woken. Returns False if `until` came first."""
        task = self.current
        if task is None:
            raise Failure("the director would have to wait")
        if task.process.dead or self.ended:
            raise GreenletExit
        task.waits += 1
        task.is_waiting, task.woken = True, False
        if until < math.inf:
            heapq.heappush(self._timers, (max(until, self.now), next(self._sequence), task, task.waits))
        self._switch(task)
        return task.woken

    def wake(self, task: Task, woken: bool = True) -> None:
        if task.is_waiting:
            task.is_waiting, task.woken = False, woken
            self._ready.append(task)

    def sleep(self, seconds: float) -> None:
        self.wait(self.now + max(0.0, seconds))

    def monotonic(self) -> float:
        self.cut()
        return self.now

    def wall(self) -> float:
        return self.now + self.wall_offset

    def _switch(self, task: Task) -> None:
        self.main.switch()
        if task.process.dead or self.ended:
            raise GreenletExit

    # Methods for the director.

    def spawn(self, process: Any, run: Callable[[], object], name: str) -> Task:
        task = Task(self, process, run, name)
        self.tasks.append(task)
        self._ready.append(task)
        return task

    def crashed(self, task: Task, error: BaseException) -> None:
        self.errors.append(error)

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Let tasks run until the time `until`, or until `done()` is true, which is checked whenever all tasks wait."""
        while True:
            while self._timers and self._timers[0][0] <= self.now:
                _, _, task, waits = heapq.heappop(self._timers)
                if task.is_waiting and task.waits == waits:
                    self.wake(task, woken=False)
            ready = self._ready
            runnable = [at for at, task in enumerate(ready) if not task.process.stopped] if ready else ready
            if runnable:
                at = runnable[int(self.random.random() * len(runnable))] if len(runnable) > 1 else runnable[0]
                task = ready.pop(at)
                if task.process.dead:
                    continue
                self._steps += 1
                if self._steps > STEPS_IN_A_MOMENT:
                    raise Failure(f"{task.name} of {task.process} is busy without end")
                self.current = task
                try:
                    task.greenlet.switch()
                finally:
                    self.current = None
                if Failure.seen:
                    raise Failure.seen[0]
                if self.errors:
                    error = self.errors[0]
                    if isinstance(error, Failure):
                        raise error
                    raise Failure(f"{task.name} of {task.process} has ended with {error!r}") from error
                self.after_step(task)
                continue
            if done is not None and done():
                return
            while self._timers and self._is_stale(self._timers[0]):
                heapq.heappop(self._timers)
            next_time = self._timers[0][0] if self._timers else math.inf
            if next_time > until:
                if until < math.inf:
                    self.now = max(self.now, until)
                self._steps = self._cuts = 0
                return
            if next_time > self._moment + A_MOMENT_S:
                self._moment = next_time
                self._steps = self._cuts = 0
            self.now = max(self.now, next_time)

    def _is_stale(self, timer: tuple[float, int, Task, int]) -> bool:
        _, _, task, waits = timer
        return task.process.dead or not task.is_waiting or task.waits != waits

    def end(self) -> None:
        """End all tasks."""
        self.ended = True
        self.disturb()
        for task in self.tasks:
            if task.started and not task.ended:
                self.current = task
                task.greenlet.throw(GreenletExit)
        self.current = None


class _Owned:
    """An object that belongs to the process that made it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._made_by = hub.process

    def _check(self) -> None:
        task = self._hub.current
        if task is not None and task.process is not self._made_by and not (task.process.dead or self._hub.ended):
            raise Failure(f"{task.process} uses a lock of {self._made_by}")


class RLock(_Owned):
    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.owner: object = None
        self.count = 0
        self._waiters: deque[Task] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        hub = self._hub
        me: Any = hub.current
        if me is None:
            me = hub
        elif me.process is not self._made_by:
            self._check()
        hub.calm -= 1  # as in `cut`, inlined: this is the most frequent cut
        hub.now += 1e-6
        if hub.calm <= 0:
            hub.stir()
        if self.owner is None or self.owner is me:
            self.owner = me
            self.count += 1
            return True
        if not blocking:
            return False
        return self._wait(hub.now + timeout if timeout >= 0 else math.inf)

    def _wait(self, until: float) -> bool:
        hub, me = self._hub, self._hub.current
        if me is None:
            raise Failure("the director would have to wait for a lock")
        while self.owner is not None:
            self._waiters.append(me)
            if not hub.wait(until) and self.owner is not None:
                return False
        self.owner, self.count = me, 1
        return True

    def release(self) -> None:
        hub = self._hub
        me = hub.current
        if hub.ended or (me is not None and me.process.dead):
            return
        if self.owner is not (hub if me is None else me):
            raise RuntimeError("cannot release un-acquired lock")
        self.count -= 1
        if not self.count:
            self.owner = None
            if self._waiters:
                self._free()
            hub.calm -= 1
            hub.now += 1e-6
            if hub.calm <= 0:
                hub.stir()

    def _free(self) -> None:
        self.owner, self.count = None, 0
        while self._waiters:
            self._hub.wake(self._waiters.popleft())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Lock(_Owned):
    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.is_locked = False
        self._waiters: deque[Task] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        hub = self._hub
        self._check()
        hub.cut()
        until = hub.now + timeout if timeout >= 0 else math.inf
        while self.is_locked:
            if not blocking or hub.current is None:
                return False
            self._waiters.append(hub.current)
            if not hub.wait(until) and self.is_locked:
                return False
        self.is_locked = True
        return True

    def release(self) -> None:
        if self._hub.ended or (self._hub.current is not None and self._hub.current.process.dead):
            return
        self._check()
        if not self.is_locked:
            raise RuntimeError("release unlocked lock")
        self.is_locked = False
        while self._waiters:
            self._hub.wake(self._waiters.popleft())
        self._hub.cut()


class Condition:
    def __init__(self, hub: Hub, lock: RLock) -> None:
        self._hub, self.lock = hub, lock
        self.acquire, self.release = lock.acquire, lock.release
        self._waiters: list[Task] = []

    def __enter__(self) -> bool:
        return self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        hub, lock = self._hub, self.lock
        if hub.current is None:
            raise Failure("the director would have to wait for a condition")
        if lock.owner is not hub.current:
            raise RuntimeError("cannot wait on un-acquired lock")
        count = lock.count
        self._waiters.append(hub.current)
        lock._free()
        woken = hub.wait(math.inf if timeout is None else hub.now + timeout)
        if hub.current in self._waiters:
            self._waiters.remove(hub.current)
        if lock.owner is not None:
            lock._wait(math.inf)
        lock.owner, lock.count = hub.current, count
        return woken

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> object:
        until = math.inf if timeout is None else self._hub.now + timeout
        while not (result := predicate()):
            if self._hub.now >= until:
                break
            self.wait(None if until == math.inf else until - self._hub.now)
        return result

    def notify_all(self) -> None:
        self.lock._check()
        waiters, self._waiters = self._waiters, []
        for task in waiters:
            self._hub.wake(task)


class Thread:
    def __init__(self, hub: Hub, target: Callable[[], object], name: str) -> None:
        self._hub, self._target, self._name = hub, target, name
        self._task: Task | None = None

    @property
    def ident(self) -> int | None:
        return None if self._task is None else self._task.ident

    def start(self) -> None:
        hub = self._hub
        process = hub.process
        if process.starts_no_thread:
            raise RuntimeError("can't start new thread")
        task = self._task = hub.spawn(process, self._target, self._name)
        if hub.current is not None:
            while not task.started:
                task.joiners.append(hub.current)
                hub.wait(math.inf)

    def join(self, timeout: float | None = None) -> None:
        hub, task = self._hub, self._task
        if task is None or hub.current is None:
            raise Failure("a thread is joined that was not started")
        until = math.inf if timeout is None else hub.now + timeout
        while not task.ended:
            task.joiners.append(hub.current)
            if not hub.wait(until):
                return


class Local:
    def __init__(self, hub: Hub) -> None:
        self.__dict__.update(hub_=hub, values_={})

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values_[_ident(self.hub_), name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.values_[_ident(self.hub_), name] = value


def _ident(hub: Hub) -> int:
    return 0 if hub.current is None else hub.current.ident


def modules(hub: Hub) -> dict[str, types.SimpleNamespace]:
    """The replacements for the modules of these names."""

    def condition(lock: RLock | None = None) -> Condition:
        return Condition(hub, lock or RLock(hub))

    def thread(*, target: Callable[[], object], name: str = "", daemon: bool = False) -> Thread:
        return Thread(hub, target, name)

    def lock() -> Lock:
        return Lock(hub)

    return {
        "threading": types.SimpleNamespace(
            Lock=lock,
            RLock=lambda: RLock(hub),
            Condition=condition,
            Thread=thread,
            local=lambda: Local(hub),
            get_ident=lambda: _ident(hub),
            TIMEOUT_MAX=threading.TIMEOUT_MAX,
        ),
        "time": types.SimpleNamespace(monotonic=hub.monotonic, time=hub.wall, sleep=hub.sleep),
        "random": types.SimpleNamespace(random=hub.random.random),
    }
