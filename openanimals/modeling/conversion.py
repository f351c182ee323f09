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
from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

from openanimals.modeling.weights import WeightsError

MGN_HEADS = ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")
CONSTANTS = ("pixel_mean", "pixel_std")
"""What FastReID's first releases keep among the weights, and we and its later ones do not."""

_SHARED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3.0"}
_RESNET = re.compile(r"(conv1\.weight|bn1\.\w+|layer[1-4]\.\d+(_nl)?\..+)")
_OUR_STEM = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.0.")


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
    names: dict[str, str | None] = {}
    for key in theirs:
        if key in CONSTANTS:
            continue
        if head := re.fullmatch(r"(b\d+)_head\.(.+)" if several else r"(heads)\.(.+)", key):
            part = _our_head(head[1], head[2], theirs)
            names[key] = part and f"heads.{head[1] if several else 'b1'}.{part}"
        elif several:
            names[key] = _placed(*_of_mgn(key))
        else:
            names[key] = _placed("b1", _of_baseline(key, theirs))
    return _complete(names, "only ResNets of FastReID's Baseline and MGN can be read")


def their_names(ours: Collection[str]) -> dict[str, str]:
    """Return FastReID's name of each of ours.

    Args:
        ours: all keys of one :class:`~openanimals.modeling.model.ReIDModel`.

    Raises:
        ForeignError: FastReID has no such model.
    """
    heads = {key.split(".")[1] for key in ours if key.startswith("heads.")}
    several = heads == set(MGN_HEADS)
    _check_fastreid_has(heads, ours)
    names: dict[str, str | None] = {}
    for key in ours:
        if head := re.fullmatch(r"heads\.(\w+)\.(.+)", key):
            part = _their_head(head[1], head[2], ours)
            names[key] = part and f"{f'{head[1]}_head' if several else 'heads'}.{part}"
        else:
            found = re.fullmatch(r"(?:stem|tails\.(\w+))\.(.+)", key)
            fits = found and _RESNET.fullmatch(found[2])
            convert = _to_mgn if several else _to_baseline
            names[key] = convert(found[1], found[2], ours) if found and fits else None
    return _complete(names, "FastReID has a counterpart of our ResNets with EmbeddingHead only")


def _complete(names: dict[str, str | None], rule: str) -> dict[str, str]:
    unknown = [key for key, name in names.items() if name is None]
    if unknown:
        listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise ForeignError(f"{len(unknown)} of {len(names)} keys not understood: {listed}; {rule}")
    return {key: name for key, name in names.items() if name is not None}


def _placed(branch: str, plain: str | None) -> str | None:
    """Put torchvision's name of a layer into our stem, or into the tail of a branch."""
    if plain is None or not _RESNET.fullmatch(plain):
        return None
    return f"stem.{plain}" if plain.startswith(_OUR_STEM) else f"tails.{branch}.{plain}"


def _of_baseline(key: str, theirs: Collection[str]) -> str | None:
    """Return torchvision's name of a layer of the Baseline."""
    plain = key.removeprefix("backbone.")
    if found := re.fullmatch(r"NL_(\d)\.(\d+)\.(.+)", plain):
        stage, number, rest = found.groups()
        blocks = len(set(_numbers(rf"backbone\.layer{stage}\.(\d+)\.", theirs)))
        attended = len(set(_numbers(rf"backbone\.NL_{stage}\.(\d+)\.", theirs)))
        return f"layer{stage}.{blocks - attended + int(number)}_nl.{rest}"
    return plain if plain != key else None


def _to_baseline(branch: str | None, plain: str, ours: Collection[str]) -> str:
    """Return the Baseline's name of a layer that has torchvision's."""
    if found := re.fullmatch(r"layer(\d)\.(\d+)_nl\.(.+)", plain):
        stage, block, rest = found.groups()
        attended = sorted(set(_numbers(rf".*\.layer{stage}\.(\d+)_nl\.", ours)))
        return f"backbone.NL_{stage}.{attended.index(int(block))}.{rest}"
    return f"backbone.{plain}"


def _of_mgn(key: str) -> tuple[str, str | None]:
    """Return the branch, and torchvision's name of its layer or of a shared one."""
    if (found := re.fullmatch(r"backbone\.(\d)\.(.+)", key)) and found[1] in _SHARED:
        return "b1", f"{_SHARED[found[1]]}.{found[2]}"
    if found := re.fullmatch(r"(b\d)\.([01])\.(\d+)\.(.+)", key):
        branch, part, block, rest = found.groups()
        if part == "0":  # which begins with the second block: the first is shared
            return branch, f"layer3.{int(block) + 1}.{rest}"
        return branch, f"layer4.{block}.{rest}"
    return "b1", None


def _to_mgn(branch: str | None, plain: str, ours: Collection[str]) -> str | None:
    """Return MGN's name of a layer that has torchvision's; branch None is the stem."""
    if branch is None:
        for number, name in _SHARED.items():
            if plain.startswith(f"{name}."):
                return f"backbone.{number}{plain.removeprefix(name)}"
        return None
    found = re.fullmatch(r"layer([34])\.(\d+)\.(.+)", plain)
    if not found:
        return None
    stage, block, rest = found.groups()
    return f"{branch}.0.{int(block) - 1}.{rest}" if stage == "3" else f"{branch}.1.{block}.{rest}"


def _our_head(head: str, part: str, theirs: Collection[str]) -> str | None:
    """Return our name of a part of a head; the older names of FastReID 0.1 are understood too."""
    head = head if head == "heads" else f"{head}_head"
    # A convolution without bias reduces; a norm has one.
    reduced = f"{head}.bottleneck.0.weight" in theirs and f"{head}.bottleneck.0.bias" not in theirs
    for pattern, name in (
        (r"(?:classifier\.)?weight", "classifier.weight"),
        (r"pool_layer\.p", "pool.p"),
        (r"bottleneck\.0\.weight" if reduced else r"(?!)", "reduction.weight"),
        (rf"(?:bnneck|bottleneck\.{int(reduced)})\.(\w+)", r"neck.\1"),
    ):
        if found := re.fullmatch(pattern, part):
            return found.expand(name)
    return None


def _their_head(head: str, part: str, ours: Collection[str]) -> str | None:
    reduced = f"heads.{head}.reduction.weight" in ours
    names = {
        "classifier.weight": "weight",
        "pool.p": "pool_layer.p",
        "reduction.weight": "bottleneck.0.weight",
    }
    if part.startswith("neck."):
        return f"bottleneck.{int(reduced)}.{part.removeprefix('neck.')}"
    return names.get(part)


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


def _numbers(pattern: str, keys: Iterable[str]) -> list[int]:
    return [int(found[1]) for key in keys if (found := re.match(pattern, key))]


_MIEWID = (
    (r"backbone\.((conv_stem|bn1|blocks\.[012]|blocks\.3\.0)\..+)", r"stem.\1"),
    (r"backbone\.(.+)", r"tails.b1.\1"),
    (r"pooling\.p", "heads.b1.pool.p"),
    (r"bn\.(.+)", r"heads.b1.neck.\1"),
)


def is_miewid(keys: Collection[str]) -> bool:
    """Tell whether these are the names of MiewID's weights."""
    return {"backbone.conv_stem.weight", "pooling.p", "bn.weight"} <= set(keys)


def miewid_renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under our names, but for the classifier, which is of other animals."""
    kept = {key: value for key, value in state.items() if not key.startswith("final.")}
    return {_of_miewid(key): value for key, value in kept.items()}


def _of_miewid(key: str) -> str:
    for pattern, ours in _MIEWID:
        if found := re.fullmatch(pattern, key):
            return found.expand(ours)
    return key
