"""tools.predict: text features that are kept beside a run."""

import pytest
import torch

from tools.predict import load


def test_kept_features_are_used(run, picture, monkeypatch):
    first = load(run)
    (file,) = (run / "text_features").iterdir()
    assert file.suffix == ".safetensors" and file.stat().st_mode & 0o044
    monkeypatch.delattr("trainers.mmrl.MMRLMethod.text_features")
    again = load(run)
    assert torch.equal(again.logits(picture), first.logits(picture))
    with pytest.raises(NotImplementedError):
        load(run, cache=False)


def test_kept_features_are_never_old(run, monkeypatch):
    def count() -> int:
        return len(list((run / "text_features").iterdir()))

    load(run)
    file = next(run.glob("*/model.pth.tar-2"))
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["state_dict"]["rep_tokens"] += 1
    torch.save(checkpoint, file)
    changed = load(run)
    assert count() == 2
    assert torch.equal(changed.text_features, load(run, cache=False).text_features)
    load(run, classes=["red circle", "pink ring"])
    load(run, classes=["pink ring", "red circle"])
    load(run, template="a {}.")
    load(run, precision="amp")
    assert count() == 6
    monkeypatch.setattr("tools.predict.text_cache.versions", lambda: {"torch": "99"})
    load(run)
    assert count() == 7
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("- 2\n    - 3", "- 1\n    - 2"))
    load(run)
    assert count() == 8
    load(run)
    assert count() == 8


@pytest.mark.parametrize("damage", [b"", b"junk" * 99, None])
def test_damaged_features_are_made_again(damage, run, picture):
    expected = load(run).logits(picture)
    (file,) = (run / "text_features").iterdir()
    other = load(run, classes=["red circle", "pink ring", "green star"])
    (new,) = set((run / "text_features").iterdir()) - {file}
    file.write_bytes(new.read_bytes() if damage is None else damage)
    assert torch.equal(load(run).logits(picture), expected)
    assert not torch.equal(other.logits(picture), expected)


def test_a_folder_that_cannot_be_written(run, picture):
    (run / "text_features").write_text("in the way")
    assert len(load(run)(picture)[0]) == 3
