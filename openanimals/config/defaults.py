"""Every key, its default and what it does. FastReID's keys keep their names and meaning.

A key stands here only if something reads it. FastReID's other keys are in :data:`REFUSED`: a file
may set them to their default and to nothing else.
"""

from typing import Any

from openanimals.config.node import CfgNode as CN

_C = CN()

_C.SEED = 0  # everything random derives from it, except the sampler (see DATALOADER.SEED)
_C.IMPORTS = []  # modules of your own (docs/extending.md); those of all files are imported first
_C.OUTPUT_DIR = "logs/"  # checkpoints, logs, curves and results of the run
_C.CUDNN_BENCHMARK = False  # let cuDNN time its algorithms (faster, not reproducible bit for bit)
_C.LOG_PERIOD = 10  # iterations between lines of metrics.json; losses leave the device only then
_C.TRAINER = "Trainer"  # a registered subclass of it, with a train_step of your own
_C.CALLBACKS = []  # registered callbacks of your own, called at the end of each epoch
_C.WRITERS = []  # registered writers, beside the console, metrics.json and TensorBoard

_C.MODEL = CN()
_C.MODEL.DEVICE = "auto"  # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:<n>, mps
_C.MODEL.META_ARCHITECTURE = "Baseline"  # Baseline or MGN: fills HEADS.BRANCHES where that is empty
_C.MODEL.FREEZE_LAYERS = []  # parts frozen for SOLVER.FREEZE_ITERS: backbone, b1, b1_head, heads...
_C.MODEL.WEIGHTS = ""  # checkpoint to start from, or to evaluate
_C.MODEL.CAVEAT = ""  # shown with every result, such as "trained on these individuals"
_C.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]  # RGB, of pixels in 0..255
_C.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]  # pixels become (value - mean) / std, inside the model

_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.NAME = "build_resnet_backbone"  # a registered name, or timm/<model>
_C.MODEL.BACKBONE.DEPTH = "50x"  # 18x, 34x, 50x or 101x
_C.MODEL.BACKBONE.LAST_STRIDE = 1  # stride of the last stage: 1 keeps the map at 1/16
_C.MODEL.BACKBONE.FEAT_DIM = 2048  # channels of the last map, C; must be the backbone's
_C.MODEL.BACKBONE.NORM = "BN"  # BN, syncBN, GhostBN, FrozenBN or GN
_C.MODEL.BACKBONE.WITH_IBN = False  # IBN-a: first norm of each block of layer1..3 is half instance
_C.MODEL.BACKBONE.WITH_SE = False  # squeeze-and-excitation in every block
_C.MODEL.BACKBONE.WITH_NL = False  # non-local blocks after the last blocks of layer2 and layer3
_C.MODEL.BACKBONE.PRETRAIN = False  # start from ImageNet weights
_C.MODEL.BACKBONE.PRETRAIN_PATH = ""  # their file, or hf-hub:<owner>/<model>; empty: download

_C.MODEL.HEADS = CN()
_C.MODEL.HEADS.NAME = "EmbeddingHead"  # a registered head
_C.MODEL.HEADS.NORM = "BN"  # of the BNNeck: BN, syncBN, GhostBN, FrozenBN or GN
_C.MODEL.HEADS.BRANCHES = []  # stripes of each branch, [[1], [1, 2], [1, 3]]; []: META_ARCHITECTURE
_C.MODEL.HEADS.STRIPES = "rows"  # cut the map into rows or cols
_C.MODEL.HEADS.NUM_CLASSES = 0  # training identities; 0: counted from the data
_C.MODEL.HEADS.EMBEDDING_DIM = 0  # width of the 1x1 reduction of each head; 0: none
_C.MODEL.HEADS.WITH_BNNECK = False  # batch norm, bias frozen at 0, between embedding and classifier
_C.MODEL.HEADS.NECK_FEAT = "before"  # side of the neck that the metric losses see: before, after
_C.MODEL.HEADS.POOL_LAYER = "GlobalAvgPool"  # see modeling/layers/pools.py; Identity: timm's own
_C.MODEL.HEADS.CLS_LAYER = "Linear"  # or CosSoftmax, ArcSoftmax, CircleSoftmax, one of yours
_C.MODEL.HEADS.MARGIN = 0.0  # margin of CLS_LAYER
_C.MODEL.HEADS.SCALE = 1.0  # factor on its logits

_C.MODEL.LOSSES = CN()
_C.MODEL.LOSSES.NAME = ("CrossEntropyLoss",)  # registered losses, summed
_C.MODEL.LOSSES.GATHER = False  # metric losses see the images of all processes, not of their own
_C.MODEL.LOSSES.CE = CN()
_C.MODEL.LOSSES.CE.EPSILON = 0.0  # label smoothing; -1: adaptive
_C.MODEL.LOSSES.CE.ALPHA = 0.2  # of the adaptive smoothing
_C.MODEL.LOSSES.CE.SCALE = 1.0  # weight of the loss
_C.MODEL.LOSSES.TRI = CN()
_C.MODEL.LOSSES.TRI.MARGIN = 0.3  # 0: soft margin, log(1 + exp(ap - an))
_C.MODEL.LOSSES.TRI.NORM_FEAT = False  # distances between L2-normalised features
_C.MODEL.LOSSES.TRI.HARD_MINING = False  # batch-hard; else weighted
_C.MODEL.LOSSES.TRI.SCALE = 1.0  # weight of the loss
_C.MODEL.LOSSES.CIRCLE = CN()
_C.MODEL.LOSSES.CIRCLE.MARGIN = 0.25  # of similarities between pairs
_C.MODEL.LOSSES.CIRCLE.GAMMA = 128.0  # factor on similarities
_C.MODEL.LOSSES.CIRCLE.SCALE = 1.0  # weight of the loss
_C.MODEL.LOSSES.COSFACE = CN()
_C.MODEL.LOSSES.COSFACE.MARGIN = 0.25  # of similarities between pairs
_C.MODEL.LOSSES.COSFACE.GAMMA = 128.0  # factor on similarities
_C.MODEL.LOSSES.COSFACE.SCALE = 1.0  # weight of the loss
_C.MODEL.LOSSES.FL = CN()
_C.MODEL.LOSSES.FL.ALPHA = 0.25  # factor of the whole, the same for all classes
_C.MODEL.LOSSES.FL.GAMMA = 2.0  # how much less easy cases count
_C.MODEL.LOSSES.FL.SCALE = 1.0  # weight of the loss

_C.INPUT = CN()
_C.INPUT.SIZE_TRAIN = [256, 128]  # height, width
_C.INPUT.SIZE_TEST = [256, 128]  # height, width
_C.INPUT.BACKGROUND = "keep"  # or mask: black outside of the animal (where there are masks)
_C.INPUT.EXACT_TRAIN = False  # resize as Pillow does, bit for bit; else some values differ by 1
_C.INPUT.EXACT_TEST = True  # the same for evaluation
_C.INPUT.CACHE = "auto"  # decoded images kept: off, ram, disk, device; auto: on disk if they fit
_C.INPUT.CACHE_LIMIT = 16.0  # GiB that they may take
_C.INPUT.CACHE_DIR = ""  # of those on disk; empty: openanimals/images in the user's cache folder
_C.INPUT.CROP = CN()
_C.INPUT.CROP.ENABLED = False  # random resized crop
_C.INPUT.CROP.SIZE = [224, 224]  # height, width of what the model gets then
_C.INPUT.CROP.SCALE = [0.16, 1.0]  # share of the area
_C.INPUT.CROP.RATIO = [3.0 / 4.0, 4.0 / 3.0]  # width to height
_C.INPUT.FLIP = CN()
_C.INPUT.FLIP.ENABLED = False  # horizontal
_C.INPUT.FLIP.PROB = 0.5  # share of the images that are flipped
_C.INPUT.PADDING = CN()
_C.INPUT.PADDING.ENABLED = False  # pad all sides, then crop the input size at random
_C.INPUT.PADDING.MODE = "constant"  # constant (black), edge, reflect or symmetric
_C.INPUT.PADDING.SIZE = 10  # pixels on each side
_C.INPUT.CJ = CN()
_C.INPUT.CJ.ENABLED = False  # colour jitter
_C.INPUT.CJ.PROB = 0.5  # share of the images that are changed
_C.INPUT.CJ.BRIGHTNESS = 0.15  # largest relative change
_C.INPUT.CJ.CONTRAST = 0.15  # largest relative change
_C.INPUT.CJ.SATURATION = 0.1  # largest relative change
_C.INPUT.CJ.HUE = 0.1  # largest turn, of a full circle
_C.INPUT.AFFINE = CN()
_C.INPUT.AFFINE.ENABLED = False  # random rotation, scale and shear
_C.INPUT.AUTOAUG = CN()
_C.INPUT.AUTOAUG.ENABLED = False  # torchvision's ImageNet AutoAugment, before the resize
_C.INPUT.AUTOAUG.PROB = 0.0  # share of the images that are changed
_C.INPUT.AUGMIX = CN()
_C.INPUT.AUGMIX.ENABLED = False  # mixture of several chains of random changes
_C.INPUT.AUGMIX.PROB = 0.0  # share of the images that are changed
_C.INPUT.REA = CN()
_C.INPUT.REA.ENABLED = False  # random erasing
_C.INPUT.REA.PROB = 0.5  # share of the images that are changed
_C.INPUT.REA.VALUE = [123.675, 116.28, 103.53]  # RGB of the erased box, 0..255
_C.INPUT.RPT = CN()
_C.INPUT.RPT.ENABLED = False  # random patches of other images
_C.INPUT.RPT.PROB = 0.5  # share of the images that are changed
_C.INPUT.TRANSFORMS = []  # registered transforms of your own, applied after ours, in order

_C.DATASETS = CN()
_C.DATASETS.NAMES = ("Market1501",)  # Animals-<Class>, folder:DIR, csv:FILE, or a registered name
_C.DATASETS.TESTS = ()  # evaluated on; empty: NAMES
_C.DATASETS.ROOT = ""  # of the data sets; empty: $REID_DATASETS, $FASTREID_DATASETS, datasets
_C.DATASETS.COMBINEALL = False  # train on query and gallery images as well
_C.DATASETS.SPLIT = "auto"  # auto (source, else paper), source, paper, closed, time, original, file
_C.DATASETS.SPLIT_FILE = ""  # of SPLIT: file; ours, or the release's partition.json
_C.DATASETS.VAL_FRACTION = 0.0  # share of training identities held out to choose model_best.pth
_C.DATASETS.FLANKS = "ignore"  # or separate: each side of an animal is an individual of its own
_C.DATASETS.DATE_PATTERN = ""  # regular expression with groups year, month, day for file names

_C.DATALOADER = CN()
_C.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"  # or Naive- or BalancedIdentitySampler (P x K)
_C.DATALOADER.NUM_INSTANCE = 4  # K
_C.DATALOADER.NUM_WORKERS = 8  # processes that read images, at most the machine's cores; 0: none
_C.DATALOADER.SEED = 860870892  # of the sampler; this one gives the published batches

_C.SOLVER = CN()
_C.SOLVER.AMP = CN()
_C.SOLVER.AMP.ENABLED = False  # mixed precision, where the device has DTYPE; else float32
_C.SOLVER.AMP.DTYPE = "float16"  # on CUDA; or bfloat16, on CUDA and CPU
_C.SOLVER.OPT = "Adam"  # Adam, AdamW, SGD, or one of yours
_C.SOLVER.MAX_EPOCH = 120  # epochs of training; one has as many batches as fit into the images
_C.SOLVER.BASE_LR = 3e-4  # learning rate after warm-up
_C.SOLVER.HEADS_LR_FACTOR = 1.0  # on the learning rate of the heads
_C.SOLVER.BIAS_LR_FACTOR = 1.0  # on the learning rate of biases
_C.SOLVER.MOMENTUM = 0.9  # of SGD
_C.SOLVER.NESTEROV = False  # of SGD
_C.SOLVER.WEIGHT_DECAY = 5e-4  # of all other weights
_C.SOLVER.WEIGHT_DECAY_NORM = 5e-4  # of norm layers, but for their biases
_C.SOLVER.WEIGHT_DECAY_BIAS = 5e-4  # of all biases
_C.SOLVER.SCHED = "MultiStepLR"  # or CosineAnnealingLR, or one of yours
_C.SOLVER.DELAY_EPOCHS = 0  # epochs of plateau before the schedule starts
_C.SOLVER.GAMMA = 0.1  # of MultiStepLR
_C.SOLVER.STEPS = [30, 55]  # its milestones, in epochs after warm-up and delay
_C.SOLVER.ETA_MIN_LR = 1e-7  # where CosineAnnealingLR ends
_C.SOLVER.WARMUP_FACTOR = 0.1  # part of the learning rate that training begins with
_C.SOLVER.WARMUP_ITERS = 1000  # iterations until the full learning rate
_C.SOLVER.WARMUP_EPOCHS = 0  # if not 0, instead of WARMUP_ITERS
_C.SOLVER.WARMUP_METHOD = "linear"  # linear, constant or exp
_C.SOLVER.FREEZE_ITERS = 0  # iterations that MODEL.FREEZE_LAYERS stay frozen
_C.SOLVER.FREEZE_EPOCHS = 0  # if not 0, instead of FREEZE_ITERS
_C.SOLVER.CHECKPOINT_PERIOD = 20  # epochs between kept checkpoints
_C.SOLVER.IMS_PER_BATCH = 64  # images a step, over all processes
_C.SOLVER.ACCUMULATE = 1  # parts that they pass through the model in, to save memory
_C.SOLVER.COMPILE = False  # torch.compile the blocks of the model; the first step takes longer
_C.SOLVER.CLIP_GRADIENTS = CN()
_C.SOLVER.CLIP_GRADIENTS.ENABLED = False  # limit gradients
_C.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"  # norm (of each parameter) or value
_C.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 5.0  # largest norm, or absolute value
_C.SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0  # p of the p-norm

_C.TEST = CN()
_C.TEST.EVAL_PERIOD = 20  # epochs between evaluations; 0 or less: only at the end
_C.TEST.BEFORE_TRAINING = False  # evaluate the network as it was, too, and show both at the end
_C.TEST.IMS_PER_BATCH = 64  # images that pass through the model at once
_C.TEST.DTYPE = "float32"  # of the model at evaluation; or bfloat16, or (CUDA) float16
_C.TEST.FOLD_NORMS = False  # fold batch norms into convolutions; features differ by rounding
_C.TEST.METRIC = "cosine"  # or euclidean (squared)
_C.TEST.PCA = 0  # dimensions that features are reduced to, as learned from the gallery; 0: all
_C.TEST.STORE = "float32"  # of features that an evaluation leaves; or float16
_C.TEST.PROTOCOL = "paper"  # of the first number reported: paper, encounter or flank
_C.TEST.ENCOUNTER = CN()
_C.TEST.ENCOUNTER.BY = "date"  # one encounter has one date, one sequence, or no gap in time
_C.TEST.ENCOUNTER.GAP = 60.0  # minutes between two images of an encounter, for BY: gap
_C.TEST.FLIP = CN()
_C.TEST.FLIP.ENABLED = False  # mean feature of an image and its mirror image
_C.TEST.ROC = CN()
_C.TEST.ROC.ENABLED = False  # also report true matches at fixed shares of false ones
_C.TEST.AQE = CN()
_C.TEST.AQE.ENABLED = False  # average query expansion
_C.TEST.AQE.ALPHA = 3.0  # power of the similarity that weighs a neighbour
_C.TEST.AQE.QE_TIME = 1  # rounds
_C.TEST.AQE.QE_K = 5  # neighbours
_C.TEST.RERANK = CN()
_C.TEST.RERANK.ENABLED = False  # k-reciprocal re-ranking
_C.TEST.RERANK.K1 = 20  # neighbours that may be reciprocal
_C.TEST.RERANK.K2 = 6  # neighbours whose sets are averaged
_C.TEST.RERANK.LAMBDA = 0.3  # weight of the original distance
_C.TEST.PRECISE_BN = CN()
_C.TEST.PRECISE_BN.ENABLED = False  # estimate the statistics of BatchNorm anew before evaluating
_C.TEST.PRECISE_BN.NUM_ITER = 300  # batches to estimate them from

_QUEUE = "nothing here learns from a queue of features (MoCo)"
_TRANSFORMER = "only FastReID's transformers read it; timm/<model> builds transformers here"
_DISTILLATION = "models are not distilled or averaged here"

REFUSED: dict[str, tuple[Any, str]] = {
    "MODEL.QUEUE_SIZE": (8192, _QUEUE),
    "MODEL.BACKBONE.SIE_COE": (3.0, _TRANSFORMER),
    "MODEL.BACKBONE.STRIDE_SIZE": ((16, 16), _TRANSFORMER),
    "MODEL.BACKBONE.DROP_PATH_RATIO": (0.1, _TRANSFORMER),
    "MODEL.BACKBONE.DROP_RATIO": (0.0, _TRANSFORMER),
    "MODEL.BACKBONE.ATT_DROP_RATE": (0.0, _TRANSFORMER),
    "KD.MODEL_CONFIG": ([], _DISTILLATION),
    "KD.MODEL_WEIGHTS": ([], _DISTILLATION),
    "KD.EMA.ENABLED": (False, _DISTILLATION),
    "KD.EMA.MOMENTUM": (0.999, _DISTILLATION),
    "DATALOADER.SET_WEIGHT": ([], "no sampler here weighs data sets against each other"),
    "TEST.PRECISE_BN.DATASET": (
        "Market1501",
        "statistics are always estimated from the training set",
    ),
}
"""FastReID's keys that change nothing here: the one value that each accepts, and the reason."""


_C.refused.update(REFUSED)


def get_cfg() -> CN:
    """Return a new, changeable tree of all keys at their defaults, those of plugins among them."""
    cfg: CN = _C.clone()
    return cfg
