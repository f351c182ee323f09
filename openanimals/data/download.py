"""Getting a species: resumable downloads, unpacking by wildlife-datasets, and a check at the end.

``<root>/<Class>.archives/`` holds what has been downloaded, ``<root>/<Class>.unpacking/`` is where
it is unpacked, and ``<root>/<Class>/`` appears by a rename once every file of the catalogue is
there. So an interrupted start goes on from what has arrived, and data is never half there.
"""

import contextlib
import gzip
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.data.datasets import wildlife
from openanimals.data.fetch import DownloadError, fetch
from openanimals.data.splits import paper_partition


def prepare(name: str, root: str | Path) -> Catalogue:
    """Download and unpack a species unless it is there, verify it, and print what it holds.

    Args:
        name: ``Animals-<Class>`` or ``<Class>``, a class of wildlife-datasets.
        root: the data root; the species goes to ``<root>/<Class>/``.

    Raises:
        DownloadError: the data cannot be fetched or unpacked; the message says how to go on.
        CatalogueError: unknown name, or there is data already but not all of it.
    """
    class_name = name.removeprefix("Animals-")
    folder = Path(os.path.abspath(Path(root).expanduser())) / class_name
    if folder.is_dir() and any(folder.iterdir()):
        print(f"Animals-{class_name}: verifying what is in {folder}", flush=True)
    else:
        _get(class_name, folder)
    catalogue = wildlife.read(class_name, folder.parent)
    empty = [path for path in catalogue.column("path") if not (folder / path).stat().st_size]
    if empty:
        raise wildlife.MissingDataError(
            f"{catalogue.name}: {len(empty)} image files in {folder} are empty, for instance "
            f"{empty[0]}; move the folder away and run the same command again"
        )
    print(summary(catalogue), flush=True)
    return catalogue


def summary(catalogue: Catalogue) -> str:
    """Return the counts of a catalogue, its hashes, and the counts of its paper partition."""
    identities = catalogue.identities
    train, query, gallery = paper_partition(identities)
    trained = {identities[row] for row in train}
    tested = {identities[row] for row in [*query, *gallery]}
    return "\n".join(
        [
            f"{catalogue.name} is complete: {len(catalogue)} images, "
            f"{len(set(identities) - {UNKNOWN})} individuals, "
            f"{identities.count(UNKNOWN)} images of unknown ones",
            f"  catalogue   sha256 {catalogue.digest()}",
            f"  identities  sha256 {wildlife.identity_digest(catalogue)}",
            f"  paper's partition: individuals {len(trained)} train, {len(tested)} test; "
            f"images {len(train)} train, {len(query)} query, {len(gallery)} gallery",
        ]
    )


def _get(class_name: str, folder: Path) -> None:
    """Download and unpack a data set into ``folder``, which is missing or empty."""
    cls = wildlife.dataset_class(class_name)
    archives = folder.with_name(f"{class_name}.archives")
    unpacking = folder.with_name(f"{class_name}.unpacking")
    about = getattr(cls, "summary", {})
    licence = [about.get("licenses") or "none stated", about.get("licenses_url") or ""]
    print(f"Animals-{class_name}, licence: {' '.join(licence).strip()}", flush=True)
    archives.mkdir(parents=True, exist_ok=True)
    names = _archive_names(cls)
    if not names or not all(_is_whole(archives / name) for name in names):
        _download(class_name, cls, archives, names)
    try:
        _unpack(cls, archives, unpacking)
        wildlife.scan(class_name, unpacking)
    except Exception as cause:  # unpackers and parsers raise whatever a damaged archive leads to
        raise DownloadError(
            f"Animals-{class_name}: cannot unpack {archives} ({cause}); if a file in it is "
            "damaged, delete that file and run the same command again"
        ) from cause
    if folder.exists():
        folder.rmdir()
    unpacking.rename(folder)
    shutil.rmtree(archives)


def _download(class_name: str, cls: Any, archives: Path, names: list[str]) -> None:
    try:
        with _inside(archives), _our_download_url():
            cls._download()
    except Exception as cause:  # no network, "set up Kaggle", "quota reached", "do it manually"...
        page = getattr(cls, "summary", {}).get("url") or "its home page"
        raise DownloadError(
            f"Animals-{class_name} could not be downloaded: {' '.join(str(cause).split())}\n"
            f"  by hand: get {' and '.join(names) or 'its files'} from {page}, put it into "
            f"{archives}, and run the same command again"
        ) from cause


def _unpack(cls: Any, archives: Path, unpacking: Path) -> None:
    """Let the class unpack second names of its files, which it deletes, moves and renames."""
    print(f"unpacking into {unpacking}", flush=True)
    for file in archives.glob("*gz"):
        _check_gzip(file)
    if unpacking.exists():  # an interrupted try
        shutil.rmtree(unpacking)
    unfinished = shutil.ignore_patterns("*.part")
    shutil.copytree(archives, unpacking, copy_function=_link, ignore=unfinished)
    with _inside(unpacking):
        cls._extract()


@contextlib.contextmanager
def _our_download_url() -> Iterator[None]:
    """Let the classes of wildlife-datasets download by :func:`fetch`.

    They all call ``utils.download_url(url, file)``, which can neither resume nor notice that a
    file was cut short. It is the one function of theirs that is replaced, and only in here.
    """
    from wildlife_datasets.datasets import utils

    original = utils.download_url
    utils.download_url = lambda url, output_path: fetch(url, Path(output_path).absolute())
    try:
        yield
    finally:
        utils.download_url = original


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, as wildlife-datasets wants, and come back.

    Programs that came with this Python (Kaggle's) are found though it may not be activated.
    """
    before, path = os.getcwd(), os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ["PATH"] = path


def _archive_names(cls: Any) -> list[str]:
    """Return the names of the files that a class downloads, as far as it says."""
    names = [name for _, name in getattr(cls, "downloads", [])]
    if getattr(cls, "archive", None):
        names.append(cls.archive)
    if hasattr(cls, "archive_name"):  # of Kaggle
        names.append(cls.archive_name())
    return names


def _is_whole(file: Path) -> bool:
    """Tell whether a download has arrived; the directory of a zip file is at its end."""
    return zipfile.is_zipfile(file) if file.suffix == ".zip" else file.is_file()


def _check_gzip(file: Path) -> None:
    """Read a file to its end, where gzip has its checksum; tarfile stops before that."""
    with gzip.open(file) as stream:
        while stream.read(1 << 20):
            pass


def _link(source: str, target: str) -> None:
    """Give a file a second name; copy it where the file system cannot do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
