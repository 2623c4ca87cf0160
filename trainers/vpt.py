"""VPT: visual prompt tuning of CLIP, deep prompts in the vision tower alone.

ECCV 2022, arXiv 2203.12119, as MaPLe (arXiv 2210.03117) compares with it. What differs from
IVLP (`trainers.ivlp`): nothing is learned in the text tower, whose features of the fixed
prompts are computed once.

Trained: the tokens of the vision tower.
"""

from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts
from trainers.ivlp import IVLP, VISION_TOKENS, IVLPMethod, VisionPrompts
from training.checks import check_template
from training.method import normalize
from training.published import PublicNames
from training.trainer import CLIPTrainer


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.VPT = CfgNode()
    node = cfg.TRAINER.VPT
    node.PREC = "fp16"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.N_CTX_VISION = 8  # K
    node.CTX_INIT = "a photo of a"  # what the prompts say in front of the class name
    node.PROMPT_DEPTH_VISION = 1  # J: layers, counted from the input, with tokens of their own


class VPTMethod(IVLPMethod):
    """IVLP's image features against zero-shot text features."""

    def __init__(self, clip: FrozenCLIP, prompts: Prompts, learner: VisionPrompts):
        super().__init__(clip, prompts, learner)
        self.register_buffer("w0", normalize(clip.encode_text(prompts)), persistent=False)

    def text_features(self) -> Tensor:
        """w0 (C, E), normalised."""
        return self.w0


@TRAINER_REGISTRY.register()
class VPT(IVLP):
    node = "VPT"
    public_folder = "prompt_learner"
    shape_keys = ("N_CTX_VISION", "CTX_INIT", "PROMPT_DEPTH_VISION")
    public = PublicNames({"vision_tokens": VISION_TOKENS})
    public_variants = ()
    least_vision_depth = 1

    @property
    def template(self) -> str:
        return f"{self.settings.CTX_INIT.replace('_', ' ')} {{}}.".strip()

    def check_learner(self, clip: FrozenCLIP) -> None:
        CLIPTrainer.check_learner(self, clip)
        self.check_depth("VISION", clip.vision.layers, clip, self.least_vision_depth)
        check_template(self.template, "TRAINER.VPT.CTX_INIT", clip)

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> VPTMethod:
        return VPTMethod(clip, prompts, VisionPrompts(clip, *self.vision_shape))
