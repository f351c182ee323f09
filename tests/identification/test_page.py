"""The page of matches, read as a browser's parser reads it."""

import base64
import io
import re
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from openanimals.identification import page
from openanimals.identification.page import heading, percent, write_page
from openanimals.matching.one_to_one import Spots
from openanimals.utils.errors import UserError
from tests.identification.test_matches import match, matches

EVIL = '<script>alert(1)</script>" onerror="alert(2)'


class Elements(HTMLParser):
    """All elements of a page, and its text outside of style and script."""

    def __init__(self, file):
        super().__init__()
        self.found, self.text, self.within = [], "", ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.within = tag

    def handle_data(self, data):
        self.text += "" if self.within in ("style", "script") else data

    def handle_endtag(self, tag):
        self.within = ""

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def grey(_):
    return Image.new("RGB", (40, 30), (120, 120, 120))


def images(elements):
    for attributes in elements.all("img"):
        kind, text = attributes["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        yield base64.b64decode(text)


def located():
    """A photograph whose file says in four ways where it was taken."""
    exif = Image.Exif()
    exif[0x8825] = {1: "S", 2: (2.0, 30.0, 0.0), 3: "E", 4: (34.0, 50.0, 0.0)}
    exif[0x010E] = "34.8333"
    memory = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">GPSLatitude 34.8333</x:xmpmeta>'
    Image.new("RGB", (2000, 1500)).save(
        memory, "JPEG", exif=exif, comment=b"34.8333", xmp=xmp, icc_profile=b"34.8333"
    )
    image = Image.open(memory)
    assert image.getexif().get_ifd(0x8825) and b"34.8333" in memory.getvalue()
    return image


def test_pictures_carry_no_position_and_are_of_the_size_of_a_screen(tmp_path):
    (file,) = write_page(matches(match()), tmp_path, lambda _: located())
    found = [*images(Elements(file))]
    assert len(found) == 4  # two of the encounter, one of each candidate
    for data in found:
        image = Image.open(io.BytesIO(data))
        assert image.size == (640, 480) and not image.getexif()
        assert {*image.info} <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert b"GPS" not in data and b"34.8333" not in data and b"Exif" not in data


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_photographs_of_every_mode_are_shown_and_small_ones_not_enlarged(mode, tmp_path):
    (file,) = write_page(matches(match()), tmp_path, lambda _: Image.new(mode, (40, 30)))
    assert {Image.open(io.BytesIO(data)).size for data in images(Elements(file))} == {(40, 30)}


def test_nothing_comes_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST", 1)
    several = matches(match(), match("e2", decision="new"))
    for file in write_page(several, tmp_path, grey):
        elements = Elements(file)
        assert not re.search(r"https?:|url\(|@import|//\w", file.read_text(encoding="utf-8"))
        addresses = [
            value
            for _, attributes in elements.found
            for name, value in attributes.items()
            if name in ("src", "href", "srcset", "action", "data", "poster", "background")
        ]
        local = [value for value in addresses if not value.startswith("data:image/jpeg;base64,")]
        assert len(addresses) > len(local) and all((tmp_path / name).is_file() for name in local)
        (policy,) = [m["content"] for m in elements.all("meta") if "http-equiv" in m]
        assert policy.startswith("default-src 'none'")


def test_every_text_is_escaped(tmp_path):
    found = match(
        EVIL, (EVIL, "b"), annotations=(EVIL,), place=EVIL, viewpoints=(EVIL,), remark=EVIL
    )
    texts = {name: EVIL for name in ("fingerprint", "matcher", "catalogue", "note", "made")}
    everything = matches(found, rates={EVIL: EVIL}, **texts)
    folder = tmp_path / "a<b>"
    plain = match("e", ("a",), annotations=("n",), viewpoints=("l",), place="p", remark="r")

    def fails(_):
        raise UserError(EVIL)

    shapes = []
    for open_photograph in (grey, fails):
        (file,) = write_page(
            everything, folder, open_photograph, lambda *_: None, describe=lambda _: EVIL
        )
        elements = Elements(file)
        assert len(elements.all("script")) == 1
        assert not [name for _, given in elements.found for name in given if name.startswith("on")]
        shapes.append(elements.text.count(EVIL))
    assert shapes[0] > 10 and shapes[1] > shapes[0]
    (file,) = write_page(matches(plain), folder, grey)
    assert EVIL not in Elements(file).text


def test_many_encounters_are_on_several_pages_the_unsure_first(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST", 2)
    decisions = ["known", "unsure", "new", "known", "unsure"]
    many = [match(f"encounter-{n}", decision=d) for n, d in enumerate(decisions)]
    for name in ("matches-7.html", "matches-mine.html"):
        (tmp_path / name).write_text("of earlier")
    files = write_page(matches(*many), tmp_path, grey)
    assert [file.name for file in files] == ["matches.html", "matches-2.html", "matches-3.html"]
    assert {file.name for file in tmp_path.glob("*.html")} == {
        *(file.name for file in files),
        "matches-mine.html",
    }
    order, places = [], []
    for file in files:
        elements = Elements(file)
        order += re.findall(r"Encounter (encounter-\d)", elements.text)
        places += [article["id"] for article in elements.all("article")]
        links = {link["href"] for link in elements.all("a")}
        assert links == {other.name for other in files if other != file}
        assert "5 encounters compared with 24 known" in elements.text
    assert order == [f"encounter-{n}" for n in (1, 4, 2, 0, 3)]
    assert len({*places}) == 5
    assert [*map(str, write_page(matches(), tmp_path, grey))] == [str(files[0])]
    assert "Nothing was to be identified" in Elements(files[0]).text


def test_a_photograph_that_is_gone_is_shown_as_such(tmp_path):
    def opened(name):
        if name == "Mara.jpg":
            raise FileNotFoundError(2, "No such file", "/card/Mara.jpg")
        return grey(name)

    (file,) = write_page(matches(match()), tmp_path, opened)
    elements = Elements(file)
    assert len(elements.all("img")) == 3
    assert re.search(r"Mara.jpg.*cannot be shown: .*/card/Mara.jpg", elements.text, re.DOTALL)


def test_matched_spots_are_drawn_on_both_photographs(tmp_path):
    def spots(query, candidate):
        assert query == "new/b.jpg#1,2,30,40"
        if candidate == "Mara.jpg":
            return None
        xy = np.stack([np.arange(20.0), np.full(20, 7.0)], axis=1)
        return Spots(xy, np.ones(20), xy + 10, np.full(20, 2.0), np.arange(20.0, 0, -1))

    (file,) = write_page(matches(match()), tmp_path, grey, spots)
    elements = Elements(file)
    ours, theirs = elements.all("svg")
    assert ours["viewbox"] == theirs["viewbox"] == "0 0 40 30"
    assert ours["data-of"] == theirs["data-of"] == "1"
    circles = [
        tuple(float(circle[name]) for name in ("cx", "cy", "r"))
        for circle in elements.all("circle")
    ]
    drawn = circles[::2]  # each with an edge below it
    assert drawn == circles[1::2] and len(drawn) == 2 * page.MARKED
    assert drawn[0] == (0.5, 7.5, 3) and drawn[page.MARKED + 1] == (11.5, 17.5, 6)
    assert [box for box in elements.all("input") if box.get("id") == "spots"]


def test_an_encounter_of_many_photographs_shows_those_that_match(tmp_path):
    names = tuple(f"{n}.jpg" for n in range(30))
    found = match(annotations=names, viewpoints=("left",) * 30)
    opened = []
    (file,) = write_page(matches(found), tmp_path, lambda name: opened.append(name) or grey(name))
    assert opened[0] == "29.jpg" and len(opened) == page.SHOWN + 2
    assert "and 24 more photographs" in Elements(file).text


def test_a_screen_reader_finds_its_way(tmp_path):
    found = matches(match("e1"), match("e2", decision="unsure"), match("e3", decision="new"))
    (file,) = write_page(found, tmp_path, grey, lambda *_: None, describe=lambda name: "dusk")
    elements = Elements(file)
    assert elements.all("html") == [{"lang": "en"}] and len(elements.all("h1")) == 1
    identifiers = [given["id"] for _, given in elements.found if "id" in given]
    assert len({*identifiers}) == len(identifiers)
    assert [a["aria-labelledby"] for a in elements.all("article")] == ["h1", "h2", "h3"]
    assert {given["id"] for given in elements.all("h2")} == {"h1", "h2", "h3"}
    alternatives = {given["alt"] for given in elements.all("img")}
    assert {"Kesi, in the catalogue: Kesi.jpg", "To be identified: new/a.jpg, left"} < alternatives
    assert "1. Kesi, 90\u00a0%" in elements.text and "Kesi.jpg · dusk" in elements.text
    assert "2025-04-01 · Camera 3" in elements.text


def test_colours_can_be_read_and_are_not_all(tmp_path):
    (file,) = write_page(matches(match()), tmp_path, grey)
    style = file.read_text(encoding="utf-8")
    pairs = re.findall(r"--ink: (#\w{6}); --tint: (#\w{6})", style)
    assert len(pairs) == 4

    def luminance(colour):  # of WCAG 2
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    assert all((luminance(tint) + 0.05) / (luminance(ink) + 0.05) >= 7 for ink, tint in pairs)
    assert len({*page.SIGNS.values()}) == 4


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.97, "97 %"), (0.9951, "over 99 %"), (1, "over 99 %"), (0.994, "99 %")]
    + [(0.0049, "under 1 %"), (0, "under 1 %"), (0.006, "1 %")],
)
def test_a_probability_in_words(probability, words):
    assert percent(probability).replace("\u00a0", " ") == words


def test_what_is_proposed_in_words():
    unsure = match(decision="unsure", candidates=match().candidates[1:], new=0.5)
    found = [
        match(),
        match(decision="new", probability=0.88),
        unsure,
        match(decision="cannot tell"),
    ]
    assert [heading(each).replace("\u00a0", " ") for each in found] == [
        "Kesi, 90 %",
        "New animal, 88 %",
        "Perhaps a new animal, 50 %, or Mara, 6 %",
        "Cannot tell",
    ]


def test_memory_does_not_grow_with_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "KEPT", 1)
    random = np.random.default_rng(0)

    def noise(_):
        return Image.fromarray(random.integers(0, 256, (120, 160, 3), np.uint8))

    many = matches(*(match(f"e{n}", annotations=(f"{n}.jpg",)) for n in range(100)))
    tracemalloc.start()
    (file,) = write_page(many, tmp_path, noise)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < file.stat().st_size / 3
