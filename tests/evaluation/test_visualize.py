import numpy as np
import pytest
from PIL import Image, ImageColor

from openanimals.evaluation import evaluate, visualize


@pytest.fixture
def result():
    """Ada is found at once, bo third, and eve has no match; similarities fall with the row."""
    gallery = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
    return evaluate(gallery[[0, 0, 0]], gallery, ["ada", "bo", "eve"], ["ada", "cy", "bo", "bo"])


def black(_):
    return np.zeros((50, 10, 3), dtype=np.uint8)


def frame_colour(sheet, colour):
    """The colour just left of an image of one colour, wherever it is; None if it is not there."""
    rows, columns = np.nonzero((sheet == colour).all(axis=2))
    return tuple(sheet[rows[0], columns[0] - 1].tolist()) if len(rows) else None


def test_right_images_are_framed_green_and_wrong_ones_red(result, tmp_path):
    def solid(*colour):
        return np.full((20, 20, 3), colour, dtype=np.uint8)

    def draw(name, **sections):
        path = tmp_path / name
        counts = {"best": 0, "worst": 0, "random": 0, **sections}
        visualize.draw_rank_lists(
            result, lambda i: solid(200, i, 200), lambda i: solid(0, 99, 10 * i), path, **counts
        )
        return np.asarray(Image.open(path).convert("RGB"))

    green, red, query = map(ImageColor.getrgb, (visualize.RIGHT, visualize.WRONG, visualize.QUERY))
    best, worst = draw("best.png", best=1), draw("worst.png", worst=1)
    frames = [frame_colour(best, (0, 99, 10 * i)) for i in range(4)]
    assert frames == [green, red, red, red]
    frames = [frame_colour(worst, (0, 99, 10 * i)) for i in range(4)]
    assert frames == [red, red, green, green]
    # Each picture shows its own query; all sections together show each once, and never eve.
    assert (
        frame_colour(best, (200, 0, 200)) == frame_colour(worst, (200, 1, 200)) == query  # noqa: E501
    )
    assert frame_colour(best, (200, 1, 200)) is frame_colour(worst, (200, 0, 200)) is None
    everything = draw("all.png", best=5, worst=5, random=5)
    shown = [(everything == (200, i, 200)).all(axis=2).sum() for i in range(3)]
    assert shown[0] == shown[1] > 0 and shown[2] == 0


def test_short_rankings_and_tall_images(tmp_path):
    names = ["ada", "ada", "bo"]
    removed = evaluate(np.eye(3)[:1], np.eye(3), ["ada"], names, ["1"], ["1", "2", "1"])
    tall = np.zeros((50, 10, 3), dtype=np.uint8)
    visualize.draw_rank_lists(removed, lambda i: tall, lambda i: tall, tmp_path / "lists.jpg", k=3)
    assert Image.open(tmp_path / "lists.jpg").format == "JPEG"


def test_lines_join_what_matches(tmp_path):
    """The heavy match is drawn from place to place, in a pair and in a rank list."""
    first, second = np.zeros((60, 40, 3), dtype=np.uint8), np.zeros((120, 240, 3), dtype=np.uint8)
    spots = (
        np.array([[9.5, 19.5], [30, 50]]),
        np.array([2.0, 2.0]),
        np.array([[199.5, 79.5], [10, 10]]),
        np.array([4.0, 4.0]),
        np.array([1.0, 1e-6]),
    )
    visualize.draw_pair(first, second, spots, tmp_path / "pair.png", title="ada")
    drawn = np.asarray(Image.open(tmp_path / "pair.png").convert("RGB")).astype(int)
    factors = visualize.PAIR / 60, visualize.PAIR / 120
    ends = [
        (10 * factors[0], visualize.CAPTION + 20 * factors[0]),
        (40 * factors[0] + visualize.GAP + 200 * factors[1], visualize.CAPTION + 80 * factors[1]),
    ]
    lines = (drawn[:, :, 2] > 60) & (drawn[:, :, 0] < drawn[:, :, 2] // 2)
    for x, y in ends:
        assert lines[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4].all()
    middle = round((ends[0][1] + ends[1][1]) / 2), round((ends[0][0] + ends[1][0]) / 2)
    assert lines[middle[0] - 3 : middle[0] + 4, middle[1] - 3 : middle[1] + 4].any()
    assert not lines[visualize.CAPTION :, : round(ends[0][0]) - 60].any()

    result = evaluate(np.eye(2)[:1], np.eye(2), ["ada"], ["ada", "bo"])
    asked = []

    def of_pair(query, row):
        asked.append((query, row))
        return spots if not row else [part[:0] for part in spots]

    for name, shown in (("plain", None), ("joined", of_pair)):
        visualize.draw_rank_lists(
            result, lambda i: first, lambda i: second, tmp_path / f"{name}.png", spots=shown
        )
    plain, joined = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "joined"))
    assert asked == [(0, 0), (0, 1)]
    assert joined.height == plain.height + visualize.TILE + visualize.GAP


@pytest.mark.filterwarnings("error")
def test_names_of_every_script(tmp_path, caplog):
    """What DejaVu has is drawn, accents too; what it lacks, or is no letter, does not end it."""
    pictures = {}
    for name in ("Zürich-Łoś", "Жираф", "雪", "ada\udcff", "$x_1$", "two\nlines", "W" * 99, ""):
        result = evaluate(np.eye(1), np.eye(1), [name], [name])
        path = tmp_path / "lists.png"
        visualize.draw_rank_lists(result, black, black, path, title=name, k=1)
        pictures[name] = path.read_bytes()
    assert len(set(pictures.values())) == len(pictures)
    assert not caplog.text


def test_cmc_plot(result, tmp_path):
    visualize.plot_cmc({"before": result, "after": result}, tmp_path / "cmc.png")
    assert min(Image.open(tmp_path / "cmc.png").size) > 500
    assert [path.name for path in tmp_path.iterdir()] == ["cmc.png"]
