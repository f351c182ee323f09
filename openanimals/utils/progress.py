"""How far a long work is: a bar on a terminal, elsewhere a line at least every minute."""

import sys
import time
from datetime import timedelta
from logging import getLogger
from typing import Any

from openanimals.utils import distributed

logger = getLogger(__name__)

PERIOD = 30.0  # seconds between lines; the next one is due with the first unit after that


class Progress:
    """Tells how far a work is while the block runs; a work of seconds leaves no line.

    Args:
        what: is done, for the bar and the lines.
        total: units in all.
        unit: of the work, for instance "image".
        done: units that were done before.

    Example:
        >>> with Progress("reading", total=3, unit="image") as progress:
        ...     for _ in range(3):
        ...         progress.update()
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        from tqdm import tqdm

        self.what, self.total, self.unit, self.done = what, total, unit, done
        self.bar: Any = tqdm(
            desc=what,
            total=total,
            initial=done,
            unit=unit,
            leave=False,
            disable=not (sys.stdout.isatty() and distributed.is_main()),
        )
        self.first = done
        self.began = self.said = time.monotonic()

    def update(self, count: int = 1, note: str = "") -> None:
        """Tell that so many more units are done.

        Args:
            count: of the units.
            note: what else to say of them, for instance their losses.
        """
        self.done += count
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(count)
        now = time.monotonic()
        if self.bar.disable and now - self.said > PERIOD:
            self.said = now
            left = (self.total - self.done) * (now - self.began) / (self.done - self.first)
            logger.info(
                "%s: %d of %d %ss%s, about %s left",
                self.what,
                self.done,
                self.total,
                self.unit,
                f"  {note}" if note else "",
                timedelta(seconds=round(left)),
            )

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
