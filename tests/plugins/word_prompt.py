"""A trainer in CoOp's manner: learned words before the class names, on the model of `clip`."""

import os.path as osp

import torch
import torch.nn as nn
from clip import clip
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F
from torchvision import transforms as T
from yacs.config import CfgNode as CN

from dassl.data import DataManager, DatasetWrapper
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, load_checkpoint, load_pretrained_weights

_tokenizer = _Tokenizer()


def add_config(cfg):
    cfg.TRAINER.WORDPROMPT = CN()
    cfg.TRAINER.WORDPROMPT.N_CTX = 4
    cfg.TRAINER.WORDPROMPT.PREC = "fp32"


def load_clip_to_cpu(cfg):
    name = cfg.MODEL.BACKBONE.NAME
    model_path = name if osp.isfile(name) else clip._download(clip._MODELS[name])
    try:
        state_dict = torch.jit.load(model_path, map_location="cpu").eval().state_dict()
    except RuntimeError:
        state_dict = torch.load(model_path, map_location="cpu")
    return clip.build_model(state_dict)


class PromptLearner(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        n_ctx = cfg.TRAINER.WORDPROMPT.N_CTX
        names = [name.replace("_", " ") for name in classnames]
        print("Tokens of the names: {}".format([len(_tokenizer.encode(n)) for n in names]))  # noqa: UP032
        ids = torch.cat([clip.tokenize("X " * n_ctx + name + ".") for name in names])
        with torch.no_grad():
            words = clip_model.token_embedding(ids).type(clip_model.dtype)
        self.ctx = nn.Parameter(words[0, 1 : 1 + n_ctx] + 0.02 * torch.randn(n_ctx, words.shape[2]))
        self.register_buffer("token_prefix", words[:, :1])
        self.register_buffer("token_suffix", words[:, 1 + n_ctx :])
        self.eot = ids.argmax(dim=-1)

    def forward(self):
        ctx = self.ctx.expand(len(self.eot), -1, -1)
        return torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)


class PromptedCLIP(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.clip = clip_model

    def text_features(self):
        model = self.clip
        x = self.prompt_learner() + model.positional_embedding.type(model.dtype)
        x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        rows = torch.arange(len(x))
        return model.ln_final(x)[rows, self.prompt_learner.eot] @ model.text_projection

    def forward(self, image):
        image = F.normalize(self.clip.encode_image(image.type(self.clip.dtype)), dim=-1)
        return self.clip.logit_scale.exp() * image @ F.normalize(self.text_features(), dim=-1).t()


class LoudWrapper(DatasetWrapper):
    """Says once that it was used."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print(f"LoudWrapper: {len(self)} images")


@TRAINER_REGISTRY.register()
class WordPrompt(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.WORDPROMPT.PREC in ["fp32", "amp"]

    def build_data_loader(self):
        cfg = self.cfg
        bicubic = INTERPOLATION_MODES["bicubic"]
        normalize = T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
        resize = T.Resize(cfg.INPUT.SIZE, interpolation=bicubic)
        dm = DataManager(
            cfg,
            custom_tfm_train=build_transform(cfg, is_train=True, choices=["random_flip"]),
            custom_tfm_test=T.Compose([resize, T.ToTensor(), normalize]),
            dataset_wrapper=LoudWrapper,
        )
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self):
        cfg = self.cfg
        clip_model = load_clip_to_cpu(cfg).float()
        self.model = PromptedCLIP(cfg, self.dm.dataset.classnames, clip_model)
        for name, param in self.model.named_parameters():
            if "prompt_learner" not in name:
                param.requires_grad_(False)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        learner = self.model.prompt_learner
        print(f"Learned: {count_num_param(learner)} of {count_num_param(self.model)}")
        self.optim = build_optimizer(learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)
        self.scaler = GradScaler() if cfg.TRAINER.WORDPROMPT.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        if self.scaler is not None:
            with autocast():
                output = self.model(image)
                loss = F.cross_entropy(output, label)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            output = self.model(image)
            loss = F.cross_entropy(output, label)
            self.model_backward_and_update(loss)
        loss_summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return loss_summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            print("No pretrained model was given")
            return
        model_file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            model_path = osp.join(directory, name, model_file)
            checkpoint = load_checkpoint(model_path)
            state_dict = checkpoint["state_dict"]
            for fixed in ("token_prefix", "token_suffix"):  # of other classes
                state_dict.pop(fixed, None)
            print(f"Loading {name} from {model_path} (epoch {checkpoint['epoch']})")
            self._models[name].load_state_dict(state_dict, strict=False)
