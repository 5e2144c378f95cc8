"""Items worked on in threads."""

import threading
import time
from collections.abc import Iterator

import pytest

from eqinfo.errors import InputError
from eqinfo.system.threads import ordered_map


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_ordered_map_keeps_the_order_and_works_on_few_items_at_a_time(threads: int) -> None:
    taken = given_out = 0
    lead = []

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(60):
            taken += 1
            yield item

    def work(item: int) -> int:
        time.sleep(0.003 if item % 7 == 0 else 0)
        return item * item

    for item, result in enumerate(ordered_map(work, items(), threads)):
        given_out += 1
        lead.append(taken - given_out)
        assert result == item * item
    assert given_out == 60
    assert max(lead) <= 2 * threads


def test_an_ordered_map_that_fails_leaves_no_thread() -> None:
    def work(item: int) -> int:
        if item == 5:
            raise InputError("five")
        return item

    with pytest.raises(InputError, match="five"):
        list(ordered_map(work, range(100), 3))
    assert threading.active_count() == 1
