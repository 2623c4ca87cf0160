"""FGVC Aircraft (Maji et al. 2013): 100 variants of aircraft. Its own lists are the split."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Item, Split


@DATASET_REGISTRY.register()
class FGVCAircraft(FewShotDataset):
    dataset_dir = "fgvc_aircraft"
    template = "a photo of a {}, a type of aircraft."

    def build_split(self) -> Split:
        names = [name for (name,) in self.annotation_rows("variants.txt", 1)]
        labels = {name: label for label, name in enumerate(names)}
        return Split(*(self.read_list(part, labels) for part in ("train", "val", "test")))

    def read_list(self, part: str, labels: dict[str, int]) -> list[Item]:
        """Lines '1025794 707-320': image, variant (which may hold spaces)."""
        rows = self.annotation_rows(f"images_variant_{part}.txt", 2)
        unknown = next((name for _, name in rows if name not in labels), None)
        if unknown:
            raise ValueError(f"images_variant_{part}.txt has {unknown!r}, variants.txt has not")
        return [Item(f"{image}.jpg", labels[name], name) for image, name in rows]
