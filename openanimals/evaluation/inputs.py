"""Numbers and tables of any array-like kind: made plain where they come in, or refused."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from openanimals.utils.errors import UserError

Features = np.ndarray | Tensor


def as_table(images: Any) -> pd.DataFrame:
    """Return a table of images in which no tensor or array stands for a single value.

    Raises:
        UserError: it is no table.
    """
    if not isinstance(images, pd.DataFrame):
        try:
            images = pd.DataFrame(images)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"the images are no table ({error}); expected a DataFrame") from error
    single = {
        name: pd.Series([_single(value) for value in values], images.index, object)
        for name, values in images.items()
        if values.dtype == object and any(_single(value) is not value for value in values)
    }
    return images.assign(**single) if single else images


def _single(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor | np.ndarray) and not value.shape else value


def as_features(features: Any, what: str) -> Features:
    """Return numbers of any array-like kind as an array or a tensor in the memory of the CPU.

    Args:
        features: an array, which may be mapped from a file; a tensor, which may require a gradient
            and lie on any device; or a list of these, or of lists.
        what: names them in messages.

    Raises:
        UserError: they are no numbers, or rows of several lengths.
    """
    try:
        if isinstance(features, list | tuple) and any(isinstance(row, Tensor) for row in features):
            features = torch.stack([row.detach().cpu() for row in features])
        if isinstance(features, Tensor):
            features = features.detach().cpu().resolve_neg()
            features = features if features.layout == torch.strided else features.to_dense()
            real = not features.is_complex()
        else:
            if np.ma.is_masked(features):
                features = np.ma.filled(features.astype(float), np.nan)  # which are refused
            features = np.asarray(features)
            real = features.dtype.kind in "fiub"
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"the {what} are not one array of numbers: {error}") from error
    if not real:
        raise UserError(f"the {what} are of the type {features.dtype}; expected real numbers")
    return features


def as_array(numbers: Any, what: str) -> np.ndarray:
    """Return what :func:`as_features` does as an array."""
    found = as_features(numbers, what)
    if isinstance(found, Tensor):  # numpy has no bfloat16
        return (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    return found
