"""Which side of an animal a photograph shows: stripes and spots differ from flank to flank."""

from openanimals.data.catalogue import Catalogue, CatalogueError

SIDES = ("left", "right")


def flank(viewpoint: str | None) -> str | None:
    """Return the side that a viewpoint names: ``left``, ``right`` or None.

    Sources write it in many ways (``left``, ``Right flank``, ``backleft``), so the word anywhere in
    the text counts, in any case. Both words, or neither (``front``, ``up``), are no known side.

    Args:
        viewpoint: of a catalogue's column, None where it has none.
    """
    named = [side for side in SIDES if side in (viewpoint or "").casefold()]
    return named[0] if len(named) == 1 else None


def separate_viewpoints(images: Catalogue) -> Catalogue:
    """Make each side of an animal an individual of its own: ``Kesi`` becomes ``Kesi|left``.

    Photographs of no known side keep the plain name: nothing tells which of the two they show, and
    views from the front or from above are a pattern of their own.

    Raises:
        CatalogueError: no photograph has a known side.
    """
    sides = [flank(viewpoint) for viewpoint in images.column("viewpoint")]
    if not any(sides):
        raise CatalogueError(
            f"DATASETS.FLANKS is 'separate', but none of the {len(images)} training images of "
            f"{images.name} has a known side; expected left or right in the column viewpoint "
            "(or DATASETS.FLANKS ignore)"
        )
    names = [
        f"{identity}|{side}" if side else identity
        for identity, side in zip(images.identities, sides, strict=True)
    ]
    return Catalogue(images.name, images.root, images.table.assign(identity=names))
