"""The result block, and the numbers behind it."""

import pytest
import torch

from dassl.config import get_cfg_default
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator
from dassl.metrics import (
    compute_accuracy,
    compute_distance_matrix,
    cosine_distance,
    euclidean_squared_distance,
)

NAMES = {0: "cat", 1: "dog", 2: "owl", 3: "bat"}


def scores(answers, num_classes=4):
    return torch.nn.functional.one_hot(torch.tensor(answers), num_classes).float()


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    return cfg


def evaluate(cfg, labels, answers):
    evaluator = build_evaluator(cfg, lab2cname=NAMES)
    for start in range(0, len(labels), 3):
        part = slice(start, start + 3)
        evaluator.process(scores(answers[part]), torch.tensor(labels[part]))
    return evaluator, evaluator.evaluate()


def test_the_block_and_the_results(cfg, capsys):
    labels = [0] * 810 + [1] * 190 + [0] * 234
    answers = [0] * 1000 + [1] * 234
    _, results = evaluate(cfg, labels, answers)
    out = capsys.readouterr().out
    assert out.endswith(
        "=> result\n* total: 1,234\n* correct: 810\n* accuracy: 65.6%\n* error: 34.4%\n"
        "* macro_f1: 39.6%\n"
    )
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert results["accuracy"] == 100 * 810 / 1234  # all digits
    assert results["error_rate"] == 100 - results["accuracy"]
    assert all(type(value) is float for value in results.values())


def test_macro_f1_is_over_classes_that_occur_anywhere(cfg):
    # class 0: TP 2, FN 1; 1: TP 1, FP 1, FN 1; 2 is never asked for but answered; 3 does not occur
    _, results = evaluate(cfg, [0, 0, 0, 1, 1], [0, 0, 1, 1, 2])
    f1 = [2 * 2 / (2 * 2 + 0 + 1), 2 * 1 / (2 * 1 + 1 + 1), 0.0]
    assert results["macro_f1"] == pytest.approx(100 * sum(f1) / 3, rel=1e-12)


def test_per_class(cfg, capsys):
    cfg.TEST.PER_CLASS_RESULT = True
    _, results = evaluate(cfg, [0, 0, 0, 2], [0, 0, 1, 3])
    out = capsys.readouterr().out
    assert "=> per-class result\n* class: 0 (cat)\ttotal: 3\tcorrect: 2\tacc: 66.7%\n" in out
    assert "* class: 2 (owl)\ttotal: 1\tcorrect: 0\tacc: 0.0%\n* average: 33.3%\n" in out
    assert results["perclass_accuracy"] == pytest.approx(100 / 3)
    with pytest.raises(ValueError, match="lab2cname"):
        Classification(cfg)


def test_confusion_matrix(cfg):
    cfg.TEST.COMPUTE_CMAT = True
    evaluate(cfg, [0, 0, 0, 2], [0, 0, 1, 3])
    matrix = torch.load(f"{cfg.OUTPUT_DIR}/cmat.pt", weights_only=True)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[0, 0], expected[0, 1], expected[2, 3] = 2 / 3, 1 / 3, 1
    assert torch.allclose(matrix, expected)


def test_reset_forgets(cfg):
    evaluator, _ = evaluate(cfg, [0, 1], [0, 0])
    evaluator.reset()
    evaluator.process(scores([1]), torch.tensor([1]))
    assert evaluator.evaluate()["accuracy"] == 100
    evaluator.reset()
    with pytest.raises(ValueError, match="no batch"):
        evaluator.evaluate()


def test_registry(cfg):
    assert EVALUATOR_REGISTRY.get("Classification") is Classification
    assert issubclass(Classification, EvaluatorBase)
    cfg.TEST.EVALUATOR = "Clasification"
    with pytest.raises(ValueError, match="do you mean 'Classification'"):
        build_evaluator(cfg)


def test_compute_accuracy():
    output = torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9], [0.5, 0.9, 0.1], [0.9, 0.1, 0.5]])
    target = torch.tensor([0, 1, 1, 1])
    top1, top2, top5 = compute_accuracy(output, target, topk=(1, 2, 5))
    assert [top1.item(), top2.item(), top5.item()] == [50.0, 75.0, 100.0]
    assert top1.shape == (1,)
    assert compute_accuracy((output, "features"), target)[0].item() == 50.0


def test_distances():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    assert euclidean_squared_distance(a, b).tolist() == [[4.0], [13.0]]
    assert torch.allclose(cosine_distance(a, b), torch.tensor([[0.0], [1.0]]), atol=1e-6)
    assert compute_distance_matrix(a, b).tolist() == [[4.0], [13.0]]
    assert compute_distance_matrix(a, b, "cosine").shape == (2, 1)
    with pytest.raises(ValueError, match="do you mean 'cosine'"):
        compute_distance_matrix(a, b, "cosin")
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(2, 1\)"):
        compute_distance_matrix(a, b.reshape(2, 1)[:, :1])


def test_a_plugin_may_fill_the_predictions_itself(make_cfg):
    class Own(Classification):
        def process(self, mo, gt):
            self._y_pred.append(mo.argmax(dim=1))
            self._y_true.append(gt)

    evaluator = Own(make_cfg(), lab2cname=dict(enumerate("abc")))
    evaluator.process(scores([1, 2]), torch.tensor([1, 1]))
    assert evaluator.evaluate()["accuracy"] == 50
