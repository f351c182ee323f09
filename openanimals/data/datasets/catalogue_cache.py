"""A catalogue kept as JSON, for sources whose own parsers are slow to import and to run.

It lies beside the data, as ``<root>/.openanimals/<folder>.json``, or in the user's cache folder
where the data is write-protected, and holds as long as its key stays the same.
"""

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path

import pandas as pd

from openanimals.data.catalogue import Catalogue
from openanimals.data.datasets.folder import IMAGE_SUFFIXES
from openanimals.utils.files import atomic_path
from openanimals.utils.machine import user_cache

logger = logging.getLogger(__name__)


def fingerprint(folder: Path) -> str:
    """Return a hash of a folder's file names, and of size and time of what is not an image.

    Image files are not looked at one by one: that would cost more than it protects, since parsers
    do not depend on pixels. So a change of an image under its old name goes unseen.
    """
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders.sort()
        lines = [os.path.relpath(parent, folder)]
        for name in sorted(files):
            lines.append(name)
            if os.path.splitext(name)[1].lower() not in (*IMAGE_SUFFIXES, ".gif", ".heic"):
                status = os.lstat(os.path.join(parent, name))
                lines.append(f"{status.st_size} {status.st_mtime_ns}")
        digest.update("\0".join([*lines, ""]).encode(errors="surrogateescape"))
    return digest.hexdigest()


def load(name: str, folder: Path, key: dict) -> Catalogue | None:
    """Return the cached catalogue of a folder, or None if there is none under this key."""
    for file in _places(folder):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # not there, or damaged
            cached = json.loads(file.read_text(encoding="utf-8"))
            if cached["key"] == key:
                table = pd.DataFrame(cached["table"], dtype=object)
                return Catalogue(name, folder, table, cameras_count=False)
    return None


def save(catalogue: Catalogue, key: dict) -> None:
    """Cache a catalogue in the first place that can be written; warn if none can."""
    content = json.dumps({"key": key, "table": catalogue.table.to_dict("list")})
    for file in _places(catalogue.root):
        with contextlib.suppress(OSError), atomic_path(file) as temporary:
            temporary.write_text(content, encoding="utf-8")
            return
    logger.warning("%s: its catalogue could not be cached", catalogue.name)


def _places(folder: Path) -> list[Path]:
    """Return the files in which a folder's catalogue may be cached, the best first."""
    folder = folder.absolute()
    where = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    places = [user_cache() / "catalogues" / f"{folder.name}-{where}.json"]
    # The permission bits and not os.access, to which everything is writable for root.
    if folder.parent.stat().st_mode & 0o222:
        places.insert(0, folder.parent / ".openanimals" / f"{folder.name}.json")
    return places
