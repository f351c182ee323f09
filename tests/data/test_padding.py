"""Padding that is as large as the picture is refused."""

import pytest

from openanimals.config import load
from openanimals.data.loaders import build_transforms


@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric"])
@pytest.mark.parametrize("crop", [True, False])
def test_padding_is_smaller_than_the_picture(mode, crop):
    keys = ["INPUT.PADDING.ENABLED", True, "INPUT.PADDING.MODE", mode, "INPUT.CROP.ENABLED", crop]
    key = "INPUT.CROP.SIZE" if crop else "INPUT.SIZE_TRAIN"
    build_transforms(load(None, [*keys, key, [64, 16], "INPUT.PADDING.SIZE", 15]))
    with pytest.raises(ValueError, match="INPUT.PADDING.SIZE is 16, but must be below"):
        build_transforms(load(None, [*keys, key, [64, 16], "INPUT.PADDING.SIZE", 16]))
