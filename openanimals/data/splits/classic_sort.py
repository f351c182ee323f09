"""The argsort of numpy before 1.25, on which the paper's partition depends."""

from collections.abc import Sequence


def classic_argsort(values: Sequence[int]) -> list[int]:
    """Return the positions that sort ``values``, equal values ordered as by numpy before 1.25.

    A quicksort with a median-of-three pivot that leaves ranges of up to 16 to an insertion sort.
    It is not stable: where equal values end up depends on each comparison and swap, so these are
    part of the partition. (Numpy's fall-back to heapsort on adversarial input is left out.)

    Args:
        values: what to sort by.

    Returns:
        Positions in ``values``, smallest value first.
    """
    order = list(range(len(values)))

    def swap(i: int, j: int) -> None:
        order[i], order[j] = order[j], order[i]

    def less(i: int, j: int) -> bool:
        return values[order[i]] < values[order[j]]

    pending = [(0, len(order) - 1)]  # ranges share no position, so any order of them will do
    while pending:
        low, high = pending.pop()
        if high - low <= 15:
            _insertion_argsort(values, order, low, high)
            continue
        middle = low + (high - low) // 2
        for first, second in ((middle, low), (high, middle), (middle, low)):
            if less(first, second):
                swap(first, second)
        swap(middle, high - 1)
        pivot = values[order[high - 1]]
        i, j = low, high - 1
        while True:
            i += 1
            while values[order[i]] < pivot:
                i += 1
            j -= 1
            while pivot < values[order[j]]:
                j -= 1
            if i >= j:
                break
            swap(i, j)
        swap(i, high - 1)
        pending += [(low, i - 1), (i + 1, high)]
    return order


def _insertion_argsort(values: Sequence[int], order: list[int], low: int, high: int) -> None:
    """Sort ``order[low:high + 1]`` by value in place; equal values keep their order."""
    for end in range(low + 1, high + 1):
        moved, hole = order[end], end
        while hole > low and values[moved] < values[order[hole - 1]]:
            order[hole] = order[hole - 1]
            hole -= 1
        order[hole] = moved
