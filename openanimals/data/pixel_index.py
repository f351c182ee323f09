"""What is noted of ready images in a file: checksums, and what their photographs were then."""

import hashlib
import json
import os
from dataclasses import astuple, dataclass
from pathlib import Path

from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path

FORMAT = 1  # of the index and of the file that it describes

Signature = list[
    int | str
]  # bytes of a file, time of its last change in ns, hash; []: no such file


@dataclass(frozen=True)
class Entry:
    """What is noted of an image.

    Attributes:
        checksum: CRC-32 of its pixels.
        files: the signatures of the files that it is made of: photograph and, if any, mask.
        message: why it cannot be read (it is black then), or None.
    """

    checksum: int
    files: list[Signature]
    message: str | None

    def is_made_of(self, files: list[Signature]) -> bool:
        """Tell whether files with these signatures have the content of then, whatever their times.

        Args:
            files: signatures.
        """
        return [file[::2] for file in files] == [file[::2] for file in self.files]


def sign(path: str, known: Signature | None = None) -> Signature:
    """Return the signature of a file.

    Args:
        path: the file.
        known: an earlier signature; while size and time are still the same, it is returned again
            and the file is not read.
    """
    try:
        status = os.stat(path)
        if known and known[:2] == [status.st_size, status.st_mtime_ns]:
            return known
        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
        return [status.st_size, status.st_mtime_ns, digest]
    except OSError:
        return []


def write_index(path: Path, key: str, entries: list[Entry]) -> None:
    """Write what is noted of all images of a list of photographs.

    Args:
        path: the file; one that is there is replaced.
        key: the list's digest.
        entries: of each image.

    Raises:
        OSError: the folder cannot be written.
    """
    images = [astuple(entry) for entry in entries]
    with atomic_path(path) as temporary:
        text = json.dumps({"format": FORMAT, "key": key, "images": images})
        temporary.write_text(text, encoding="utf-8")


def read_index(path: Path, key: str, count: int) -> list[Entry]:
    """Read what :func:`write_index` has written.

    Args:
        path: the file.
        key: what its key must be.
        count: of images that it must have.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no index, or that of something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["format"], content["key"], len(content["images"])
        entries = [Entry(*values) for values in content["images"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"its index is damaged ({error})") from error
    if found != (FORMAT, key, count):
        raise UserError(
            f"its index is of other settings: format, key and images are {found}; "
            f"expected {(FORMAT, key, count)}"
        )
    return entries
