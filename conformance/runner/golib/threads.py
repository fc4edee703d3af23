"""Packages sync, sync/atomic and errgroup."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Optional


class Mutex:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def Lock(self) -> None:
        self.lock.acquire()

    def Unlock(self) -> None:
        self.lock.release()

    RLock, RUnlock = Lock, Unlock


class Once:
    def __init__(self) -> None:
        self.done = False
        self.lock = threading.Lock()

    def Do(self, function: Callable[[], Any]) -> None:
        with self.lock:
            if not self.done:
                self.done = True
                function()


class WaitGroup:
    def __init__(self) -> None:
        self.count = 0
        self.changed = threading.Condition()

    def Add(self, count: int) -> None:
        with self.changed:
            self.count += count
            self.changed.notify_all()

    def Done(self) -> None:
        self.Add(-1)

    def Wait(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.count <= 0)

    def Go(self, function: Callable[[], Any]) -> None:
        self.Add(1)

        def run() -> None:
            try:
                function()
            finally:
                self.Done()

        threading.Thread(target=run, daemon=True).start()


class Atomic:
    def __init__(self, value: Any = 0) -> None:
        self.value = value
        self.lock = threading.Lock()

    def Add(self, by: int) -> int:
        with self.lock:
            self.value += by
            return int(self.value)

    def Load(self) -> Any:
        return self.value

    def Store(self, value: Any) -> None:
        self.value = value


class ErrGroup:
    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(16)
        self.running: list[Future[Any]] = []

    def SetLimit(self, count: int) -> None:
        self.pool = ThreadPoolExecutor(count)

    def Go(self, function: Callable[[], Any]) -> None:
        self.running.append(self.pool.submit(function))

    def Wait(self) -> Optional[Any]:
        results = [each.result() for each in self.running]
        self.pool.shutdown()
        return next((error for error in results if error is not None), None)


PACKAGES: dict[str, dict[str, Any]] = {
    "sync": {"Mutex": Mutex, "RWMutex": Mutex, "Once": Once, "WaitGroup": WaitGroup},
    "sync/atomic": {"Int32": Atomic, "Int64": Atomic, "Bool": lambda: Atomic(False)},
    "golang.org/x/sync/errgroup": {"Group": ErrGroup},
}
