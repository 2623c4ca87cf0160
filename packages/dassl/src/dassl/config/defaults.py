"""Every key the engine knows, with its default value.

The tree is that of Dassl.pytorch 0.6.3, so that configuration files written for it merge;
TRAIN.CHECKPOINT_EVERY, INPUT.EXIF_ORIENTATION and INPUT.RESIZE are added.
"""

from yacs.config import CfgNode


def default_config() -> CfgNode:
    """Build the whole tree anew."""
    cfg = CfgNode()
    cfg.VERSION = 1
    cfg.OUTPUT_DIR = "./output"  # checkpoints, log and TensorBoard files
    cfg.RESUME = ""  # folder of an earlier run to go on from
    cfg.SEED = -1  # negative: not seeded
    cfg.USE_CUDA = True
    cfg.VERBOSE = True
    cfg.INPUT = _input()
    cfg.DATASET = _dataset()
    cfg.DATALOADER = _dataloader()
    cfg.MODEL = _model()
    cfg.OPTIM = _optim()
    cfg.TRAIN = _train()
    cfg.TEST = _test()
    cfg.TRAINER = _trainer()
    return cfg


def _input() -> CfgNode:
    node = CfgNode()
    node.SIZE = (224, 224)  # height, width
    node.INTERPOLATION = "bilinear"  # a key of dassl.data.transforms.INTERPOLATION_MODES
    node.RESIZE = "shortest"  # tests and center_crop: the shorter edge; squash: to SIZE at once
    node.TRANSFORMS = ()  # names; their order here does not matter
    node.NO_TRANSFORM = False  # True: the loader yields untouched PIL images
    node.EXIF_ORIENTATION = "ignore"  # or apply: images are turned as cameras noted
    node.PIXEL_MEAN = [0.485, 0.456, 0.406]
    node.PIXEL_STD = [0.229, 0.224, 0.225]
    node.CROP_PADDING = 4  # random_crop
    node.RRCROP_SCALE = (0.08, 1.0)  # random_resized_crop: share of the image's area
    node.CUTOUT_N = 1  # number of squares, and their edge in pixels
    node.CUTOUT_LEN = 16
    node.GN_MEAN = 0.0  # gaussian_noise
    node.GN_STD = 0.15
    node.RANDAUGMENT_N = 2  # operations per image, and their strength
    node.RANDAUGMENT_M = 10
    node.COLORJITTER_B = 0.4  # brightness, contrast, saturation, hue
    node.COLORJITTER_C = 0.4
    node.COLORJITTER_S = 0.4
    node.COLORJITTER_H = 0.1
    node.RGS_P = 0.2  # randomgrayscale: probability
    node.GB_P = 0.5  # gaussian_blur: probability, and kernel edge in pixels
    node.GB_K = 21
    return node


def _dataset() -> CfgNode:
    node = CfgNode()
    node.ROOT = ""  # folder that holds the data sets' folders
    node.NAME = ""
    node.SOURCE_DOMAINS = ()
    node.TARGET_DOMAINS = ()
    node.NUM_SHOTS = -1  # labeled images per class; below 1: all
    node.NUM_LABELED = -1
    node.ALL_AS_UNLABELED = False
    node.VAL_PERCENT = 0.1
    node.STL10_FOLD = -1
    node.CIFAR_C_TYPE = ""
    node.CIFAR_C_LEVEL = 1
    return node


def _loader(sampler: str, with_groups: bool = True) -> CfgNode:
    node = CfgNode()
    node.SAMPLER = sampler
    node.BATCH_SIZE = 32
    if with_groups:
        node.N_DOMAIN = 0  # not used: samplers by domain are not part of this engine
        node.N_INS = 16  # RandomClassSampler: images per class in a batch
    return node


def _dataloader() -> CfgNode:
    node = CfgNode()
    node.NUM_WORKERS = 4  # at most the number of usable cores is started
    node.K_TRANSFORMS = 1  # views per training image
    node.RETURN_IMG0 = False  # also yield the image without augmentation
    node.TRAIN_X = _loader("RandomSampler")
    node.TRAIN_U = _loader("RandomSampler")
    node.TRAIN_U.SAME_AS_X = True  # True: sampler and batch size of TRAIN_X
    node.TEST = _loader("SequentialSampler", with_groups=False)
    return node


def _model() -> CfgNode:
    node = CfgNode()
    node.INIT_WEIGHTS = ""  # file with pretrained weights of the whole model
    node.BACKBONE = CfgNode({"NAME": "", "PRETRAINED": True})
    node.HEAD = CfgNode()
    node.HEAD.NAME = ""  # empty: the classifier sits on the backbone
    node.HEAD.HIDDEN_LAYERS = ()
    node.HEAD.ACTIVATION = "relu"
    node.HEAD.BN = True
    node.HEAD.DROPOUT = 0.0
    return node


def _optim() -> CfgNode:
    node = CfgNode()
    node.NAME = "adam"
    node.LR = 0.0003
    node.WEIGHT_DECAY = 5e-4
    node.MOMENTUM = 0.9
    node.SGD_DAMPNING = 0
    node.SGD_NESTEROV = False
    node.RMSPROP_ALPHA = 0.99
    node.ADAM_BETA1 = 0.9
    node.ADAM_BETA2 = 0.999
    node.ADAM_EPS = 1e-8
    node.STAGED_LR = False  # True: NEW_LAYERS get LR, all others LR * BASE_LR_MULT
    node.NEW_LAYERS = ()
    node.BASE_LR_MULT = 0.1
    node.LR_SCHEDULER = "single_step"
    node.STEPSIZE = (-1,)  # single_step: period; multi_step: epochs. Below 1: MAX_EPOCH
    node.GAMMA = 0.1
    node.LR_MIN = 0.0  # cosine_per_step: the rate behind the last step
    node.MAX_EPOCH = 10
    node.WARMUP_EPOCH = -1  # below 1: no warm-up
    node.WARMUP_TYPE = "linear"  # or constant
    node.WARMUP_CONS_LR = 1e-5  # constant: the rate
    node.WARMUP_MIN_LR = 1e-5  # linear: the rate of the first epoch
    node.WARMUP_RECOUNT = True  # True: after the warm-up the schedule starts at its epoch 0
    return node


def _train() -> CfgNode:
    node = CfgNode()
    node.CHECKPOINT_FREQ = 0  # epochs; 0: after the last epoch only
    # During epochs too: a time such as 10m, 90s or 1h (a bare number is minutes), or steps such
    # as '200 steps'; 0: never. The last two are kept, and none when training is over.
    node.CHECKPOINT_EVERY = "10m"
    node.PRINT_FREQ = 10  # batches
    node.COUNT_ITER = "train_x"  # or train_u, smaller_one: which loader makes an epoch
    return node


def _test() -> CfgNode:
    node = CfgNode()
    node.EVALUATOR = "Classification"
    node.PER_CLASS_RESULT = False
    node.COMPUTE_CMAT = False  # save a row-normalized confusion matrix as cmat.pt
    node.NO_TEST = False
    node.SPLIT = "test"  # or val
    node.FINAL_MODEL = "last_step"  # or best_val
    return node


def _trainer() -> CfgNode:
    """Trainers add nodes of their own; those below are read by plugins for adaptation tasks."""
    pseudo_labels = {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()}
    return CfgNode(
        {
            "NAME": "",
            "MCD": {"N_STEP_F": 4},
            "MME": {"LMDA": 0.1},
            "CDAC": {
                "CLASS_LR_MULTI": 10,
                "RAMPUP_COEF": 30,
                "RAMPUP_ITRS": 1000,
                "TOPK_MATCH": 5,
                "P_THRESH": 0.95,
                "STRONG_TRANSFORMS": (),
            },
            "SE": {"EMA_ALPHA": 0.999, "CONF_THRE": 0.95, "RAMPUP": 300},
            "M3SDA": {"LMDA": 0.5, "N_STEP_F": 4},
            "DAEL": pseudo_labels,
            "CROSSGRAD": {"EPS_F": 1.0, "EPS_D": 1.0, "ALPHA_F": 0.5, "ALPHA_D": 0.5},
            "DDAIG": {
                "G_ARCH": "",
                "LMDA": 0.3,
                "CLAMP": False,
                "CLAMP_MIN": -1.0,
                "CLAMP_MAX": 1.0,
                "WARMUP": 0,
                "ALPHA": 0.5,
            },
            "DAELDG": pseudo_labels,
            "DOMAINMIX": {"TYPE": "crossdomain", "ALPHA": 1.0, "BETA": 1.0},
            "ENTMIN": {"LMDA": 1e-3},
            "MEANTEACHER": {"WEIGHT_U": 1.0, "EMA_ALPHA": 0.999, "RAMPUP": 5},
            "MIXMATCH": {"WEIGHT_U": 100.0, "TEMP": 2.0, "MIXUP_BETA": 0.75, "RAMPUP": 20000},
            "FIXMATCH": pseudo_labels | {"WEIGHT_U": 1.0},
        }
    )
