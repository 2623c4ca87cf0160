"""A data set and a trainer, written the way plugins of this ecosystem are."""

from pathlib import Path

from torch import nn
from torch.nn import functional as F

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param


@DATASET_REGISTRY.register()
class DrawnColours(DatasetBase):
    dataset_dir = "drawn"

    def __init__(self, cfg):
        root = Path(cfg.DATASET.ROOT) / self.dataset_dir
        train, val, test = (self._read(root, split) for split in ("train", "val", "test"))
        train = self.generate_fewshot_dataset(train, num_shots=cfg.DATASET.NUM_SHOTS)
        train_u = train if cfg.DATASET.ALL_AS_UNLABELED else None
        super().__init__(train_x=train, train_u=train_u, val=val, test=test)

    @staticmethod
    def _read(root, split):
        return [
            Datum(impath=str(path), label=label, classname=colour)
            for label, colour in enumerate(["red", "green", "blue"])
            for path in sorted((root / split / colour).iterdir())
        ]


class PatchLearner(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(3 * 8 * 8, num_classes)

    def forward(self, image):
        return self.linear(self.dropout(F.avg_pool2d(image, 2).flatten(1)))


@TRAINER_REGISTRY.register()
class ToyTrainer(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.OPTIM.MAX_EPOCH >= 1

    def build_model(self):
        cfg = self.cfg
        classnames = self.dm.dataset.classnames
        self.model = PatchLearner(len(classnames))
        print("# params: {:,}".format(count_num_param(self.model)))  # noqa: UP032
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("learner", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        loss_summary = {"loss": loss, "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return loss_summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)
