"""Results computed ahead, in bounded memory."""

import threading
import time

import pytest

from vqcli.data.prefetch import in_order


def test_results_that_wait_are_bounded_by_their_bytes():
    """Two workers hold back while 100 bytes wait, and what is larger than that still comes, in order."""
    held, most, lock = [0], [0], threading.Lock()

    def make(number):
        with lock:
            held[0] += sizes[number]
            most[0] = max(most[0], held[0])
        return bytes(sizes[number])

    sizes = [60, 60, 60, 500, 1, 60, 60, 60, 60, 60]
    found = []
    for each in in_order(make, range(len(sizes)), workers=2, prefetch=8, size=len, most=100):
        time.sleep(0.005)  # so that workers run ahead
        found.append(len(each))
        with lock:
            held[0] -= len(each)
    assert found == sizes and most[0] <= 100 + 60 + 500 + 60


def test_closing_ends_those_that_wait_for_room():
    made = in_order(lambda n: bytes(50), range(99), workers=3, prefetch=9, size=len, most=10)
    assert len(next(made)) == 50
    made.close()
    assert not any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


def test_errors_come_in_order():
    def make(number):
        if number == 2:
            raise ValueError("two")
        return bytes(number)

    made = in_order(make, range(9), workers=2, prefetch=4, size=len, most=0)
    assert [len(next(made)) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(made)
