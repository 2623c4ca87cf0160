"""The names of Dassl.pytorch 0.6.3, by module: what runs on upstream's engine may use.

Upstream is not on PyPI, so this list stands for it. Out of scope, and not listed: the trainers,
data sets, backbones and layers for domain adaptation and semi-supervised learning, and the
augmentations behind the names in INPUT.TRANSFORMS. Of what a module merely imports, the names of
Dassl and those of torch are listed: published code takes them from there.
"""

TOOLS = {
    *("check_availability", "check_isfile", "collect_env_info", "download_url"),
    *("get_most_similar_str_to_a_from_b", "listdir_nohidden", "mkdir_if_missing"),
    *("read_image", "read_json", "set_random_seed", "tolist_if_not", "write_json"),
}
TORCHTOOLS = {
    *("count_num_param", "init_network_weights", "load_checkpoint", "load_pretrained_weights"),
    *("open_all_layers", "open_specified_layers", "resume_from_checkpoint", "save_checkpoint"),
}
LOGGER, METERS, REGISTRY = {"Logger", "setup_logger"}, {"AverageMeter", "MetricMeter"}, {"Registry"}
TRAINERS = {"SimpleTrainer", "TrainerBase", "TrainerX"}
DISTANCES = {"compute_distance_matrix", "cosine_distance", "euclidean_squared_distance"}
OPERATIONS = {"create_onehot", "ema_model_update", "sharpen_prob"}

NAMES: dict[str, set[str]] = {
    "dassl": {"__version__"},
    "dassl.config": {"clean_cfg", "get_cfg_default"},
    "dassl.data": {"DataManager", "DatasetWrapper"},
    "dassl.data.data_manager": {
        *("DataManager", "DatasetWrapper", "build_data_loader", "build_dataset", "build_sampler"),
        *("build_transform", "INTERPOLATION_MODES", "read_image", "T", "TorchDataset", "torch"),
    },
    "dassl.data.datasets": {"DATASET_REGISTRY", "DatasetBase", "Datum", "build_dataset"},
    "dassl.data.datasets.base_dataset": {"DatasetBase", "Datum", "check_isfile"},
    "dassl.data.datasets.build": {"DATASET_REGISTRY", "build_dataset"},
    "dassl.data.samplers": {
        *("build_sampler", "RandomClassSampler", "RandomSampler", "Sampler"),
        "SequentialSampler",
    },
    "dassl.data.transforms": {"INTERPOLATION_MODES", "build_transform"},
    "dassl.data.transforms.transforms": {
        *("AVAI_CHOICES", "INTERPOLATION_MODES", "build_transform"),
        *("Cutout", "GaussianNoise", "InstanceNormalization", "Random2DTranslation"),
        *("CenterCrop", "ColorJitter", "Compose", "GaussianBlur", "InterpolationMode"),
        *("Normalize", "RandomApply", "RandomCrop", "RandomGrayscale", "RandomHorizontalFlip"),
        *("RandomResizedCrop", "Resize", "ToTensor", "torch"),
    },
    "dassl.engine": {"TRAINER_REGISTRY", "build_trainer", *TRAINERS},
    "dassl.engine.build": {"TRAINER_REGISTRY", "build_trainer"},
    "dassl.engine.trainer": {
        *TRAINERS,
        *("AverageMeter", "MetricMeter", "SummaryWriter", "DataManager"),
        *("build_evaluator", "build_lr_scheduler", "build_optimizer"),
        *("count_num_param", "load_checkpoint", "load_pretrained_weights", "mkdir_if_missing"),
        *("resume_from_checkpoint", "save_checkpoint", "tolist_if_not"),
        *("OrderedDict", "datetime", "nn", "np", "osp", "time", "torch", "tqdm"),
    },
    "dassl.evaluation": {
        "EVALUATOR_REGISTRY",
        "Classification",
        "EvaluatorBase",
        "build_evaluator",
    },
    "dassl.evaluation.build": {"EVALUATOR_REGISTRY", "build_evaluator"},
    "dassl.evaluation.evaluator": {"EVALUATOR_REGISTRY", "Classification", "EvaluatorBase"},
    "dassl.metrics": {"compute_accuracy", *DISTANCES},
    "dassl.metrics.accuracy": {"compute_accuracy"},
    "dassl.metrics.distance": DISTANCES,
    "dassl.modeling.ops": OPERATIONS,
    "dassl.modeling.ops.utils": OPERATIONS,
    "dassl.optim": {"build_lr_scheduler", "build_optimizer"},
    "dassl.optim.lr_scheduler": {
        *("AVAI_SCHEDS", "ConstantWarmupScheduler", "LinearWarmupScheduler"),
        *("build_lr_scheduler", "torch"),
    },
    "dassl.optim.optimizer": {"AVAI_OPTIMS", "RAdam", "build_optimizer", "nn", "torch"},
    "dassl.optim.radam": {"AdamW", "PlainRAdam", "RAdam"},
    "dassl.utils": {*TOOLS, *TORCHTOOLS, *LOGGER, *METERS, *REGISTRY},
    "dassl.utils.logger": LOGGER,
    "dassl.utils.meters": METERS,
    "dassl.utils.registry": REGISTRY,
    "dassl.utils.tools": TOOLS,
    "dassl.utils.torchtools": TORCHTOOLS,
}

# Methods and attributes of classes that others derive from; of trainers, of all together.
TRAINER_MEMBERS = {
    *(
        "prograd_backward_and_update",
        "register_model",
        "get_model_names",
        "save_model",
        "resume_model_if_exist",
        "load_model",
    ),
    *("set_model_mode", "update_lr", "detect_anomaly", "init_writer", "close_writer"),
    *("write_scalar", "train", "before_train", "after_train", "before_epoch", "after_epoch"),
    *("run_epoch", "test", "parse_batch_train", "parse_batch_test", "forward_backward"),
    *("model_inference", "model_zero_grad", "model_backward", "model_update"),
    *("model_backward_and_update", "check_cfg", "build_data_loader", "build_model"),
    "get_current_lr",
}
TRAINER_ATTRIBUTES = {
    *("cfg", "device", "output_dir", "dm", "evaluator", "best_result", "start_epoch", "epoch"),
    *("max_epoch", "batch_idx", "num_batches", "time_start", "train_loader_x", "train_loader_u"),
    *("val_loader", "test_loader", "num_classes", "num_source_domains", "lab2cname", "model"),
    *("optim", "sched", "_models", "_optims", "_scheds", "_writer"),
}
DATASET_MEMBERS = {
    *("dataset_dir", "domains", "train_x", "train_u", "val", "test", "lab2cname", "classnames"),
    *("num_classes", "get_num_classes", "get_lab2cname", "check_input_domains", "download_data"),
    *("generate_fewshot_dataset", "split_dataset_by_label", "split_dataset_by_domain"),
}
