"""Photographs with what cameras and programs write into them."""

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from openanimals.identification.importing import Imported

XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'xmlns:lr="http://ns.adobe.com/lightroom/1.0/"><lr:hierarchicalSubject><rdf:Bag>{}</rdf:Bag>'
    "</lr:hierarchicalSubject></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
)


def tagged(*tags: str) -> bytes:
    """An XMP packet with hierarchical subjects."""
    return XMP.format("".join(f"<rdf:li>{tag}</rdf:li>" for tag in tags)).encode()


def photograph(
    path: Path,
    *,
    date: str | None = None,
    position: tuple | None = None,
    xmp: bytes | None = None,
    size: tuple[int, int] = (40, 30),
    orientation: int | None = None,
    colour: int | None = None,
) -> Path:
    """Write a photograph; its colour, and so its bytes, are its path's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if date:
        exif[0x8769] = {36867: date}
        exif[306] = "2030:01:01 00:00:00"  # when it was changed, which does not count
    if position:
        exif[0x8825] = dict(enumerate(position, 1))
    if orientation:
        exif[274] = orientation
    number = sum(map(ord, str(path))) * 7919 if colour is None else colour
    image = Image.new("RGB", size, (number % 256, number // 256 % 256, number // 65536 % 256))
    more: dict = {"xmp": xmp} if xmp else {}
    if xmp and path.suffix == ".png":
        more = {"pnginfo": PngInfo()}
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    image.save(path, exif=exif, **more)
    return path


def said(imported: Imported, what: str) -> str:
    """The one line of a report that has a text in it."""
    (line,) = (line for line in imported.report if what in line)
    return line


def column(imported: Imported, name: str) -> dict[str, str | None]:
    """The values of a column by path."""
    return dict(zip(imported.table["path"], imported.table[name], strict=True))
