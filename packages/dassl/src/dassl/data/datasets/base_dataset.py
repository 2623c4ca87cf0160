"""What a data set is: lists of labeled images, and the names of the labels."""

import os
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dassl.utils import check_availability, check_isfile, download_url

from .download import extract_archive

__all__ = ["DatasetBase", "Datum", "check_isfile"]


class Datum:
    """One image: where it is and what is known of it.

    The attributes' names are part of the format: pickles made by other versions fill them.
    """

    def __init__(
        self,
        impath: str | os.PathLike[str] = "",
        label: int = 0,
        domain: int = 0,
        classname: str = "",
    ) -> None:
        """
        Args:
            impath: path of the image file.
            label: class, counted from 0.
            domain: domain, counted from 0.
            classname: the class in words.
        """
        self._impath = os.fspath(impath)
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def __repr__(self) -> str:
        return f"Datum({self.impath!r}, {self.label}, {self.domain}, {self.classname!r})"


class DatasetBase:
    """Labelled training images, unlabeled ones if any, validation images if any, test images.

    Attributes:
        dataset_dir: the folder's name under DATASET.ROOT; set by the data set's class.
        domains: names of all domains; set by data sets that have several.
        num_classes: number of labels in `train_x`, which are 0 .. num_classes - 1.
        lab2cname: from label to class name.
        classnames: class names in the order of their labels.
    """

    dataset_dir: str = ""
    domains: Sequence[str] = ()

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        """
        Raises:
            ValueError: `train_x` is empty, or its labels are not 0, 1, 2... without a gap.
        """
        self._train_x = train_x or []
        self._train_u = train_u
        self._val = val
        self._test = test
        self._lab2cname = self._check_labels(self._train_x)

    @property
    def train_x(self) -> list[Datum]:
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        return list(self._lab2cname.values())

    @property
    def num_classes(self) -> int:
        return len(self._lab2cname)

    def _check_labels(self, items: list[Datum]) -> dict[int, str]:
        name = type(self).__name__
        if not items:
            raise ValueError(f"{name} has no training images: train_x is empty")
        lab2cname = {item.label: item.classname for item in reversed(items)}
        missing = sorted(set(range(max(lab2cname) + 1)) - set(lab2cname))
        if missing or min(lab2cname) < 0:
            raise ValueError(
                f"The labels of {name} must be 0, 1, 2... without a gap, but they are "
                f"{min(lab2cname)} to {max(lab2cname)} and train_x has no image of "
                f"{missing[:10]}. Relabel the classes, or find out where their images went."
            )
        return {label: lab2cname[label] for label in sorted(lab2cname)}

    @staticmethod
    def get_num_classes(data_source: Sequence[Datum]) -> int:
        """Return the largest label in a list, plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Sequence[Datum]) -> tuple[dict[int, str], list[str]]:
        """Return the class names in a list by label, and in the order of their labels."""
        found = {item.label: item.classname for item in data_source}
        lab2cname = {label: found[label] for label in sorted(found)}
        return lab2cname, list(lab2cname.values())

    def check_input_domains(
        self, source_domains: Sequence[str], target_domains: Sequence[str]
    ) -> None:
        """Check DATASET.SOURCE_DOMAINS and .TARGET_DOMAINS against `domains`.

        Raises:
            ValueError: no source domain is given, or a domain is unknown.
        """
        if not source_domains:
            raise ValueError(f"DATASET.SOURCE_DOMAINS is empty; choose from {list(self.domains)}")
        for domain in [*source_domains, *target_domains]:
            check_availability(domain, self.domains, what="domain")

    def download_data(
        self, url: str, dst: str | os.PathLike[str], from_gdrive: bool = True
    ) -> None:
        """Download an archive to the file `dst` and unpack it into the folder that holds it.

        Raises:
            OSError: it cannot be fetched.
            ValueError: it is no zip or tar archive.
        """
        download_url(url, dst, from_gdrive=from_gdrive)
        extract_archive(Path(dst))

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> Any:
        """Draw `num_shots` images of every class from each list, all where a class has fewer.

        The draw comes from Python's global generator, class by class in the order in which the
        labels first appear.

        Args:
            num_shots: below 1, the lists are returned as they are.
            repeat: draw with replacement from a class that has too few.

        Returns:
            One list if one was given, otherwise a list (untouched: a tuple) of lists.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        drawn = [self._draw(items, num_shots, repeat) for items in data_sources]
        return drawn[0] if len(drawn) == 1 else drawn

    def _draw(self, data_source: list[Datum], num_shots: int, repeat: bool) -> list[Datum]:
        chosen: list[Datum] = []
        for items in self.split_dataset_by_label(data_source).values():
            if len(items) >= num_shots:
                chosen += random.sample(items, num_shots)
            elif repeat:
                chosen += random.choices(items, k=num_shots)
            else:
                chosen += items
        return chosen

    def split_dataset_by_label(self, data_source: list[Datum]) -> "defaultdict[int, list[Datum]]":
        """Sort images by label; labels in the order of their first appearance."""
        groups: defaultdict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return groups

    def split_dataset_by_domain(self, data_source: list[Datum]) -> "defaultdict[int, list[Datum]]":
        """Sort images by domain; domains in the order of their first appearance."""
        groups: defaultdict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            groups[item.domain].append(item)
        return groups
