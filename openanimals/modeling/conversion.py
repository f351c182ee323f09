"""The names of FastReID's weights, of the release's and of MiewID's, and ours: from one to another.

FastReID's Baseline has one ``backbone`` with torchvision's names, whose non-local blocks lie apart
as ``NL_<stage>.<n>``, and ``heads``. Its MGN has the shared layers as a numbered ``backbone``, the
branches ``b1``, ``b2``, ``b3`` (``<branch>.0`` is the third stage without its first block,
``<branch>.1`` the fourth stage) and a head for each stripe, ``b1_head``, ``b21_head``, ...
MiewID (Otarashvili et al. 2024, arXiv 2412.05602) is timm's EfficientNetV2 with GeM and a batch
norm, so a :class:`~openanimals.modeling.model.ReIDModel` with one branch can hold it.
All are read from names alone: no tensor is touched.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor

from openanimals.modeling.weights import WeightsError

MGN_HEADS = ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")
CONSTANTS = ("pixel_mean", "pixel_std")
"""What FastReID's first releases keep among the weights, and we and its later ones do not."""

_SHARED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3.0"}
_BLOCKS = 23  # of the third stage of a ResNet-101, at most


class ForeignError(WeightsError):
    """Weights that FastReID's models and ours do not have in common; lists them."""


def is_foreign(keys: Collection[str]) -> bool:
    """Tell whether these are the names of a model of FastReID or of the release."""
    return any(key.startswith("backbone.") for key in keys) and any(
        key.startswith(("heads.", "b1_head.")) for key in keys
    )


def our_names(theirs: Collection[str]) -> dict[str, str]:
    """Return our name of each of FastReID's, but for its :data:`CONSTANTS`.

    Args:
        theirs: all keys of one model. The place of a non-local block follows from how many blocks
            its stage has: the last ones have one each.

    Raises:
        ForeignError: not a ResNet, or keys of another kind.
    """
    several = any(key.startswith("b1.") for key in theirs)
    heads = _found(r"(b\d+)_head\.", theirs) if several else ["b1"]
    reduced = [head for head in heads if _reduces(_their_head(head, several), theirs)]
    attended = {}
    for stage in (2, 3):
        blocks = len(_found(rf"backbone\.layer{stage}\.(\d+)\.", theirs))
        count = len(_found(rf"backbone\.NL_{stage}\.(\d+)\.", theirs))
        attended[stage] = [*range(blocks - count, blocks)]
    table = _table(several, heads, reduced, attended)
    names = [key for key in theirs if key not in CONSTANTS]
    return _renamed(names, table, "only ResNets of FastReID's Baseline and MGN can be read")


def their_names(ours: Collection[str]) -> dict[str, str]:
    """Return FastReID's name of each of ours.

    Args:
        ours: all keys of one :class:`~openanimals.modeling.model.ReIDModel`.

    Raises:
        ForeignError: FastReID has no such model.
    """
    heads = _found(r"heads\.(\w+)\.", ours)
    _check_fastreid_has({*heads}, ours)
    reduced = [head for head in heads if f"heads.{head}.reduction.weight" in ours]
    attended = {
        stage: sorted(map(int, _found(rf".*\.layer{stage}\.(\d+)_nl\.", ours))) for stage in (2, 3)
    }
    table = _table(len(heads) > 1, heads, reduced, attended)
    rule = "FastReID has a counterpart of our ResNets with EmbeddingHead only"
    return _renamed(ours, [(name, key) for key, name in table], rule)


def _table(
    several: bool, heads: Iterable[str], reduced: Collection[str], attended: Mapping[int, list[int]]
) -> list[tuple[str, str]]:
    """Return how FastReID's names begin, and ours in their place; the first that fits counts.

    Args:
        several: whether it is MGN, of three branches, or the Baseline.
        heads: our names of them.
        reduced: those that have a reduction.
        attended: by stage, the blocks that a non-local block follows.
    """
    table = []
    for head in heads:
        theirs, ours = _their_head(head, several), f"heads.{head}"
        table += [
            (f"{theirs}.weight", f"{ours}.classifier.weight"),
            (f"{theirs}.pool_layer.p", f"{ours}.pool.p"),
        ]
        if head in reduced:
            table.append((f"{theirs}.bottleneck.0.weight", f"{ours}.reduction.weight"))
        table += [
            (f"{theirs}.bottleneck.{int(head in reduced)}.", f"{ours}.neck."),
            (f"{theirs}.classifier.weight", f"{ours}.classifier.weight"),  # these two: FastReID 0.1
            (f"{theirs}.bnneck.", f"{ours}.neck."),
        ]
    if several:
        table += [(f"backbone.{n}.", f"stem.{name}.") for n, name in _SHARED.items()]
        for branch in ("b1", "b2", "b3"):
            own = f"tails.{branch}"
            table += [(f"{branch}.0.{n - 1}.", f"{own}.layer3.{n}.") for n in range(1, _BLOCKS)]
            table.append((f"{branch}.1.", f"{own}.layer4."))
        return table
    for stage, blocks in attended.items():
        part = {2: "stem", 3: "tails.b1"}[stage]
        table += [
            (f"backbone.NL_{stage}.{n}.", f"{part}.layer{stage}.{block}_nl.")
            for n, block in enumerate(blocks)
        ]
    stem = "conv1.weight", "bn1.", "layer1.", "layer2.", "layer3.0."
    table += [(f"backbone.{name}", f"stem.{name}") for name in stem]
    return table + [(f"backbone.{name}", f"tails.b1.{name}") for name in ("layer3.", "layer4.")]


def _their_head(head: str, several: bool) -> str:
    return f"{head}_head" if several else "heads"


def _reduces(head: str, theirs: Collection[str]) -> bool:
    """Tell whether a head has a convolution without bias before its norm, which has one."""
    return f"{head}.bottleneck.0.weight" in theirs and f"{head}.bottleneck.0.bias" not in theirs


def _found(pattern: str, keys: Iterable[str]) -> list[str]:
    """Return what a pattern's group is in the keys, each once, in order."""
    return [*dict.fromkeys(found[1] for key in keys if (found := re.match(pattern, key)))]


def _renamed(keys: Iterable[str], table: Sequence[tuple[str, str]], rule: str) -> dict[str, str]:
    names = {key: _new_name(key, table) for key in keys}
    unknown = [key for key, name in names.items() if not name]
    if unknown:
        listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise ForeignError(f"{len(unknown)} of {len(names)} keys not understood: {listed}; {rule}")
    return names


def _new_name(key: str, table: Sequence[tuple[str, str]]) -> str:
    """Return a key with its beginning replaced; empty if the table knows none that fits."""
    for old, new in table:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return ""


def _check_fastreid_has(heads: set[str], ours: Collection[str]) -> None:
    if heads not in ({"b1"}, set(MGN_HEADS)):
        raise ForeignError(
            f"FastReID has one branch, or the three of [[1], [1, 2], [1, 3]]; these weights have "
            f"the heads {', '.join(sorted(heads)) or 'of no ReIDModel'}"
        )
    attention = any("_nl." in key for key in ours)
    if attention and (len(heads) > 1 or "stem.layer1.0.conv3.weight" not in ours):
        raise ForeignError(
            "FastReID has non-local blocks in ResNet-50 and -101 with one branch only; these "
            "weights have them elsewhere"
        )


_MIEWID_STEM = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.", "blocks.3.0.")
_MIEWID = (
    *((f"backbone.{name}", f"stem.{name}") for name in _MIEWID_STEM),
    ("backbone.", "tails.b1."),
    ("pooling.p", "heads.b1.pool.p"),
    ("bn.", "heads.b1.neck."),
)


def is_miewid(keys: Collection[str]) -> bool:
    """Tell whether these are the names of MiewID's weights."""
    return {"backbone.conv_stem.weight", "pooling.p", "bn.weight"} <= set(keys)


def miewid_renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under our names, but for the classifier, which is of other animals."""
    kept = {key: value for key, value in state.items() if not key.startswith("final.")}
    return {_new_name(key, _MIEWID) or key: value for key, value in kept.items()}
