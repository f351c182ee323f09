"""What counts as right for a query, and what is removed from its ranking before it is judged.

The rule of person re-identification, and of the paper: a gallery image of the query's own
individual by the query's own counted camera is neither right nor wrong, it is taken out. The
encounter protocol does the same with images of the query's own encounter. The viewpoint protocol
takes out all images that do not show the query's own side, of whichever individual. Nothing else is
removed: a query that also stands in the gallery stays there, and is found.

The protocols are functions of two tables of images, the queries' and the gallery's. An image that
lacks what a rule looks at gets None, which equals no other label. Equal labels must be equal
objects, which two tensors that hold 3 are not: so labels become text, numbers, dates or None first.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from openanimals.utils.errors import UserError
from openanimals.utils.viewpoints import lateral_viewpoint

Labels = Sequence[object] | np.ndarray
Pair = tuple[Labels, Labels]  # labels of the queries and of the gallery

PARTS = "query", "gallery"
KINDS = {"text": str, "numbers": Number, "dates": date, "tuples": tuple}
MICROSECONDS = 60_000_000  # of a minute


class ProtocolError(UserError):
    """A protocol that a test set does not allow; names the set, the key and what is missing."""


class Protocol:
    """Tells the pairs of a query and a gallery image that match, and those that are removed.

    Labels are text, numbers or dates, in whatever is like an array. One that is missing (None, NaN)
    equals no other.

    Args:
        identities: labels of the queries `[Q]` and of the gallery `[G]`.
        cameras: the same: images of a query's individual by its camera are removed. None removes
            nothing.
        encounters: the same: images of a query's individual from its encounter are removed.
        viewpoints: the same: images from any other viewpoint than the query's are removed, and so
            are those from an unknown one. A query of unknown viewpoint keeps none.
        rule: the protocol, in words.
        note: what a reader should know of the images; empty: nothing.

    Raises:
        UserError: there is not one label for each identity, or labels are of another kind.
    """

    def __init__(
        self,
        identities: Pair,
        cameras: Pair | None = None,
        *,
        encounters: Pair | None = None,
        viewpoints: Pair | None = None,
        rule: str = "paper",
        note: str = "",
    ) -> None:
        self.rule, self.note = rule, note
        asked = {"identities": identities, "cameras": cameras}
        asked |= {"encounters": encounters, "viewpoints": viewpoints}
        given = {what: _as_pair(pair, what) for what, pair in asked.items() if pair is not None}
        self.identities = given["identities"]
        for name, pair in given.items():
            for what, names, own in zip(PARTS, self.identities, pair, strict=True):
                if len(names) != len(own):
                    raise UserError(
                        f"{what}: {len(own)} {name} for {len(names)} identities; expected one each"
                    )
        self.viewpoints = given.get("viewpoints")
        self._identities = _codes(self.identities)
        occasions = [_codes(given[name]) for name in ("cameras", "encounters") if name in given]
        # Where one side has no labels at all, nothing is removed.
        self._occasions = [c for c in occasions if all((part >= 0).any() for part in c)]
        self._viewpoints = None if self.viewpoints is None else _codes(self.viewpoints)

    def masks(self, queries: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Return two masks for some of the queries and the whole gallery.

        Returns:
            Same identity `[queries, G]`; removed, or None where nothing ever is.
        """
        matches = _equal(self._identities, queries)
        removed = None
        for codes in self._occasions:
            same = matches & _equal(codes, queries)
            removed = same if removed is None else removed | same
        if self._viewpoints is not None:
            other = ~_equal(self._viewpoints, queries)
            removed = other if removed is None else removed | other
        return matches, removed

    def candidates(self) -> np.ndarray:
        """Return which images of the gallery are left to each query, bool `[Q, G]`."""
        queries, gallery = map(len, self.identities)
        _, removed = self.masks(slice(0, queries))
        return np.ones((queries, gallery), dtype=bool) if removed is None else ~removed

    def individuals(self) -> np.ndarray:
        """Return a number for the individual of each image of the gallery `[G]`."""
        return pd.factorize(self.identities[1])[0]

    def matched(self) -> np.ndarray:
        """Return which queries have a match left in their ranking `[Q]`; needs no distances."""
        found = np.zeros(len(self.identities[0]), dtype=bool)
        for query in range(len(found)):
            matches, removed = self.masks(slice(query, query + 1))
            found[query] = (matches if removed is None else matches & ~removed).any()
        return found


def paper(query: pd.DataFrame, gallery: pd.DataFrame) -> Protocol:
    """Return the paper's protocol, which removes images by the query's own counted camera."""
    return Protocol(_both("identity", query, gallery), _both("counted_camera", query, gallery))


def encounter(
    query: pd.DataFrame, gallery: pd.DataFrame, *, by: str = "date", gap: float = 60.0
) -> Protocol:
    """Return the protocol that also removes images of the query's own encounter.

    Args:
        query: the images of the queries.
        gallery: the images of the gallery.
        by: one encounter has one ``"date"``, one ``"sequence"``, or no ``"gap"`` in time.
        gap: minutes, see :func:`bursts`.

    Raises:
        ProtocolError: nothing is known of any image's encounter, or no query has a match left.
        UserError: a date is none.
    """
    labels = [
        label for part in _both(by if by != "gap" else "date", query, gallery) for label in part
    ]
    if by == "gap":
        names = [name for part in _both("identity", query, gallery) for name in part]
        labels = bursts(names, labels, gap)
    elif by == "date":
        labels = days(labels)
    unknown, lacking = labels.count(None), "time of day" if by == "gap" else by
    if unknown == len(labels):
        raise ProtocolError(
            f"none of the {unknown} images has a {lacking}, by which encounters would be told "
            f"apart (TEST.ENCOUNTER.BY is {by!r})"
        )
    note = f"{unknown} of {len(labels)} images have no {lacking}, each is an encounter of its own"
    protocol = Protocol(
        _both("identity", query, gallery),
        _both("counted_camera", query, gallery),
        encounters=(labels[: len(query)], labels[len(query) :]),
        rule=f"encounter by {by}" + (f" of {gap:g} minutes" if by == "gap" else ""),
        note=note if unknown else "",
    )
    _check_matches(
        protocol, "the images of their individuals in the gallery are all of their own encounters"
    )
    return protocol


def viewpoint(query: pd.DataFrame, gallery: pd.DataFrame) -> Protocol:
    """Return the protocol (``flank`` in a config) that ranks a query among images of its own side.

    Raises:
        ProtocolError: no query has a match left.
    """
    own, others = (
        [lateral_viewpoint(text) for text in part] for part in _both("viewpoint", query, gallery)
    )
    unknown, images = own.count(None) + others.count(None), len(own) + len(others)
    protocol = Protocol(
        _both("identity", query, gallery),
        _both("counted_camera", query, gallery),
        viewpoints=(own, others),
        rule="flank",
        note=f"{unknown} of {images} images show no known side" if unknown else "",
    )
    _check_matches(
        protocol, f"{own.count(None)} queries and {others.count(None)} gallery images have no side"
    )
    return protocol


def days(dates: Sequence[str | None]) -> list[str | None]:
    """Return the calendar day of each date.

    Args:
        dates: ISO text, ``YYYY-MM-DD`` or ``YYYY-MM-DDTHH:MM:SS``, or None.

    Raises:
        UserError: a text is no such date.
    """
    moments = [None if date is None else _moment(date) for date in dates]
    return [None if moment is None else moment.date().isoformat() for moment in moments]


def bursts(
    identities: Sequence[object], dates: Sequence[str | None], gap: float
) -> list[int | None]:
    """Chain the images of each individual over time, and number the chains.

    An image belongs to the chain of the one before it if not more than ``gap`` lies between them,
    so a long stay is one chain however long it lasts.

    Args:
        identities: the individual of each image. Give all images of the test set, query and
            gallery: any of them can be the link between two others.
        dates: the time of each, ISO text. None and dates without a time of day belong to no chain.
        gap: minutes.

    Raises:
        UserError: a text is no date.
    """
    codes, _ = pd.factorize(np.array(identities, dtype=object))
    timed = [row for row, date in enumerate(dates) if date and len(date) > len("YYYY-MM-DD")]
    times = np.array([_moment(dates[row]) for row in timed], dtype="datetime64[us]")
    times, individuals = times.astype(np.int64), codes[timed]
    order = np.lexsort((times, individuals))
    apart = np.diff(times[order]) > round(gap * MICROSECONDS)
    begins = apart | (np.diff(individuals[order]) != 0)
    chains: list[int | None] = [None] * len(dates)
    for place, chain in zip(order, [0, *begins.cumsum().tolist()], strict=False):
        chains[timed[place]] = chain
    return chains


def _moment(date: str | None) -> datetime:
    try:
        moment = datetime.fromisoformat(date) if isinstance(date, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo:
        raise UserError(
            f"{date!r} is no date; expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, the local time"
        )
    return moment


def _both(column: str, query: pd.DataFrame, gallery: pd.DataFrame) -> tuple[list, list]:
    """Return a column's values of the queries and of the gallery, None where there are none."""
    own, others = (
        images[column].tolist() if column in images else [None] * len(images)
        for images in (query, gallery)
    )
    return own, others


def _check_matches(protocol: Protocol, reason: str) -> None:
    if not protocol.matched().any():
        raise ProtocolError(
            f"under the protocol {protocol.rule!r} (TEST.PROTOCOL) none of the "
            f"{len(protocol.identities[0])} queries has a match left in its ranking: {reason}"
        )


def _codes(labels: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as integers, equal where the labels are, and -1 where there is none."""
    query, _ = labels
    codes, _ = pd.factorize(np.concatenate(labels))
    codes = codes.astype(np.int32)  # half as much to compare
    return codes[: len(query)], codes[len(query) :]


def _equal(codes: tuple[np.ndarray, np.ndarray], queries: slice) -> np.ndarray:
    query, gallery = codes[0][queries, None], codes[1][None]
    return (query == gallery) & (query >= 0)


def as_labels(labels: Any, what: str) -> np.ndarray:
    """Return labels as `[N]` objects, None where one is missing.

    Args:
        labels: a list, tuple, array, tensor on any device, Series or the like, of one label each.
        what: names them in messages.

    Raises:
        UserError: they are not in a row, or one is no text, number, date or tuple of these.
    """
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu()
    shape = getattr(labels, "shape", None)
    if isinstance(labels, str | bytes | Mapping | Set) or not hasattr(labels, "__iter__"):
        raise UserError(f"the {what} are {labels!r:.60}; expected a list or an array of labels")
    if shape is not None and len(shape) != 1:
        raise UserError(f"the {what} have the shape {list(shape)}; expected one label an image")
    if isinstance(labels, Tensor) or (isinstance(labels, np.ndarray) and labels.dtype.kind != "M"):
        labels = labels.tolist()
    plain = [_plain(label, what) for label in labels]
    found = np.empty(len(plain), dtype=object)
    found[:] = plain
    return found


def _as_pair(pair: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of the queries and of the gallery.

    Raises:
        UserError: there are not two sides, as for :func:`as_labels`, or the one has text and the
            other numbers, say, so that no two of them could ever be equal.
    """
    if not hasattr(pair, "__len__") or len(pair) != 2:
        raise UserError(f"the {what} are {pair!r:.60}; expected the queries' and the gallery's")
    sides = tuple(as_labels(own, f"{part} {what}") for part, own in zip(PARTS, pair, strict=True))
    kinds = [
        {name for name, kind in KINDS.items() if any(isinstance(label, kind) for label in labels)}
        for labels in sides
    ]
    if all(kinds) and not kinds[0] & kinds[1]:
        ours, theirs = (" and ".join(names) for names in kinds)
        raise UserError(
            f"the query {what} are {ours}, those of the gallery {theirs}; none is equal"
        )
    return sides[0], sides[1]


def _plain(label: Any, what: str) -> Any:
    if label is None or isinstance(label, str):
        return label
    if isinstance(label, np.datetime64):
        label = pd.Timestamp(label)
    elif isinstance(label, Tensor | np.ndarray | np.generic) and not label.shape:
        label = label.item()  # of no dimension
    if isinstance(label, bytes):
        return label.decode("utf-8", "surrogateescape")
    if isinstance(label, tuple):
        return tuple(_plain(part, what) for part in label)
    if isinstance(label, Number | str | date | type(pd.NA)) or label is None:
        return None if pd.isna(label) else label  # type: ignore[arg-type]
    raise UserError(f"one of the {what} is {label!r:.60}; expected text, a number or a date")
