"""How the fuzzers run: the same inputs each time, none for long, and each answered in words.

A property takes one mutilated input and holds, or raises. That a product's function refuses an
input by a UserError is right; any other exception of it fails the test, as a hang does.
"""

import signal
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openanimals.utils.errors import UserError

LONGEST = 10  # seconds that any input may take
REFUSED = object()


def few_and_many(few: int, many: int):
    """Run a test with few inputs by default, and with many if asked for by ``-m slow``."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def fuzz(count: int, inputs: st.SearchStrategy, holds: Callable[[Any], bool]) -> None:
    """Try a property on so many inputs; one that fails is shrunk to the smallest and shown.

    The property returns whether the input was accepted; where nearly all are refused, or nearly
    none, little is tried.
    """
    outcomes: list[bool] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def attempt(case):
        with time_limit():
            outcomes.append(holds(case))

    attempt()
    accepted = sum(outcomes)
    print(f"{len(outcomes)} inputs, {accepted} accepted")
    assert len(outcomes) >= count
    assert len(outcomes) / 20 < accepted < len(outcomes) * 19 / 20


@contextmanager
def time_limit():
    """Raise where the block hangs."""

    def stop(*_):
        raise TimeoutError(f"still busy after {LONGEST} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer(function: Callable, *arguments: Any, **keywords: Any) -> Any:
    """What a function returns, or REFUSED; its words are one message for people."""
    try:
        return function(*arguments, **keywords)
    except UserError as error:
        text = str(error)
        assert text.strip() and len(text) < 20_000, f"refused by {len(text)} letters"
        assert "weights_only" not in text, "passes on the advice to run what a file holds"
        return REFUSED


KINDS = ("bit", "bit", "cut", "zeros", "tail", "twice", "gone", "more", "else")


@st.composite
def damage(draw, content: bytes) -> bytes:
    """A file's content as a bad disk, a broken download or a wrong name leave it."""
    for _ in range(draw(st.integers(1, 2))):
        size = len(content)
        at = draw(st.integers(0, max(size - 1, 0)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(KINDS))
        if kind == "bit" and size:
            flipped = content[at] ^ 1 << draw(st.integers(0, 7))
            content = content[:at] + bytes([flipped]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "zeros":
            content = content[:at] + bytes(len(content[at : at + length])) + content[at + length :]
        elif kind == "tail":  # what a download had not written yet
            content = content[:at] + bytes(size - at)
        elif kind == "twice":
            content = content[:at] + content[at : at + length] * 2 + content[at + length :]
        elif kind == "gone":
            content = content[:at] + content[at + length :]
        elif kind == "more":
            content += draw(st.binary(min_size=1, max_size=64))
        elif kind == "else":
            content = draw(st.sampled_from(STRANGERS))
    return content


STRANGERS = (
    b"",
    b"\0" * 300,
    b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 93\n",
    b"PK\x03\x04",
    b"\x80\x02}q\x00.",
    b"{}",
    b"\xff\xfe\x00\xd8",
)
