"""Pictures of an evaluation: the CMC curves, and rankings of some queries."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openanimals.evaluation.metrics import Result
from openanimals.utils.files import atomic_path

if TYPE_CHECKING:
    from PIL import ImageFont

OpenImage = Callable[[int], np.ndarray]

RIGHT = (22, 163, 74)  # frame colours, green and red; the captions say it by signs as well
WRONG = (220, 38, 38)
QUERY = (71, 85, 105)
INK, FAINT, PAPER, EMPTY = (15, 23, 42), (100, 116, 139), (255, 255, 255), (241, 245, 249)

TILE = 112  # side of the square that holds an image, in pixels
FRAME = 4
GAP = 10
QUERY_GAP = 18  # more air between the query and its ranking
CAPTION = 36  # two lines of text under a tile
HEADING = 40
MARGIN = 20
TITLE = 58
MIN_WIDTH = 680  # room for the text at the head, however short the rankings

SCORES = {"cosine": "cosine similarity", "euclidean": "squared distance"}


def plot_cmc(results: Mapping[str, Result], path: str | Path) -> None:
    """Draw the CMC curves of one or more results.

    Args:
        results: what to draw, by the name that the legend gives it.
        path: the picture to write; its suffix says in which format (png, pdf, svg).

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, result in results.items():
        ranks = np.arange(1, result.max_rank + 1)
        label = f"{name}: Rank-1 {result.rank(1):.1f}, mAP {result.mAP:.1f}"
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
    axes.legend(loc="lower right", frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], dpi=150)


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
    seed: int = 0,
) -> None:
    """Draw queries with their nearest gallery images, right ones framed green and wrong ones red.

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
        seed: seed of the draw.

    Raises:
        OSError: the picture cannot be written.
    """
    from PIL import Image

    sections = _choose(result, best=best, worst=worst, random=random, seed=seed)
    k = min(k, result.top.shape[1])
    row_height = TILE + CAPTION + GAP
    sheet = _Sheet(
        width=max(MIN_WIDTH, 2 * MARGIN + (k + 1) * TILE + k * GAP + QUERY_GAP),
        height=TITLE + MARGIN + sum(HEADING + row_height * len(rows) for _, rows in sections),
    )
    scores = f"Rank-1 {result.rank(1):.1f} %, mAP {result.mAP:.1f} %"
    what = SCORES.get(result.metric, "distance")
    legend = f"query, then its {k} nearest gallery images with their {what}"
    headline = _fitted(title or scores, sheet.title, sheet.image.width - 2 * MARGIN)
    sheet.draw.text((MARGIN, 14), headline, INK, sheet.title)
    sheet.draw.text((MARGIN, 39), f"{scores}; {legend}" if title else legend, FAINT, sheet.caption)

    top = TITLE
    for name, queries in sections:
        sheet.draw.line([(MARGIN, top + 8), (sheet.image.width - MARGIN, top + 8)], EMPTY, 2)
        sheet.draw.text((MARGIN, top + 16), name, INK, sheet.heading)
        top += HEADING
        for query in queries.tolist():
            _draw_ranking(sheet, top, result, query, k, open_query, open_gallery)
            top += row_height
    with atomic_path(path) as temporary:
        sheet.image.save(temporary, Image.registered_extensions()[Path(path).suffix.lower()])


def _choose(
    result: Result, *, best: int, worst: int, random: int, seed: int
) -> list[tuple[str, np.ndarray]]:
    """Return the sections of the picture, each with its queries; empty ones are left out."""
    queries = np.random.RandomState(seed).permutation(np.flatnonzero(result.matched))
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


def _draw_ranking(
    sheet: "_Sheet",
    top: int,
    result: Result,
    query: int,
    k: int,
    open_query: OpenImage,
    open_gallery: OpenImage,
) -> None:
    """Draw one query and its ranking, beginning at the height ``top``."""
    identity = result.query_identities[query]
    precision = f"AP {100 * result.ranking.average_precision[query]:.1f} %"
    sheet.tile((MARGIN, top), open_query(query), QUERY, identity, precision)
    for rank, row in enumerate(result.top[query, :k].tolist()):
        if row < 0:
            break
        left = MARGIN + (rank + 1) * (TILE + GAP) + QUERY_GAP
        found = result.gallery_identities[row]
        colour, sign = (RIGHT, "✓") if found == identity else (WRONG, "✗")
        distance = result.ranking.top_distances[query, rank]
        score = f"{1 - distance:.3f}" if result.metric == "cosine" else f"{distance:#.4g}"
        sheet.tile((left, top), open_gallery(row), colour, found, f"{sign} {score}")


class _Sheet:
    """A white picture with the fonts to write on it."""

    def __init__(self, width: int, height: int) -> None:
        import matplotlib
        from PIL import Image, ImageDraw, ImageFont

        # matplotlib's own copy of DejaVu Sans: Pillow's built-in font lacks most scripts.
        fonts = Path(matplotlib.get_data_path(), "fonts/ttf")
        self.title = ImageFont.truetype(str(fonts / "DejaVuSans-Bold.ttf"), 19)
        self.heading = ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 15)
        self.caption = ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 12)
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def tile(
        self,
        corner: tuple[int, int],
        pixels: np.ndarray,
        colour: tuple[int, int, int],
        name: object,
        score: str,
    ) -> None:
        """Draw an image, whole and centred in a framed square, and two lines of text below it."""
        from PIL import Image, ImageOps

        left, top = corner
        side = TILE - 2 * FRAME
        whole = ImageOps.pad(Image.fromarray(pixels), (side, side), color=EMPTY)
        self.draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=colour)
        self.image.paste(whole, (left + FRAME, top + FRAME))
        fitted = _fitted(str(name), self.caption, TILE)
        self.draw.text((left, top + TILE + 3), fitted, INK, self.caption)
        self.draw.text((left, top + TILE + 18), score, colour, self.caption)


def _fitted(text: str, font: "ImageFont.FreeTypeFont", width: int) -> str:
    """Cut a text to a width in pixels, keeping its end, where names and paths differ."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
