"""Getting a species: resumable downloads, unpacking by wildlife-datasets, and a check at the end.

``<root>/<Class>.archives/`` holds what has been downloaded, ``<root>/<Class>.unpacking/`` is where
it is unpacked, and ``<root>/<Class>/`` appears by a rename once every file of the catalogue is
there. So an interrupted start goes on from what has arrived, and data is never half there.
"""

import contextlib
import errno
import gzip
import os
import platform
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import requests
from requests import codes
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ProtocolError

from openanimals.data.catalogue import UNKNOWN, Catalogue, CatalogueError
from openanimals.data.datasets import wildlife
from openanimals.data.splits import paper_partition
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 4  # that may fail in a row
_LARGEST_RATIO = 100  # of what an archive unpacks to, to its own size


class DownloadError(UserError):
    """Data that cannot be fetched or unpacked; says what was kept and how to go on."""


class ArchiveError(UserError):
    """An archive that would write outside its folder, or more than it can honestly hold."""


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
    folder = Path(os.path.abspath(expanded(root))) / class_name
    if folder.is_dir() and any(folder.iterdir()):
        print(f"Animals-{class_name}: verifying what is in {folder}", flush=True)
    else:
        _get(class_name, folder)
    catalogue = wildlife.read(class_name, folder.parent)
    empty = [path for path in catalogue.column("path") if not (folder / path).stat().st_size]
    if empty:
        raise CatalogueError(
            f"{catalogue.name}: {len(empty)} image files in {folder} are empty, for instance "
            f"{empty[0]}; move the folder away and run the same command again"
        )
    identities = catalogue.identities
    train, query, gallery = paper_partition(identities)
    trained, tested = ({identities[row] for row in rows} for rows in (train, query + gallery))
    print(
        f"{catalogue.name} is complete: {len(catalogue)} images, "
        f"{len(set(identities) - {UNKNOWN})} individuals, "
        f"{identities.count(UNKNOWN)} images of unknown ones\n"
        f"  catalogue   sha256 {catalogue.digest()}\n"
        f"  identities  sha256 {wildlife.identity_digest(catalogue)}\n"
        f"  paper's partition: individuals {len(trained)} train, {len(tested)} test; "
        f"images {len(train)} train, {len(query)} query, {len(gallery)} gallery",
        flush=True,
    )
    return catalogue


def _get(class_name: str, folder: Path) -> None:
    """Download and unpack a data set into ``folder``, which is missing or empty."""
    cls = wildlife.dataset_class(class_name)
    archives = folder.with_name(f"{class_name}.archives")
    unpacking = folder.with_name(f"{class_name}.unpacking")
    about = getattr(cls, "summary", {})
    licence = [about.get("licenses") or "none stated", about.get("licenses_url") or ""]
    print(f"Animals-{class_name}, licence: {' '.join(licence).strip()}", flush=True)
    archives.mkdir(parents=True, exist_ok=True)
    _download(cls, archives)
    print(f"unpacking into {unpacking}", flush=True)
    try:
        _unpack(cls, archives, unpacking)
        wildlife.scan(cls, unpacking)
    except Exception as cause:  # unpackers and parsers raise whatever a damaged archive leads to
        advice = "; if a file in it is damaged, delete that file and run the same command again"
        if isinstance(cause, ArchiveError):  # which another download of it would not mend
            advice = ""
        raise DownloadError(
            f"Animals-{class_name}: cannot unpack {archives} ({cause}){advice}"
        ) from cause
    if folder.exists():
        folder.rmdir()
    unpacking.rename(folder)
    shutil.rmtree(archives)


def _download(cls: Any, archives: Path) -> None:
    """Let the class download what has not arrived."""
    names = [name for _, name in getattr(cls, "downloads", [])]
    if getattr(cls, "archive", None):
        names.append(cls.archive)
    if hasattr(cls, "archive_name"):  # of Kaggle
        names.append(cls.archive_name())
    whole = [  # the directory of a zip file is at its end
        zipfile.is_zipfile(file) if file.suffix == ".zip" else file.is_file()
        for file in map(archives.joinpath, names)
    ]
    if whole and all(whole):
        return
    try:
        with _inside(archives), _our_functions():
            cls._download()
    except Exception as cause:  # no network, "set up Kaggle", "quota reached", "do it manually"...
        page = getattr(cls, "summary", {}).get("url") or "its home page"
        raise DownloadError(
            f"Animals-{cls.__name__} could not be downloaded: {' '.join(str(cause).split())}\n"
            f"  by hand: get {' and '.join(names) or 'its files'} from {page}, put it into "
            f"{archives}, and run the same command again"
        ) from cause


def _unpack(cls: Any, archives: Path, unpacking: Path) -> None:
    """Let the class unpack second names of its files, which it deletes, moves and renames."""
    for file in archives.glob("*gz"):
        with gzip.open(file) as stream:  # to its end, where the checksum is; tarfile stops before
            while stream.read(_CHUNK):
                pass
    if unpacking.exists():  # an interrupted try
        shutil.rmtree(unpacking)
    unfinished = shutil.ignore_patterns("*.part")
    shutil.copytree(archives, unpacking, copy_function=_link, ignore=unfinished)
    with _inside(unpacking), _our_functions():
        cls._extract()


@contextlib.contextmanager
def _our_functions() -> Iterator[None]:
    """Let the classes of wildlife-datasets download by :func:`fetch` and unpack by ``unpack``.

    They all call ``utils.download_url(url, file)``, which can neither resume nor notice that a
    file was cut short, and ``utils.extract_archive``, which trusts whatever is in an archive.
    These two functions of theirs are replaced, and only in here.
    """
    from wildlife_datasets.datasets import utils

    originals = utils.download_url, utils.extract_archive
    utils.download_url = lambda url, output_path: fetch(url, Path(output_path).absolute())
    utils.extract_archive = unpack
    try:
        yield
    finally:
        utils.download_url, utils.extract_archive = originals


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


def _link(source: str, target: str) -> None:
    """Give a file a second name; copy it where the file system cannot do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def fetch(url: str, target: Path) -> None:
    """Download a file unless it is there.

    Until all of it has arrived, ``<target>.part`` holds what has; the size that the server
    announces is checked. Progress is a bar on a terminal, and one line at each (re)start. Four
    attempts in a row may fail without getting further than any before; the pause after them grows
    from two seconds.

    Raises:
        DownloadError: the server refuses, the disk is too small, or the attempts are used up.
    """
    part = target.with_name(target.name + ".part")
    failures, furthest = 0, _size(part)
    while not target.exists():
        try:
            _receive(url, part)
            os.replace(part, target)
        except (OSError, HTTPError) as cause:
            # Further than ever, not than the last try: some servers start anew at each.
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures == _ATTEMPTS or _is_final(cause):
                kept = (
                    f"; {part} keeps what has arrived; the next try goes on there if the server can"
                )
                raise DownloadError(f"{url}: {cause}{kept if _size(part) else ''}") from cause
            time.sleep(2**failures)


def _receive(url: str, part: Path) -> None:
    """Append what is missing to a partial file, or start it anew where the server wants that."""
    start = _size(part)
    headers = {"User-Agent": "openanimals", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return  # all of it is here
            part.unlink()
            raise ConnectionError("the file on the server has changed since")
        if not response.ok:
            message = f"HTTP Error {response.status_code}: {response.reason}"
            raise requests.HTTPError(message, response=response)
        if response.status_code != codes.partial_content:
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        room = shutil.disk_usage(part.parent).free
        if length is not None and int(length) > room:
            needed = f"it needs {_megabytes(int(length))} more, and {_megabytes(room)} are free"
            raise OSError(errno.ENOSPC, needed)
        print(f"downloading {url} ({_megabytes(start)} of {_megabytes(total)} here)", flush=True)
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, disable=None)
        told_by_size = contextlib.suppress(*([] if total is None else [ProtocolError]))
        with bar, open(part, "ab" if start else "wb") as file, told_by_size:
            # Not by iter_content, which loses the last bytes before a connection ends.
            while chunk := response.raw.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection ended after {_size(part)} of {total} bytes")


def _is_final(cause: Exception) -> bool:
    """Tell whether another try cannot help: no room, or the server refuses the address."""
    if isinstance(cause, requests.HTTPError) and cause.response is not None:
        code = cause.response.status_code
        return code < 500 and code not in (codes.request_timeout, codes.too_many_requests)
    return isinstance(cause, OSError) and cause.errno == errno.ENOSPC


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _megabytes(count: int | None) -> str:
    return "unknown MB" if count is None else f"{count / 1e6:.1f} MB"


def unpack(archive: str | Path, extract_path: str | Path = ".", delete: bool = False) -> None:
    """Check an archive, unpack it, and remove it if asked to.

    Arguments are called as by wildlife-datasets, whose function this replaces.

    Raises:
        ArchiveError: a member leaves the folder, is neither a file, a folder nor a link inside
            it, lies behind a link, or all of it is beyond 100 times its size; or this Python
            cannot check a tar archive.
    """
    room = _LARGEST_RATIO * os.path.getsize(archive)
    # By the suffix, as shutil does: a file can be a tar archive and a zip archive at once.
    if Path(archive).suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                _check_name(archive, entry.filename)
                room = _take(archive, room, entry.file_size)
        shutil.unpack_archive(archive, extract_path, "zip")  # writes plain files and folders only
    else:
        _check_tar(archive, extract_path, room)
        shutil.unpack_archive(archive, extract_path, filter="data")  # drops set-uid bits and owners
    if delete:
        os.remove(archive)


def _check_tar(archive: str | Path, folder: str | Path, room: int) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise ArchiveError(
            f"{archive}: to unpack it safely takes Python 3.10.12, 3.11.4, 3.12 or later; this is "
            f"{platform.python_version()}; nothing was unpacked"
        )
    links, paths = set(), []
    with tarfile.open(archive) as opened:
        for member in opened:
            _check_name(archive, member.name)
            room = _take(archive, room, member.size)
            try:
                tarfile.data_filter(member, os.fspath(folder))
            except tarfile.FilterError as cause:
                raise ArchiveError(f"{archive}: {cause}; nothing was unpacked") from cause
            path = PurePosixPath(os.path.normpath(member.name))
            paths.append(path)
            if member.issym():
                links.add(path)
    for path in paths:
        if not links.isdisjoint(path.parents):
            raise ArchiveError(f"{archive}: {str(path)!r} lies behind a link; nothing was unpacked")


def _check_name(archive: str | Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or parts[0].endswith(":"):
        raise ArchiveError(f"{archive}: {name!r} is outside its folder; nothing was unpacked")


def _take(archive: str | Path, room: int, size: int) -> int:
    if size > room:
        raise ArchiveError(
            f"{archive}: unpacks to more than {_LARGEST_RATIO} times its size, as no photographs "
            "do; nothing was unpacked"
        )
    return room - size
