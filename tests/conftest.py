"""Shared by all tests: pictures and tiny CLIPs, drawn once per session."""

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # clip-anytorch warns of pkg_resources at import
    import clip  # noqa: F401

torch.set_num_threads(1)  # everything here is small


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A folder with colored_shapes/, narrow.pt and wide.pt."""
    from tests import toy_run

    folder = tmp_path_factory.mktemp("toy")
    toy_run.write_pictures(folder)
    toy_run.write_clips(folder)
    return folder
