"""The thread that computes while the main thread waits for signals."""

import gc
import threading
import time

import pytest

from eqinfo.training import background
from eqinfo.training.background import Background


def test_results_and_errors_come_back_from_another_thread() -> None:
    aside = Background()
    assert aside.call(threading.current_thread) is not threading.main_thread()
    with pytest.raises(ZeroDivisionError):
        aside.call(lambda: 1 // 0)
    assert aside.call(lambda: 3) == 3


def test_what_runs_on_after_a_request_to_stop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PATIENCE_S", 0.0)
    may_end = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        Background().call(may_end.wait, should_stop=lambda: True)
    may_end.set()


def test_what_ends_soon_after_a_request_to_stop_counts() -> None:
    assert Background().call(lambda: 3, should_stop=lambda: True) == 3


def test_the_thread_ends_with_its_owner() -> None:
    before = threading.active_count()
    Background()
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= before:  # a thread of another test may end meanwhile
            break
        time.sleep(0.01)
    assert threading.active_count() <= before
