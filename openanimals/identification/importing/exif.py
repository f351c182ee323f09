"""What photographs and their names say: EXIF time and position, XMP tags. No pixel is decoded."""

import math
import os
import re
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

from PIL import ExifTags, Image

from openanimals.data.catalogue import iso_date
from openanimals.data.image_io import LYING, UPRIGHT

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
SUBJECTS = (
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject",
    "{http://purl.org/dc/elements/1.1/}subject",
)
TAGS = {"individual": "identity", "individualid": "identity", "identity": "identity"}
TAGS |= {"species": "species", "viewpoint": "viewpoint", "side": "viewpoint", "flank": "viewpoint"}

# Station (and perhaps camera), date, time, number: StationA__2009-04-21__00-40-00(1).JPG
STATION = re.compile(r"(?P<camera>.+?)__(?:.+__)?\d{4}-\d\d-\d\d__\d\d-\d\d-\d\d(\(\d+\))?")
# Year to second, with the same few signs between: IMG_20240517_093211, 2024-05-17 09.32.11
TIME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)[-_ T]{0,2}(\d\d)([-_.h]?)(\d\d)[-_.m]?(\d\d)"
    r"(?:\d{3})?(?!\d)"  # thousandths, as telephones write
)


@dataclass(frozen=True)
class Header:
    """What one file says without its pixels.

    Attributes:
        date: when the photograph was taken, ``YYYY-MM-DDTHH:MM:SS`` of the camera's clock, or None.
        latitude: degrees as text, or None; so ``longitude``.
        tags: values of ``identity``, ``species`` and ``viewpoint`` in XMP tags like
            ``individual|2``; several where a photograph has several such tags.
        size: (width, height) of the upright photograph in pixels, or None.
        problem: why it cannot be read as a photograph, or None.
        tag_problem: why its XMP cannot be read, or None.
    """

    date: str | None = None
    latitude: str | None = None
    longitude: str | None = None
    tags: dict[str, list[str]] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    problem: str | None = None
    tag_problem: str | None = None


def read_headers(files: Iterable[str]) -> dict[str, Header]:
    """Read the headers of photographs, each file once."""
    paths = [*dict.fromkeys(files)]
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:  # which wait for disks
        warnings.simplefilter("ignore")  # Pillow's, of EXIF that is damaged in part
        return dict(zip(paths, pool.map(read_header, paths), strict=True))


def read_header(file: str | os.PathLike[str]) -> Header:
    """Read the header of one photograph; never raises for what is wrong with the file."""
    try:
        os.fspath(file).encode()
        if not os.path.isfile(file):  # a FIFO would wait for ever
            return Header(problem="no such file" if not os.path.exists(file) else "not a file")
        with open(file, "rb") as handle, Image.open(handle) as image:
            width, height = image.size
            exif: Any = {}
            # Of a PNG without EXIF in front, Pillow would decode all pixels to look behind them.
            if image.format != "PNG" or "exif" in image.info:
                with suppress(Exception):  # whatever is wrong with EXIF, the photograph is there
                    exif = image.getexif()
            date, latitude, longitude = _date(exif), *_position(exif)
            turned = UPRIGHT.get(exif.get(ExifTags.Base.Orientation, 1)) in LYING
            if turned and image.format != "TIFF":  # whose size Pillow gives upright
                width, height = height, width
            xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    except UnicodeEncodeError:
        return Header(problem="its name is not Unicode")
    except Exception as error:  # OSError, SyntaxError, struct.error, ... as the decoder likes
        return Header(problem=str(error).replace(str(file), "it") or type(error).__name__)
    tags: dict[str, list[str]] = {}
    tag_problem = None
    try:
        tags = read_tags(xmp)
    except ValueError as error:
        tag_problem = str(error)
    return Header(date, latitude, longitude, tags, (width, height), tag_problem=tag_problem)


def read_tags(xmp: bytes | str) -> dict[str, list[str]]:
    """Return the values of tags such as ``individual|2`` in XMP, by our column's name.

    Args:
        xmp: the XMP packet as it stands in the file, UTF-8.

    Raises:
        ValueError: it is not XML, or declares a document type: entities can grow without end, and
            XMP has none.
    """
    try:
        text = xmp.decode("utf-8") if isinstance(xmp, bytes) else xmp
        text = text.strip(" \t\r\n\0\ufeff")
        if "<!DOCTYPE" in text:
            raise ValueError("the XMP declares a document type")
        root = ElementTree.fromstring(text) if text else ElementTree.Element("none")
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise ValueError(f"the XMP is damaged: {error}") from None
    found: dict[str, list[str]] = {}
    for subject in SUBJECTS:
        for item in (item for bag in root.iter(subject) for item in bag.iter(f"{RDF}li")):
            *keys, value = (part.strip() for part in (item.text or "").split("|"))
            name = TAGS.get(re.sub(r"[\s_]", "", keys[-1]).casefold()) if keys else None
            if name and value and value not in found.setdefault(name, []):
                found[name].append(value)
    return found


def camera_and_time(path: str) -> tuple[str | None, str | None]:
    """Return the camera (station) and the time that a file's name says.

    Example:
        >>> camera_and_time("StationA__2009-04-21__00-40-00(1).JPG")
        ('StationA', '2009-04-21T00:40:00')
        >>> camera_and_time("IMG_20240517_093211.jpg")
        (None, '2024-05-17T09:32:11')
    """
    stem = PurePosixPath(path).stem
    station = STATION.fullmatch(stem)
    if time := TIME.search(stem):
        with suppress(ValueError):  # numbers that are no time
            moment = datetime(*map(int, time.group(1, 3, 4, 5, 7, 8)))  # type: ignore[arg-type]
            return station and station["camera"], moment.isoformat()
    return None, None


def _date(exif: Any) -> str | None:
    """Return when a photograph was taken; not when it was changed, which the other tag says."""
    with suppress(Exception):
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag in (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized):
            with suppress(ValueError):
                text = str(details.get(tag, "")).strip(" \0")
                if "T" in (date := iso_date(text)):
                    return date
    return None


def _position(exif: Any) -> tuple[str | None, str | None]:
    """Return latitude and longitude in degrees; None where there is no fix."""
    with suppress(Exception):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        values = []
        for reference, angle in ((1, 2), (3, 4)):
            degrees = sum(float(part) / 60**n for n, part in enumerate(gps[angle]))
            values.append(-degrees if str(gps[reference]).strip(" \0").upper() in "SW" else degrees)
        latitude, longitude = values
        known = math.isfinite(latitude + longitude) and (latitude, longitude) != (0, 0)
        if known and abs(latitude) <= 90 and abs(longitude) <= 180:
            return f"{latitude:.6f}", f"{longitude:.6f}"
    return None, None
