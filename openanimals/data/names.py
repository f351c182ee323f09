"""Names of individuals: those that mean nobody, and those that are nearly the same."""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

import pandas as pd

from openanimals.data.catalogue import UNKNOWN, Catalogue

logger = logging.getLogger(__name__)

NOBODY = re.compile(
    r"""[\s?¿*_–—-]*                             # nothing, or signs alone: ? - ____
    |(unknown|unidentified)s?([\W\d_].*)?        # Unknown_2, unidentified calf
    |(unk|unid|undetermined|unassigned|unnamed|unlabell?ed|unidentifiable|unsorted|nobody|no.?name
      |not.?(identified|known|named|assigned)|no.?id|unbekannt|inconnue?|desconocid[oa])[\W\d_]*
    |nan|null|none|<?na>?|n[/.]a\.?|blank|empty|tbd|(-1|-9{2,})(\.0)?
    """,
    re.VERBOSE | re.DOTALL,
)


def is_nobody(name: str) -> bool:
    """Tell whether a name says that nobody knows who it is: ``Unknown_2``, ``NaN``, ``?``."""
    return bool(NOBODY.fullmatch(unicodedata.normalize("NFKC", name).casefold().strip()))


def leave_out_nobody(catalogue: Catalogue) -> None:
    """Call images of nobody ``unknown``, so that no split has them; one warning counts them."""
    identities = catalogue.identities
    names = sorted({name for name in identities if name != UNKNOWN and is_nobody(name)})
    if names:
        known = [UNKNOWN if name in names else name for name in identities]
        catalogue.table["identity"] = pd.Series(known, dtype=object)
        logger.warning(
            "%s: %d images are left out, as their name says that nobody knows the individual: %s; "
            "if it is one, set DATASETS.KEEP_UNKNOWN True",
            catalogue.name,
            known.count(UNKNOWN) - identities.count(UNKNOWN),
            ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else ""),
        )


def near_equal(names: Iterable[str]) -> list[str]:
    """Return groups of names that differ in case, spaces, signs, accents' form or a ``.0`` only."""
    groups = defaultdict(list)
    for name in sorted(set(names)):
        text = unicodedata.normalize("NFKC", name).casefold()
        text = re.sub(r"^0+(?=\d)|\.0*$", "", text.strip())
        groups["".join(filter(str.isprintable, re.sub(r"[\s_-]+", "", text)))].append(name)
    # Two forms of one accent look the same, so these are spelt out.
    return [
        " = ".join(map(repr if all(map(str.isascii, group)) else ascii, group))
        for group in groups.values()
        if len(group) > 1
    ]
