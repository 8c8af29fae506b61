"""Threads that were given up on are counted while several ticks give up on more."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from jobs import Tickwork


def test_counting_them_does_not_disturb_those_who_add() -> None:
    with closing(Tickwork()) as tickwork:
        runtime = tickwork._runtime
        stop, go_on = threading.Event(), threading.Event()
        alive = [threading.Thread(target=go_on.wait, args=(20,)) for _ in range(60)]
        for thread in alive:
            thread.start()

        def give_up_and_come_back() -> None:
            while not stop.is_set():
                for thread in alive[30:]:
                    runtime.abandoned.add(thread)
                for thread in alive[30:]:
                    runtime.abandoned.discard(thread)

        runtime.abandoned.update(alive[:30])
        other = threading.Thread(target=give_up_and_come_back)
        other.start()
        try:
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                assert 30 <= runtime.still_abandoned() <= 60
        finally:
            stop.set()
            other.join(20)
            go_on.set()

        for thread in alive:
            thread.join(20)
        assert runtime.still_abandoned() == 0
