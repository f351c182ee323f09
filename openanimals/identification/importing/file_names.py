"""Camera and time from the names that cameras and camera-trap programs give to files."""

import re
from contextlib import suppress
from datetime import datetime
from pathlib import PurePosixPath

# Station (and perhaps camera), date, time, number: StationA__2009-04-21__00-40-00(1).JPG
STATION = re.compile(r"(?P<camera>.+?)__(?:.+__)?\d{4}-\d\d-\d\d__\d\d-\d\d-\d\d(\(\d+\))?")
# Year to second, with the same few signs between: IMG_20240517_093211, 2024-05-17 09.32.11
TIME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)[-_ T]{0,2}(\d\d)([-_.h]?)(\d\d)[-_.m]?(\d\d)"
    r"(?:\d{3})?(?!\d)"  # thousandths, as telephones write
)
NUMBER = re.compile(r"(\D*)(\d{3,7})")  # what a camera counts: IMG_0412, DSCN6064


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


def counter(path: str) -> tuple[str, int] | None:
    """Return what stands before the number that a camera counts on, and the number.

    Example:
        >>> counter("100CANON/IMG_0412.JPG")
        ('IMG_', 412)
    """
    match = NUMBER.fullmatch(PurePosixPath(path).stem)
    return (match[1], int(match[2])) if match else None
