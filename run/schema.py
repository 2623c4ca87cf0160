"""The schema of `results.json`: written by `run.record`, read by `run.reader.read_record`.

A run is complete if `read_record` gives metrics for it. docs/RESULTS.md explains the keys. Records
of older versions lack some, and evaluators of plugins may add more metrics.
"""

from typing import Any, TypedDict


class Identity(TypedDict, total=False):
    """What a run is; also in `identity.json` from its start on."""

    eval_only: bool
    load_epoch: int | None
    root: str
    settings: dict[str, Any]
    plugins: list[dict[str, Any]]
    weights_hash: str | None
    trained: dict[str, Any] | None
    trained_note: str | None
    data_hash: str | None
    checkpoint: dict[str, Any] | None
    checkpoint_hash: str | None
    fingerprint: str


class Record(Identity, total=False):
    complete: bool
    trainer: str
    dataset: str
    task: str
    classes: str
    shots: int
    seed: int
    backbone: str
    # of the evaluation
    accuracy: float
    error_rate: float
    macro_f1: float
    split: str
    total: int
    correct: int | None
    perclass_accuracy: float
    not_finite: list[str]
    # details
    per_class: list[dict[str, Any]] | None
    predictions: str | None
    parameters: int
    clip: dict[str, Any] | None
    few_shot_hash: str | None
    shots_short: dict[str, int] | None
    seconds: float
    train_seconds: float | None
    images_per_second: dict[str, float | None]
    features_were_stored: bool
    resumed_from_epoch: int | None
    peak_memory_bytes: int | None
    peak_memory_kind: str
    device: str
    processes: int
    # of the software
    version: str
    versions: dict[str, str]
    commit: str | None
