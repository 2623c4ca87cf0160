"""A trainer with a teacher in Dassl's manner, and an evaluator.

`python patches.py ROOT OUTPUT` runs it without any train.py.
"""

import sys
from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F

from dassl.config import clean_cfg, get_cfg_default
from dassl.data.data_manager import DataManager, DatasetWrapper, build_data_loader
from dassl.data.samplers import (
    RandomClassSampler,
    RandomSampler,
    SequentialSampler,
    build_sampler,
)
from dassl.engine import TRAINER_REGISTRY, SimpleTrainer, TrainerBase, TrainerX, build_trainer
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator
from dassl.metrics import (
    compute_accuracy,
    compute_distance_matrix,
    cosine_distance,
    euclidean_squared_distance,
)
from dassl.modeling.ops import ema_model_update
from dassl.modeling.ops.utils import sharpen_prob
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    Logger,
    MetricMeter,
    Registry,
    check_availability,
    collect_env_info,
    init_network_weights,
    open_all_layers,
    open_specified_layers,
    resume_from_checkpoint,
    save_checkpoint,
    set_random_seed,
    setup_logger,
)

DISTANCES = Registry("DISTANCE")
DISTANCES.register(cosine_distance)
DISTANCES.register(euclidean_squared_distance)
SAMPLERS = (RandomClassSampler, RandomSampler, SequentialSampler)


class Patches(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(3 * 4 * 4, classes)

    def forward(self, x):
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))


@EVALUATOR_REGISTRY.register()
class TopTwo(EvaluatorBase):
    """The usual numbers, and how often the label is among the two best answers."""

    def __init__(self, cfg, lab2cname=None, **kwargs):
        super().__init__(cfg)
        self.usual = Classification(cfg, lab2cname=lab2cname)
        self.reset()

    def reset(self):
        self.usual.reset()
        self.second = AverageMeter()

    def process(self, mo, gt):
        self.usual.process(mo, gt)
        self.second.update(compute_accuracy(mo, gt, topk=(1, 2))[1].item(), len(gt))

    def evaluate(self):
        results = self.usual.evaluate()
        results["top_two"] = self.second.avg
        return results


@TRAINER_REGISTRY.register()
class PatchTeacher(TrainerX):
    distance = "cosine_distance"

    def check_cfg(self, cfg):
        check_availability(self.distance, DISTANCES.registered_names())

    def build_data_loader(self):
        super().build_data_loader()
        cfg, dm = self.cfg, self.dm
        assert isinstance(dm, DataManager)
        name = cfg.DATALOADER.TRAIN_X.SAMPLER
        sampler = build_sampler(name, cfg=cfg, data_source=dm.dataset.train_x, batch_size=4)
        assert isinstance(sampler, SAMPLERS)
        self.train_loader_x = build_data_loader(
            cfg,
            sampler_type="RandomSampler",
            data_source=dm.dataset.train_x,
            batch_size=3,
            tfm=dm.train_loader_x.dataset.transform,
            dataset_wrapper=DatasetWrapper,
        )

    def build_model(self):
        cfg = self.cfg
        self.model = Patches(self.num_classes)
        init_network_weights(self.model.head, init_type="xavier")
        open_all_layers(self.model)
        open_specified_layers(self.model, "head")
        self.model.to(self.device)
        self.teacher = deepcopy(self.model)
        self.optim = build_optimizer(self.model, cfg.OPTIM, param_groups=None)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)
        self.meters = MetricMeter()

    def forward_backward(self, batch):
        image, label, _domain = self.parse_batch_train(batch)
        with torch.no_grad():
            target = sharpen_prob(self.teacher(image).softmax(dim=1), temperature=2.0)
        output = self.model(image)
        loss_x = F.cross_entropy(output, label)
        loss_u = F.mse_loss(output.softmax(dim=1), target)
        self.model_backward_and_update(loss_x + 0.5 * loss_u)
        ema_model_update(self.model, self.teacher, alpha=0.9)
        self.meters.update({"loss_x": loss_x.item()})
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss_x": loss_x.item(), "loss_u": loss_u.item()}

    def after_train(self):
        super().after_train()
        weight = self.model.head.weight
        apart = DISTANCES.get(self.distance)(weight, weight)
        assert torch.allclose(apart, compute_distance_matrix(weight, weight, "cosine"))
        folder = f"{self.output_dir}/teacher"
        state = {"state_dict": self.teacher.state_dict(), "epoch": self.max_epoch}
        save_checkpoint(state, folder)
        assert resume_from_checkpoint(folder, self.teacher) == self.max_epoch
        print(f"Whole run: {self.meters}")


def main(root, output):
    cfg = get_cfg_default()
    cfg.merge_from_list(["DATASET.NAME", "Tiles", "DATASET.ROOT", root, "OUTPUT_DIR", output])
    cfg.merge_from_list(["TRAINER.NAME", "PatchTeacher", "USE_CUDA", False, "SEED", 1])
    cfg.merge_from_list(["INPUT.SIZE", (32, 32), "OPTIM.MAX_EPOCH", 1, "OPTIM.NAME", "sgd"])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 4])
    cfg.TEST.EVALUATOR = "TopTwo"
    clean_cfg(cfg, "PatchTeacher")
    cfg.freeze()
    set_random_seed(cfg.SEED)
    setup_logger(output)
    assert isinstance(sys.stdout, Logger)
    print(collect_env_info())
    trainer = build_trainer(cfg)
    assert isinstance(trainer, (TrainerBase, SimpleTrainer))
    assert isinstance(build_evaluator(cfg, lab2cname=trainer.lab2cname), TopTwo)
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
