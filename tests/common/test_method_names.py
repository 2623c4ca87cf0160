"""One method, many spellings."""

import pytest

from common.method_names import find

KNOWN = ["CLIPLoRA", "CLIP_Adapter", "LPPlusPlus", "MMRL", "MMRLPlus", "MultiModalAdapter"]
KNOWN += ["TipAdapter", "TipAdapterF", "TwoStage", "ZeroshotCLIP"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("CLIP-LoRA", "CLIPLoRA"), ("CLIP-Adapter", "CLIP_Adapter"), ("lp++", "LPPlusPlus")),
        *(
            ("MMRL++", "MMRLPlus"),
            ("mmrl_plus", "MMRLPlus"),
            ("mmrl", "MMRL"),
            ("2SFS", "TwoStage"),
        ),
        *(("MMA", "MultiModalAdapter"), ("Tip-Adapter-F", "TipAdapterF"), ("CoOp", None)),
        *(("Tip-Adapter", "TipAdapter"), ("zsclip", "ZeroshotCLIP"), ("", None)),
    ],
)
def test_find(written, meant):
    assert find(written, KNOWN) == meant
