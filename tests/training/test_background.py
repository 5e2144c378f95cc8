"""A job in a thread, while the main thread waits for signals."""

import threading
import time
from typing import NoReturn

import pytest

from eqinfo.training import background
from eqinfo.training.background import in_background, may_be_left


class LeftError(Exception):
    """What a job that is left raises in these tests."""


def leave() -> NoReturn:
    raise LeftError


def never() -> bool:
    return False


def always() -> bool:
    return True


def test_results_and_errors_come_back_from_another_thread() -> None:
    assert in_background(threading.current_thread, never) is not threading.main_thread()
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0, never)


def test_a_job_is_left_where_it_may_be_left_and_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PATIENCE_S", 0.0)
    may_end, goes_on, threads = threading.Event(), threading.Event(), list[threading.Thread]()

    def job() -> None:
        threads.append(threading.current_thread())
        with may_be_left(leave):
            may_end.wait()
        goes_on.set()

    with pytest.raises(LeftError):
        in_background(job, always)
    may_end.set()
    threads[0].join()
    assert not goes_on.is_set()


def test_a_job_goes_on_where_it_may_not_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PATIENCE_S", 0.0)
    monkeypatch.setattr(background, "POLL_S", 0.001)

    def job() -> int:
        with may_be_left(leave):
            pass
        time.sleep(0.05)  # the main thread asks meanwhile
        return 3

    assert in_background(job, always) == 3


def test_a_job_that_asks_to_stop_soon_is_not_left() -> None:
    def job() -> int:
        with may_be_left(leave):
            time.sleep(0.01)
        return 3

    assert in_background(job, always) == 3


def test_a_job_ends_if_the_wait_for_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "POLL_S", 0.001)
    threads = list[threading.Thread]()

    def job() -> None:
        threads.append(threading.current_thread())
        while True:
            with may_be_left(leave):
                time.sleep(0.001)

    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_background(job, interrupt)
    threads[0].join()


def test_without_a_thread_a_block_is_only_a_block() -> None:
    with may_be_left(leave):
        pass
