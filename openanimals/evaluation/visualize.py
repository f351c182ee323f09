"""Pictures of an evaluation: the CMC curves, and rankings of some queries."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openanimals.evaluation.metrics import Result
from openanimals.utils.files import atomic_path

OpenImage = Callable[[int], np.ndarray]
Spots = Sequence[np.ndarray]
"""Matched places `[M, 2]` in pixels of one image and their radii `[M]`, the same in another, and
weights `[M]`."""

RIGHT = "#16a34a"  # frame colours, green and red; the captions say it by signs as well
WRONG = "#dc2626"
QUERY = "#475569"
INK, FAINT, EMPTY = "#0f172a", "#64748b", "#e2e8f0"

DPI = 100
TILE = 144  # side of the square that holds an image, in pixels
FRAME = 5
GAP = 12
QUERY_GAP = 20  # more air between the query and its ranking
CAPTION = 42  # two lines of text under a tile
HEADING = 46
MARGIN = 24
TITLE = 66
LEGEND = 60  # letters of a name in the legend of the curves
MIN_WIDTH = 780  # room for the text at the head, however short the rankings

PAIR = 480  # height of two images side by side, in pixels
SPOT = "#22d3ee"  # cyan, which coats and meadows seldom are
REACH = 3.0  # radius of what a keypoint is described by, as drawn, in its standard deviations

Place = tuple[float, float, float]  # corner of an image in a picture, and how much it is enlarged
SCORES = {"cosine": "cosine similarity", "euclidean": "squared distance", "local": "score"}


def plot_cmc(results: Mapping[str, Result], path: str | Path) -> None:
    """Draw the CMC curves of one or more results.

    Args:
        results: what to draw, by the name that the legend gives it.
        path: the picture to write; its suffix says in which format (png, pdf, svg).

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name, result in results.items():
        ranks = np.arange(1, result.max_rank + 1)
        measures = f"Rank-1 {result.rank(1):.1f}, mAP {result.mAP:.1f}"
        label = f" {_legible(name, LEGEND)}: {measures}"  # one that begins with _ would be left out
        axes.plot(ranks, result.cmc, marker=".", markersize=5, linewidth=1.8, label=label)
    lowest = min(result.cmc[0] for result in results.values())
    axes.set_ylim(max(0, 10 * (lowest // 10) - 5), 101.5)
    longest = max(result.max_rank for result in results.values())
    axes.set_xticks([k for k in (1, 5, *range(10, longest + 1, 10)) if k <= longest])
    axes.set_xlabel("rank k")
    axes.set_ylabel("queries found among the first k (%)")
    axes.set_title("Cumulative match characteristic", loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(loc="lower right", frameon=False).get_texts():
        text.set_parse_math(False)
    _save(figure, path)


def draw_rank_lists(
    result: Result,
    open_query: OpenImage,
    open_gallery: OpenImage,
    path: str | Path,
    *,
    title: str = "",
    best: int = 3,
    worst: int = 3,
    random: int = 3,
    k: int = 10,
    spots: Callable[[int, int], Spots] | None = None,
) -> None:
    """Draw queries with their nearest gallery images, right ones framed green and wrong ones red.

    With spots, each gallery image stands below its query, and lines join what matches.

    Args:
        result: what to draw; only queries with a match are shown, and none of them twice.
        open_query: returns the image of a query, uint8 `[H, W, 3]`, given its position.
        open_gallery: the same for the gallery.
        path: the picture to write; its suffix says in which format (png, jpg, ...).
        title: what was evaluated, for the head of the picture.
        best: how many of the queries with the highest average precision to show.
        worst: how many of those with the lowest.
        random: how many of the rest, drawn at random.
        k: how many gallery images to show; at most as many as ``result.top`` holds.
        spots: returns what matches in a query and a gallery image, given their positions.

    Raises:
        OSError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    sections = _choose(result, best=best, worst=worst, random=random)
    k = min(k, result.top.shape[1])
    above = TILE + GAP if spots else 0
    row_height = above + TILE + CAPTION + GAP
    width = max(MIN_WIDTH, 2 * MARGIN + (k + 1) * TILE + k * GAP + QUERY_GAP)
    height = TITLE + MARGIN + sum(HEADING + row_height * len(rows) for _, rows in sections)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # in pixels, downwards
    axes.axis("off")

    measures = f"Rank-1 {result.rank(1):.1f} %, mAP {result.mAP:.1f} %"
    what = SCORES.get(result.metric, "distance")
    legend = f"query, then its {k} nearest gallery images with their {what}"
    legend += ", joined where they match" if spots else ""
    _write(axes, (MARGIN, 14), title or measures, INK, 18, width - 2 * MARGIN, weight="bold")
    _write(axes, (MARGIN, 42), f"{measures}; {legend}" if title else legend, FAINT, 13, width)
    top = TITLE
    for name, queries in sections:
        axes.plot([MARGIN, width - MARGIN], [top + 8, top + 8], color=EMPTY, linewidth=1)
        _write(axes, (MARGIN, top + 18), name, INK, 15, width)
        top += HEADING
        for query in queries.tolist():
            identity = result.query_identities[query]
            precision = f"AP {100 * result.ranking.average_precision[query]:.1f} %"
            shown = open_query(query)
            _draw_tile(axes, (MARGIN, top + above), shown, QUERY, identity, precision)
            for rank, row in enumerate(result.top[query, :k].tolist()):
                if row < 0:
                    break
                left = MARGIN + (rank + 1) * (TILE + GAP) + QUERY_GAP
                found, near = (
                    result.gallery_identities[row],
                    result.ranking.top_distances[query, rank],
                )
                colour, sign = (RIGHT, "✓") if found == identity else (WRONG, "✗")
                similar = {"cosine": f"{1 - near:.3f}", "local": f"{-near:#.4g}"}
                score = similar.get(result.metric, f"{near:#.4g}")
                place = _draw_tile(
                    axes, (left, top + above), open_gallery(row), colour, found, f"{sign} {score}"
                )
                if spots:
                    query_place = _draw_tile(axes, (left, top), shown, QUERY)
                    _draw_spots(axes, spots(query, row), query_place, place)
            top += row_height
    _save(figure, path)


def _choose(result: Result, *, best: int, worst: int, random: int) -> list[tuple[str, np.ndarray]]:
    """Return the sections of the picture, each with its queries; empty ones are left out."""
    queries = np.random.RandomState(0).permutation(np.flatnonzero(result.matched))
    # The draw also decides between equals, so that "best" is not one individual's first photos.
    ordered = queries[np.argsort(-result.ranking.average_precision[queries], kind="stable")]
    best = min(best, len(ordered))
    worst = min(worst, len(ordered) - best)
    middle = ordered[best : len(ordered) - worst]
    sections = [
        ("Best queries", ordered[:best]),
        ("Worst queries", ordered[len(ordered) - worst :][::-1]),
        ("Random queries", queries[np.isin(queries, middle)][:random]),
    ]
    return [(name, rows) for name, rows in sections if len(rows)]


def draw_pair(
    first: np.ndarray, second: np.ndarray, spots: Spots, path: str | Path, *, title: str = ""
) -> None:
    """Draw two images side by side, and lines between what matches in them.

    Args:
        first: uint8 `[H, W, 3]`.
        second: the same, of any size.
        spots: what matches, such as of :func:`openanimals.matching.one_to_one.matched_spots`. The
            heavier, the stronger the line; circles show the region that they cover.
        path: the picture to write; its suffix says in which format (png, jpg, ...).
        title: for the head of the picture.

    Raises:
        OSError: it cannot be written.
    """
    figure, axes, edges = _side_by_side(first, second)
    heights = first.shape[0], second.shape[0]
    places = [(edges[n][0], CAPTION, PAIR / high) for n, high in enumerate(heights)]
    _draw_spots(axes, spots, *places)
    words = f"{len(spots[0])} matches, together {sum(spots[-1]):.4g}"
    _write(axes, (GAP, 12), f"{title}: {words}" if title else words, INK, 15, edges[1][1])
    _save(figure, path)


def draw_regions(
    first: np.ndarray,
    second: np.ndarray,
    regions: Sequence[np.ndarray],
    path: str | Path,
    *,
    title: str = "",
) -> None:
    """Draw two images side by side; the brighter and yellower a place, the more it speaks for one.

    Args:
        first: uint8 `[H, W, 3]`.
        second: the same, of any size.
        regions: of each image what its places add to the similarity `[h, w]`.
        path: the picture to write; its suffix says in which format (png, jpg, ...).
        title: for the head of the picture.

    Raises:
        OSError: it cannot be written.
    """
    grey = [image.mean(axis=2, keepdims=True).repeat(3, 2) / 255 for image in (first, second)]
    figure, axes, edges = _side_by_side(*grey)
    most = max(float(each.max()) for each in regions)
    for places, extent in zip(regions, edges, strict=True):
        share = np.clip(places / max(most, 1e-12), 0, 1)
        style = {"interpolation": "bicubic", "alpha": 0.6, "zorder": 3}
        axes.imshow(share, "inferno", vmin=0, vmax=1, aspect="auto", extent=extent, **style)
    _write(axes, (GAP, 12), title, INK, 15, edges[1][1])
    _save(figure, path)


def _side_by_side(first: np.ndarray, second: np.ndarray) -> tuple[Any, Any, list[tuple]]:
    """Return a figure, its axes in pixels, and the edges of the two images in it."""
    from matplotlib.figure import Figure

    widths = [round(PAIR * image.shape[1] / image.shape[0]) for image in (first, second)]
    width, height = sum(widths) + GAP, PAIR + CAPTION
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    edges = []
    for image, wide, left in zip((first, second), widths, (0, widths[0] + GAP), strict=True):
        edges.append((left, left + wide, height, CAPTION))
        axes.imshow(image, extent=edges[-1], interpolation="antialiased", aspect="auto", zorder=2)
    return figure, axes, edges


def _draw_spots(axes: Any, spots: Spots, query: Place, gallery: Place) -> None:
    """Draw a line for each match, and circles around what it joins; the heavier, the stronger."""
    from matplotlib.collections import EllipseCollection, LineCollection

    if not len(spots[-1]):
        return  # of which matplotlib makes an error
    query_xy, query_scale, gallery_xy, gallery_scale, weights = map(np.asarray, spots)
    share = weights / weights.max()
    ends = []
    for (left, top, factor), xy, scale in (
        (query, query_xy, query_scale),
        (gallery, gallery_xy, gallery_scale),
    ):
        centres = (xy + 0.5) * factor + (left, top)  # 0, 0 is a pixel's middle
        sizes = 2 * REACH * factor * scale
        circles = EllipseCollection(
            sizes,
            sizes,
            np.zeros(len(sizes)),
            units="xy",
            offsets=centres,
            offset_transform=axes.transData,
            facecolors=SPOT,
            linewidths=0,
            alpha=0.04 + 0.31 * share,
            zorder=3,
        )
        axes.add_collection(circles)
        ends.append(centres)
    lines = LineCollection(
        list(np.stack(ends, axis=1)),
        colors=SPOT,
        linewidths=0.4 + share,
        alpha=0.08 + 0.67 * share,
        zorder=3,
    )
    axes.add_collection(lines)


def _draw_tile(
    axes: Any,
    corner: tuple[int, int],
    pixels: np.ndarray,
    colour: str,
    name: object = "",
    score: str = "",
) -> Place:
    """Draw an image, whole and centred in a framed square, and two lines of text below it."""
    from matplotlib.patches import Rectangle
    from PIL import Image, ImageOps

    left, top = corner
    side = TILE - 2 * FRAME
    whole = np.asarray(ImageOps.pad(Image.fromarray(pixels), (side, side), color=EMPTY))
    square = Rectangle(corner, TILE, TILE, facecolor=colour, linewidth=0, antialiased=False)
    axes.add_patch(square)
    edges = left + FRAME, left + TILE - FRAME, top + TILE - FRAME, top + FRAME
    axes.imshow(whole, extent=edges, interpolation="nearest", aspect="auto", zorder=2)
    _write(axes, (left, top + TILE + 5), str(name), INK, 12, TILE)
    _write(axes, (left, top + TILE + 21), score, colour, 12, TILE)
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    return left + (TILE - factor * width) / 2, top + (TILE - factor * height) / 2, factor


def _write(
    axes: Any,
    corner: tuple[int, int],
    text: str,
    colour: str,
    size: int,
    width: int,
    weight: str = "normal",
) -> None:
    """Write one line, of letters so many pixels high, cut to a width at its beginning.

    The ends are where names and paths differ.
    """
    most = int(width / (0.66 * size))  # DejaVu's letters are that wide, on average or less
    axes.text(
        *corner,
        _legible(text, most),
        color=colour,
        fontsize=72 * size / DPI,
        fontfamily="DejaVu Sans",
        fontweight=weight,
        verticalalignment="top",
        parse_math=False,
        clip_on=True,
    )


def _legible(text: str, most: int) -> str:
    """Return a text without what matplotlib cannot draw, cut to a length at its beginning."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _save(figure: Any, path: str | Path) -> None:
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # drawn as boxes
        figure.savefig(temporary, format=Path(path).suffix[1:], dpi="figure")
