"""Which side of an animal a photograph shows: stripes and spots differ from side to side."""

LATERAL = ("left", "right")  # the viewpoints from which coats are compared


def lateral_viewpoint(viewpoint: str | None) -> str | None:
    """Return the side that a viewpoint names: ``left``, ``right`` or None.

    Sources write it in many ways (``left``, ``Right flank``, ``backleft``), so the word anywhere in
    the text counts, in any case. Both words, or neither (``front``, ``up``), are no known side.

    Args:
        viewpoint: of an image, None where nothing is known.
    """
    named = [name for name in LATERAL if name in (viewpoint or "").casefold()]
    return named[0] if len(named) == 1 else None
