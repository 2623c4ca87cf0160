"""Sentences that CLIP's authors and CoOp's chose; `{}` is the class name.

CLIP: arXiv 2103.00020. A grammatical 'an' is missing where it was missing there: the numbers
of the papers were measured with these very sentences.
"""

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase

# The set that PromptSRC's text teacher is the mean over.
IMAGENET_TEMPLATES = (
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
)

# Seven of CLIP's eighty that do as well together as all of them.
SELECTED_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

# ImageNet, and its test sets with the same classes or some of them.
IMAGENETS = ("ImageNet", "ImageNetA", "ImageNetR", "ImageNetSketch", "ImageNetV2")

# For data sets of the benchmark whose class was written elsewhere and has no `template`.
DATASET_TEMPLATES = {
    "Caltech101": "a photo of a {}.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "Food101": "a photo of {}, a type of food.",
    "ImageNet": "a photo of a {}.",
    "ImageNetA": "a photo of a {}.",
    "ImageNetR": "a photo of a {}.",
    "ImageNetSketch": "a photo of a {}.",
    "ImageNetV2": "a photo of a {}.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "OxfordPets": "a photo of a {}, a type of pet.",
    "StanfordCars": "a photo of a {}.",
    "SUN397": "a photo of a {}.",
    "UCF101": "a photo of a person doing {}.",
}


def template_of(dataset: DatasetBase, cfg: CfgNode) -> str:
    """DATASET.TEMPLATE, or the data set's own sentence, or the one known by its name.

    ValueError if there is none, or if it has not one place for the class name.
    """
    name = cfg.DATASET.NAME
    given = getattr(cfg.DATASET, "TEMPLATE", "")  # upstream's config has no such key
    template = given or getattr(dataset, "template", "") or DATASET_TEMPLATES.get(name, "")
    if template.count("{}") != 1:
        has = f"its sentence {template!r} has not exactly one {{}}" if template else "it has none"
        raise ValueError(
            f"the prompts need a sentence around the class names of {name}, and {has}: set "
            "DATASET.TEMPLATE, for example 'a photo of a {}.' (or give its class an attribute "
            "`template`)"
        )
    return template
