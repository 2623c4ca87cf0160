"""Shared by all tests: pictures and tiny CLIPs, drawn once per session; runs on them."""

import shutil
import signal
import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # clip-anytorch warns of pkg_resources at import
    import clip  # noqa: F401

torch.set_num_threads(1)  # everything here is small


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C acts, also on child processes, where a shell in the background has it ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What is kept in the user's cache goes elsewhere, also from child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A folder with colored_shapes/, narrow.pt and wide.pt."""
    from tests.helpers import toy_run

    folder = tmp_path_factory.mktemp("toy")
    toy_run.write_pictures(folder)
    toy_run.write_clips(folder)
    return folder


@pytest.fixture(scope="session")
def runs(toy, tmp_path_factory):
    """Run folders by trainer and options, each trained when it is first asked for."""
    import train
    from tests.helpers.toy_run import SAVE, command

    root, made = tmp_path_factory.mktemp("runs"), {}

    def run(trainer, *opts):
        if (trainer, opts) not in made:
            folder = root / f"{trainer}{len(made)}"
            assert train.main(command(toy, trainer, folder, opts=(*SAVE, *opts))) == 0
            made[trainer, opts] = folder
        return made[trainer, opts]

    return run


@pytest.fixture
def trained(toy, tmp_path):
    """A finished run of MMRL of two epochs that kept both."""
    import train
    from tests.helpers.toy_run import command

    output = tmp_path / "run"
    assert train.main(command(toy, "MMRL", output, opts=("TRAIN.CHECKPOINT_FREQ", "1"))) == 0
    return output


@pytest.fixture
def run(runs, tmp_path):
    """A copy of a run of MMRL, with no text features kept yet."""
    ignore = shutil.ignore_patterns("text_features")
    return shutil.copytree(runs("MMRL"), tmp_path / "run", ignore=ignore)


@pytest.fixture
def picture(toy):
    return str(toy / "colored_shapes" / "images" / "red_square" / "test_1.png")


@pytest.fixture
def tree(tmp_path):
    """Where a test writes the runs that it reports on; beside it is room for what comes out."""
    return tmp_path / "output"
