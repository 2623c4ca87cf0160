"""Lists of images, draws of a few, and archives."""

import pickle
import random
import tarfile
import zipfile

import pytest

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, base_dataset, build_dataset


def make(*labels):
    return [
        Datum(f"{n}.jpg", label, domain=n % 2, classname=f"c{label}")
        for n, label in enumerate(labels)
    ]


def test_datum():
    datum = Datum("a/b.jpg", 3, 1, "cat")
    assert (datum.impath, datum.label, datum.domain, datum.classname) == ("a/b.jpg", 3, 1, "cat")
    assert "b.jpg" in repr(datum)
    defaults = Datum()
    assert (defaults.impath, defaults.label, defaults.domain, defaults.classname) == ("", 0, 0, "")


def test_pickles_of_datum_made_elsewhere_are_restored():
    """Made by the ecosystem's class: the path of the class, and these attributes by name."""
    state = b"".join(
        b"X" + len(key).to_bytes(4, "little") + key + value
        for key, value in (
            (b"_impath", b"X\x05\x00\x00\x00x.jpg"),
            (b"_label", b"K\x07"),
            (b"_domain", b"K\x00"),
            (b"_classname", b"X\x03\x00\x00\x00cat"),
        )
    )
    raw = b"\x80\x02cdassl.data.datasets.base_dataset\nDatum\n)\x81}(" + state + b"ub."
    datum = pickle.loads(raw)
    assert type(datum) is Datum is base_dataset.Datum
    assert (datum.impath, datum.label, datum.domain, datum.classname) == ("x.jpg", 7, 0, "cat")
    assert vars(pickle.loads(pickle.dumps(datum))) == vars(datum)


def test_dataset_knows_its_classes():
    train, test = make(2, 0, 1, 0), make(1)
    dataset = DatasetBase(train_x=train, val=None, test=test)
    assert dataset.train_x is train and dataset.test is test
    assert dataset.val is None and dataset.train_u is None
    assert dataset.num_classes == 3
    assert dataset.lab2cname == {0: "c0", 1: "c1", 2: "c2"} and list(dataset.lab2cname) == [0, 1, 2]
    assert dataset.classnames == ["c0", "c1", "c2"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [((0, 2, 5), r"no image of \[1, 3, 4\]"), ((1, 2), r"\[0\]"), ((), "train_x is empty")],
)
def test_label_gaps_are_said(labels, message):
    with pytest.raises(ValueError, match=message):
        DatasetBase(train_x=make(*labels), test=make(0))


def test_few_shot_draw():
    """For each label in order of first appearance, `random.sample` from the global generator."""
    dataset = DatasetBase(train_x=make(0), test=make(0))
    train, val = make(*[3, 1, 1, 0] * 5, 2), make(*[1, 0, 3] * 4)
    random.seed(3)
    drawn_train, drawn_val = dataset.generate_fewshot_dataset(train, val, num_shots=4)

    random.seed(3)
    for source, drawn, order in ((train, drawn_train, (3, 1, 0, 2)), (val, drawn_val, (1, 0, 3))):
        expected = []
        for label in order:
            pool = [item for item in source if item.label == label]
            expected += random.sample(pool, 4) if len(pool) >= 4 else pool
        assert drawn == expected
    assert len(drawn_train) == 3 * 4 + 1


def test_few_shot_draw_of_one_list_and_of_all():
    dataset = DatasetBase(train_x=make(0), test=make(0))
    source = make(0, 0, 1)
    assert len(dataset.generate_fewshot_dataset(source, num_shots=1)) == 2
    before = random.getstate()
    assert dataset.generate_fewshot_dataset(source, num_shots=-1) is source
    assert dataset.generate_fewshot_dataset(source, source, num_shots=0) == (source, source)
    assert random.getstate() == before
    assert len(dataset.generate_fewshot_dataset(source, num_shots=4, repeat=True)) == 8


def test_splitting():
    dataset = DatasetBase(train_x=make(0), test=make(0))
    source = make(2, 0, 2)
    by_label = dataset.split_dataset_by_label(source)
    assert list(by_label) == [2, 0] and by_label[2] == [source[0], source[2]]
    by_domain = dataset.split_dataset_by_domain(source)
    assert by_domain == {0: [source[0], source[2]], 1: [source[1]]}


def test_domains():
    class Domains(DatasetBase):
        domains = ["photo", "sketch"]  # noqa: RUF012

    dataset = Domains(train_x=make(0), test=make(0))
    dataset.check_input_domains(["photo"], ["sketch"])
    with pytest.raises(ValueError, match="do you mean 'sketch'"):
        dataset.check_input_domains(["photo"], ["sketches"])
    with pytest.raises(ValueError, match="SOURCE_DOMAINS is empty"):
        dataset.check_input_domains([], ["photo"])


def test_build_dataset_names_the_nearest():
    assert "DrawnColours" in DATASET_REGISTRY
    cfg = get_cfg_default()
    cfg.DATASET.NAME = "DrawnColors"
    with pytest.raises(ValueError, match=r"DATASET\.NAME.*do you mean 'DrawnColours'"):
        build_dataset(cfg)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_download_data_unpacks(tmp_path, kind):
    (tmp_path / "a.txt").write_text("inside")
    source = tmp_path / f"source.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            archive.write(tmp_path / "a.txt", "deep/a.txt")
    else:
        with tarfile.open(source, "w:gz") as archive:
            archive.add(tmp_path / "a.txt", "deep/a.txt")
    dataset = DatasetBase(train_x=make(0), test=make(0))
    dataset.download_data(source.as_uri(), tmp_path / "new" / f"data.{kind}", from_gdrive=False)
    assert (tmp_path / "new" / "deep" / "a.txt").read_text() == "inside"


def test_a_download_that_is_no_archive(tmp_path):
    (tmp_path / "page.html").write_text("<html>quota exceeded</html>")
    dataset = DatasetBase(train_x=make(0), test=make(0))
    with pytest.raises(ValueError, match="error page"):
        dataset.download_data(
            (tmp_path / "page.html").as_uri(), tmp_path / "x.zip", from_gdrive=False
        )
