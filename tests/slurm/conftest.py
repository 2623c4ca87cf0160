"""One Slurm for all tests that are marked `slurm`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """Its folder."""
    if missing := cluster.missing():
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    with cluster.running() as folder:
        yield folder
