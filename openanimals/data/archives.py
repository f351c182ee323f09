"""Archives of strangers: every member is looked at before anything is written."""

import os
import platform
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from openanimals.utils.errors import UserError

LARGEST_RATIO = 100  # of what an archive unpacks to, to its own size


class ArchiveError(UserError):
    """An archive that would write outside its folder, or more than it can honestly hold."""


def unpack(archive: str | Path, extract_path: str | Path = ".", delete: bool = False) -> None:
    """Check an archive, unpack it, and remove it if asked to.

    Arguments are called as by wildlife-datasets, whose function this replaces.

    Raises:
        ArchiveError: a member leaves the folder, is neither a file, a folder nor a link inside
            it, lies behind a link, or all of it is beyond ``LARGEST_RATIO``; or this Python
            cannot check a tar archive.
    """
    room = LARGEST_RATIO * os.path.getsize(archive)
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
            f"{archive}: unpacks to more than {LARGEST_RATIO} times its size, as no photographs "
            "do; nothing was unpacked"
        )
    return room - size
