"""Reads annotation files of data sets."""

from __future__ import annotations

import numpy as np


def read_mat(path: str, key: str) -> np.ndarray:
    """One variable of a MATLAB file as a 1-d array; ValueError for a file that is not one."""
    from scipy.io import loadmat  # only two data sets need it, and only without a split file

    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True)[key])
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(
            f"{path} is not a MATLAB file with the variable {key!r} ({error}); get it again"
        ) from error
