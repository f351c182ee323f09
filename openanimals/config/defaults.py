"""Every key: its default, what must hold of it, and what it does. FastReID's keep their meaning.

A key stands here only if something reads it. FastReID's other keys are in ``fastreid.REFUSED``: a
file may set them to their default and to nothing else.
"""

import sys
from typing import Any, NamedTuple

from openanimals.config.node import DECLARED, RULES, Declared, Rule, leaves
from openanimals.config.node import CfgNode as CN
from openanimals.utils.errors import UserError
from openanimals.utils.files import is_address


def numbers(value: Any, count: int, kind: type = float) -> bool:
    """Tell whether the value is a list of so many numbers (of whole ones for ``int``)."""
    allowed = (int,) if kind is int else (int, float)
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(v, allowed) and not isinstance(v, bool) for v in value)
    )


def _texts(value: Any) -> bool:
    return all(isinstance(text, str) for text in value)


POSITIVE: Rule = (lambda v: v > 0, "must be above 0")
NOT_NEGATIVE: Rule = (lambda v: v >= 0, "must not be negative")
SHARE: Rule = (lambda v: 0 <= v <= 1, "must lie in 0..1")
TEXTS: Rule = (_texts, "must be a list of names")
LOSSES: Rule = (lambda v: _texts(v) and len(v) > 0, "must name at least one loss")
DATASETS: Rule = (
    lambda v: _texts(v) and len(v) > 0,
    "must be one or more names, a number in quotes",
)
CENTRE: Rule = (
    lambda v: len(v) == 0 or (numbers(v, 2) and min(v) > 0),
    "must be two parts of half the width and height, above 0, or []",
)
SIZE: Rule = (  # larger ones would have the system kill processes, not necessarily ours
    lambda v: numbers(v, 2, int) and min(v) > 0 and v[0] * v[1] <= 10**8,
    "must be [height, width] in pixels, and 100 megapixels at most",
)
COLOUR: Rule = (
    lambda v: numbers(v, 3) and min(v) >= 0 and max(v) <= 255,
    "must be three numbers in 0..255, for red, green and blue",
)
SCALES: Rule = (lambda v: numbers(v, 3) and min(v) > 0, "must be three numbers above 0")
RANGE: Rule = (
    lambda v: numbers(v, 2) and 0 < v[0] <= v[1],
    "must be [low, high] with 0 < low <= high",
)
SHARES: Rule = (
    lambda v: RANGE[0](v) and v[1] <= 1,
    "must be [low, high] with 0 < low <= high <= 1",
)
STRIDE: Rule = (lambda v: v in (1, 2), "must be 1 or 2")
EPSILON: Rule = (lambda v: v == -1 or 0 <= v < 1, "must lie in 0..1, or be -1")
HUE: Rule = (lambda v: 0 <= v <= 0.5, "must lie in 0..0.5, half the circle of hues")
PART: Rule = (lambda v: 0 <= v < 1, "must lie in 0..1, below 1")
FACTOR: Rule = (lambda v: 0 < v <= 1, "must be above 0 and at most 1")
SEED_32: Rule = (lambda v: 0 <= v < 2**32, "must lie in 0..2**32 - 1")
EPOCHS: Rule = (
    lambda v: numbers(v, len(v), int) and min(v, default=1) > 0,
    "must be a list of epochs above 0",
)
LOCAL: Rule = (lambda v: not is_address(v), "must be a file on this machine: download it before")
FOLDER: Rule = (lambda v: v.strip() and not is_address(v), "must name a folder on this machine")
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
PADDINGS = ("constant", "edge", "reflect", "symmetric")
CACHES = ("auto", "off", "ram", "disk", "device")
SPLITS = ("auto", "source", "paper", "closed", "time", "original", "file")
DTYPES = ("float32", "bfloat16", "float16")


class Key(NamedTuple):
    """A default, and what must hold of values: a test and what its error says, or the choices."""

    default: Any
    rule: Rule | tuple[str, ...]


class _Section(dict[str, Any]):
    """The keys as they are written down: a section is there once it is named."""

    def __getattr__(self, name: str) -> Any:
        return self.setdefault(name, _Section())

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


_C = _Section()
_C.SEED = Key(0, NOT_NEGATIVE)  # everything random derives from it, but for DATALOADER.SEED
_C.IMPORTS = Key([], TEXTS)  # modules of your own, of all files, imported first (docs/extending.md)
_C.OUTPUT_DIR = Key("logs/", FOLDER)  # checkpoints, logs, curves and results of the run
_C.CUDNN_BENCHMARK = False  # let cuDNN time its algorithms (faster, not reproducible bit for bit)
_C.TIMEOUT = Key(1800, POSITIVE)  # seconds to wait for another process or for images, then give up
_C.LOG_PERIOD = Key(10, POSITIVE)  # iterations between reads of the losses, for metrics.json
_C.TRAINER = "Trainer"  # a registered subclass of it, with a train_step of your own
_C.CALLBACKS = Key([], TEXTS)  # registered callbacks of your own, called at the end of each epoch
_C.WRITERS = Key([], TEXTS)  # registered writers, beside console, metrics.json and TensorBoard

_C.MODEL.DEVICE = "auto"  # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:<n>, mps
_C.MODEL.META_ARCHITECTURE = Key("Baseline", ("Baseline", "MGN"))  # fills empty HEADS.BRANCHES
_C.MODEL.FREEZE_LAYERS = Key([], TEXTS)  # frozen for SOLVER.FREEZE_ITERS: backbone, b1, b1_head...
_C.MODEL.WEIGHTS = Key("", LOCAL)  # checkpoint to start from, or to evaluate
_C.MODEL.CAVEAT = ""  # shown with every result, such as "trained on these individuals"
_C.MODEL.PIXEL_MEAN = Key([123.675, 116.28, 103.53], COLOUR)  # RGB, of pixels in 0..255
_C.MODEL.PIXEL_STD = Key([58.395, 57.12, 57.375], SCALES)  # inside the model: (value - mean) / std

_C.MODEL.BACKBONE.NAME = "build_resnet_backbone"  # a registered name, or timm/<model>
_C.MODEL.BACKBONE.DEPTH = Key("50x", ("18x", "34x", "50x", "101x"))  # of the ResNet
_C.MODEL.BACKBONE.LAST_STRIDE = Key(1, STRIDE)  # stride of the last stage: 1 keeps the map at 1/16
_C.MODEL.BACKBONE.FEAT_DIM = Key(2048, POSITIVE)  # channels of the last map, C: the backbone's
_C.MODEL.BACKBONE.NORM = Key("BN", NORMS)  # its norm layers
_C.MODEL.BACKBONE.WITH_IBN = False  # IBN-a: first norm of each block of layer1..3 is half instance
_C.MODEL.BACKBONE.WITH_SE = False  # squeeze-and-excitation in every block
_C.MODEL.BACKBONE.WITH_NL = False  # non-local blocks after the last blocks of layer2 and layer3
_C.MODEL.BACKBONE.PRETRAIN = False  # start from ImageNet weights
_C.MODEL.BACKBONE.PRETRAIN_PATH = ""  # their file, or hf-hub:<owner>/<model>; empty: download

_C.MODEL.HEADS.NAME = "EmbeddingHead"  # a registered head
_C.MODEL.HEADS.NORM = Key("BN", NORMS)  # norm layer of the BNNeck
_C.MODEL.HEADS.BRANCHES = []  # stripes of each branch, [[1], [1, 2], [1, 3]]; []: META_ARCHITECTURE
_C.MODEL.HEADS.STRIPES = Key("rows", ("rows", "cols"))  # into which the map is cut
_C.MODEL.HEADS.NUM_CLASSES = Key(0, NOT_NEGATIVE)  # training identities; 0: counted from the data
_C.MODEL.HEADS.EMBEDDING_DIM = Key(0, NOT_NEGATIVE)  # width of the 1x1 reduction of a head; 0: none
_C.MODEL.HEADS.WITH_BNNECK = False  # batch norm, bias frozen at 0, between embedding and classifier
_C.MODEL.HEADS.NECK_FEAT = Key("before", ("before", "after"))  # side that metric losses see
_C.MODEL.HEADS.POOL_LAYER = "GlobalAvgPool"  # see modeling/layers/pools.py; Identity: timm's own
_C.MODEL.HEADS.CLS_LAYER = "Linear"  # or CosSoftmax, ArcSoftmax, CircleSoftmax, one of yours
_C.MODEL.HEADS.MARGIN = Key(0.0, SHARE)  # margin of CLS_LAYER
_C.MODEL.HEADS.SCALE = Key(1.0, POSITIVE)  # factor on its logits

_C.MODEL.LOSSES.NAME = Key(("CrossEntropyLoss",), LOSSES)  # registered losses, summed
_C.MODEL.LOSSES.GATHER = False  # metric losses see the images of all processes, not of their own
_C.MODEL.LOSSES.CE.EPSILON = Key(0.0, EPSILON)  # label smoothing; -1: adaptive
_C.MODEL.LOSSES.CE.ALPHA = Key(0.2, SHARE)  # of the adaptive smoothing
_C.MODEL.LOSSES.CE.SCALE = Key(1.0, NOT_NEGATIVE)  # weight of the loss
_C.MODEL.LOSSES.TRI.MARGIN = Key(0.3, NOT_NEGATIVE)  # 0: soft margin, log(1 + exp(ap - an))
_C.MODEL.LOSSES.TRI.NORM_FEAT = False  # distances between L2-normalised features
_C.MODEL.LOSSES.TRI.HARD_MINING = False  # batch-hard; else weighted
_C.MODEL.LOSSES.TRI.SCALE = Key(1.0, NOT_NEGATIVE)  # weight of the loss
_C.MODEL.LOSSES.CIRCLE.MARGIN = Key(0.25, SHARE)  # of similarities between pairs
_C.MODEL.LOSSES.CIRCLE.GAMMA = Key(128.0, POSITIVE)  # factor on similarities
_C.MODEL.LOSSES.CIRCLE.SCALE = Key(1.0, NOT_NEGATIVE)  # weight of the loss
_C.MODEL.LOSSES.COSFACE.MARGIN = Key(0.25, SHARE)  # of similarities between pairs
_C.MODEL.LOSSES.COSFACE.GAMMA = Key(128.0, POSITIVE)  # factor on similarities
_C.MODEL.LOSSES.COSFACE.SCALE = Key(1.0, NOT_NEGATIVE)  # weight of the loss
_C.MODEL.LOSSES.FL.ALPHA = Key(0.25, SHARE)  # factor of the whole, the same for all classes
_C.MODEL.LOSSES.FL.GAMMA = Key(2.0, NOT_NEGATIVE)  # how much less easy cases count
_C.MODEL.LOSSES.FL.SCALE = Key(1.0, NOT_NEGATIVE)  # weight of the loss

_C.INPUT.SIZE_TRAIN = Key([256, 128], SIZE)  # height, width
_C.INPUT.SIZE_TEST = Key([256, 128], SIZE)  # height, width
_C.INPUT.BACKGROUND = Key("keep", ("keep", "mask"))  # mask: black outside, where there are masks
_C.INPUT.EXACT_TRAIN = False  # resize as Pillow does, bit for bit; else some values differ by 1
_C.INPUT.EXACT_TEST = True  # the same for evaluation
_C.INPUT.MAX_MEGAPIXELS = Key(179.0, POSITIVE)  # larger photographs are refused: files may be bombs
_C.INPUT.CACHE = Key("auto", CACHES)  # where decoded images are kept; auto: on disk if they fit
_C.INPUT.CACHE_LIMIT = Key(16.0, POSITIVE)  # GiB that they may take
_C.INPUT.CACHE_DIR = ""  # of those on disk; empty: openanimals/images in the user's cache folder
_C.INPUT.CROP.ENABLED = False  # random resized crop
_C.INPUT.CROP.SIZE = Key([224, 224], SIZE)  # height, width of what the model gets then
_C.INPUT.CROP.SCALE = Key([0.16, 1.0], SHARES)  # share of the area
_C.INPUT.CROP.RATIO = Key([3.0 / 4.0, 4.0 / 3.0], RANGE)  # width to height
_C.INPUT.FLIP.ENABLED = False  # horizontal
_C.INPUT.FLIP.PROB = Key(0.5, SHARE)  # share of the images that are flipped
_C.INPUT.PADDING.ENABLED = False  # pad all sides, then crop the input size at random
_C.INPUT.PADDING.MODE = Key("constant", PADDINGS)  # of what lies outside; constant: black
_C.INPUT.PADDING.SIZE = Key(10, NOT_NEGATIVE)  # pixels on each side
_C.INPUT.CJ.ENABLED = False  # colour jitter
_C.INPUT.CJ.PROB = Key(0.5, SHARE)  # share of the images that are changed
_C.INPUT.CJ.BRIGHTNESS = Key(0.15, SHARE)  # largest relative change
_C.INPUT.CJ.CONTRAST = Key(0.15, SHARE)  # largest relative change
_C.INPUT.CJ.SATURATION = Key(0.1, SHARE)  # largest relative change
_C.INPUT.CJ.HUE = Key(0.1, HUE)  # largest turn, of a full circle
_C.INPUT.AFFINE.ENABLED = False  # random rotation, scale and shear
_C.INPUT.AUTOAUG.ENABLED = False  # torchvision's ImageNet AutoAugment, before the resize
_C.INPUT.AUTOAUG.PROB = Key(0.0, SHARE)  # share of the images that are changed
_C.INPUT.AUGMIX.ENABLED = False  # mixture of several chains of random changes
_C.INPUT.AUGMIX.PROB = Key(0.0, SHARE)  # share of the images that are changed
_C.INPUT.REA.ENABLED = False  # random erasing
_C.INPUT.REA.PROB = Key(0.5, SHARE)  # share of the images that are changed
_C.INPUT.REA.VALUE = Key([123.675, 116.28, 103.53], COLOUR)  # RGB of the erased box, 0..255
_C.INPUT.RPT.ENABLED = False  # random patches of other images
_C.INPUT.RPT.PROB = Key(0.5, SHARE)  # share of the images that are changed
_C.INPUT.TRANSFORMS = Key([], TEXTS)  # registered transforms of yours, applied after ours, in order

_C.DATASETS.NAMES = Key(("Market1501",), DATASETS)  # Animals-<Class>, folder:, csv:, registered
_C.DATASETS.TESTS = Key((), TEXTS)  # evaluated on; empty: NAMES
_C.DATASETS.ROOT = ""  # of the data sets; empty: $REID_DATASETS, $FASTREID_DATASETS, datasets
_C.DATASETS.COMBINEALL = False  # train on query and gallery images as well
_C.DATASETS.SPLIT = Key("auto", SPLITS)  # auto: source, else paper
_C.DATASETS.SPLIT_FILE = ""  # of SPLIT: file; ours, or the release's partition.json
_C.DATASETS.VAL_FRACTION = Key(0.0, PART)  # share of training identities that choose model_best.pth
_C.DATASETS.FLANKS = Key("ignore", ("ignore", "separate"))  # separate: each side is an animal
_C.DATASETS.KEEP_UNKNOWN = False  # True: names like Unknown_2, NaN or ? are individuals, too
_C.DATASETS.DATE_PATTERN = ""  # regular expression with groups year, month, day for file names

_C.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"  # or Naive- or BalancedIdentitySampler (P x K)
_C.DATALOADER.NUM_INSTANCE = Key(4, POSITIVE)  # K
_C.DATALOADER.NUM_WORKERS = Key(8, NOT_NEGATIVE)  # processes that read, one a core at most; 0: none
_C.DATALOADER.SEED = Key(860870892, SEED_32)  # of the sampler; this one gives the published batches

_C.SOLVER.AMP.ENABLED = False  # mixed precision, where the device has DTYPE; else float32
_C.SOLVER.AMP.DTYPE = Key("float16", ("float16", "bfloat16"))  # CUDA has both, the CPU bfloat16
_C.SOLVER.OPT = "Adam"  # Adam, AdamW, SGD, or one of yours
_C.SOLVER.MAX_EPOCH = Key(120, POSITIVE)  # epochs; one has as many batches as fit into the images
_C.SOLVER.BASE_LR = Key(3e-4, POSITIVE)  # learning rate after warm-up
_C.SOLVER.HEADS_LR_FACTOR = Key(1.0, NOT_NEGATIVE)  # on the learning rate of the heads
_C.SOLVER.BIAS_LR_FACTOR = Key(1.0, NOT_NEGATIVE)  # on the learning rate of biases
_C.SOLVER.MOMENTUM = Key(0.9, PART)  # of SGD
_C.SOLVER.NESTEROV = False  # of SGD
_C.SOLVER.WEIGHT_DECAY = Key(5e-4, NOT_NEGATIVE)  # of all other weights
_C.SOLVER.WEIGHT_DECAY_NORM = Key(5e-4, NOT_NEGATIVE)  # of norm layers, but for their biases
_C.SOLVER.WEIGHT_DECAY_BIAS = Key(5e-4, NOT_NEGATIVE)  # of all biases
_C.SOLVER.SCHED = "MultiStepLR"  # or CosineAnnealingLR, or one of yours
_C.SOLVER.DELAY_EPOCHS = Key(0, NOT_NEGATIVE)  # epochs of plateau before the schedule starts
_C.SOLVER.GAMMA = Key(0.1, FACTOR)  # of MultiStepLR
_C.SOLVER.STEPS = Key([30, 55], EPOCHS)  # its milestones, in epochs after warm-up and delay
_C.SOLVER.ETA_MIN_LR = Key(1e-7, NOT_NEGATIVE)  # where CosineAnnealingLR ends
_C.SOLVER.WARMUP_FACTOR = Key(0.1, FACTOR)  # part of the learning rate that training begins with
_C.SOLVER.WARMUP_ITERS = Key(1000, NOT_NEGATIVE)  # iterations until the full learning rate
_C.SOLVER.WARMUP_EPOCHS = Key(0, NOT_NEGATIVE)  # if not 0, instead of WARMUP_ITERS
_C.SOLVER.WARMUP_METHOD = Key("linear", ("linear", "constant", "exp"))  # how the rate grows to it
_C.SOLVER.FREEZE_ITERS = Key(0, NOT_NEGATIVE)  # iterations that MODEL.FREEZE_LAYERS stay frozen
_C.SOLVER.FREEZE_EPOCHS = Key(0, NOT_NEGATIVE)  # if not 0, instead of FREEZE_ITERS
_C.SOLVER.CHECKPOINT_PERIOD = Key(20, POSITIVE)  # epochs between kept checkpoints
_C.SOLVER.IMS_PER_BATCH = Key(64, POSITIVE)  # images a step, over all processes
_C.SOLVER.ACCUMULATE = Key(1, POSITIVE)  # parts that they pass the model in, to save memory
_C.SOLVER.COMPILE = False  # torch.compile the blocks of the model; the first step takes longer
_C.SOLVER.CLIP_GRADIENTS.ENABLED = False  # limit gradients
_C.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = Key("norm", ("norm", "value"))  # norm: of each parameter
_C.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = Key(5.0, POSITIVE)  # largest norm, or absolute value
_C.SOLVER.CLIP_GRADIENTS.NORM_TYPE = Key(2.0, POSITIVE)  # p of the p-norm

_C.TEST.EVAL_PERIOD = 20  # epochs between evaluations; 0 or less: only at the end
_C.TEST.BEFORE_TRAINING = False  # evaluate the network as it was, too, and show both at the end
_C.TEST.IMS_PER_BATCH = Key(64, POSITIVE)  # images that pass through the model at once
_C.TEST.DTYPE = Key("float32", DTYPES)  # of the model at evaluation; float16: on CUDA
_C.TEST.FOLD_NORMS = False  # fold batch norms into convolutions; features differ by rounding
_C.TEST.MATCHER = "cosine"  # features by TEST.METRIC; local (keypoints), fusion, or one of yours
_C.TEST.BY_INDIVIDUAL = False  # also rank individuals, each by its best photograph
_C.TEST.METRIC = Key("cosine", ("cosine", "euclidean"))  # euclidean: squared
_C.TEST.PCA = Key(0, NOT_NEGATIVE)  # dimensions left of features, learned from the gallery; 0: all
_C.TEST.STORE = Key("float32", ("float32", "float16"))  # of features that an evaluation leaves
_C.TEST.PROTOCOL = Key("paper", ("paper", "encounter", "flank"))  # of the first number reported
_C.TEST.ENCOUNTER.BY = Key("date", ("date", "sequence", "gap"))  # that an encounter has one of
_C.TEST.ENCOUNTER.GAP = Key(60.0, NOT_NEGATIVE)  # minutes between images of an encounter, for gap
_C.TEST.FLIP.ENABLED = False  # mean feature of an image and its mirror image
_C.TEST.ROC.ENABLED = False  # also report true matches at fixed shares of false ones
_C.TEST.AQE.ENABLED = False  # average query expansion
_C.TEST.AQE.ALPHA = Key(3.0, NOT_NEGATIVE)  # power of the similarity that weighs a neighbour
_C.TEST.AQE.QE_TIME = Key(1, POSITIVE)  # rounds
_C.TEST.AQE.QE_K = Key(5, POSITIVE)  # neighbours
_C.TEST.RERANK.ENABLED = False  # k-reciprocal re-ranking
_C.TEST.RERANK.K1 = Key(20, POSITIVE)  # neighbours that may be reciprocal
_C.TEST.RERANK.K2 = Key(6, POSITIVE)  # neighbours whose sets are averaged
_C.TEST.RERANK.LAMBDA = Key(0.3, SHARE)  # weight of the original distance
_C.TEST.PRECISE_BN.ENABLED = False  # estimate the statistics of BatchNorm anew before evaluating
_C.TEST.PRECISE_BN.NUM_ITER = Key(300, POSITIVE)  # batches to estimate them from

_C.MATCHING.DETECTOR = Key("dog", ("dog", "hessian"))  # of the keypoints of TEST.MATCHER local
_C.MATCHING.SIZE = Key(336, POSITIVE)  # longest side that photographs are scaled to, in pixels
_C.MATCHING.POINTS = Key(600, POSITIVE)  # most keypoints of a photograph
_C.MATCHING.CENTRE = Key([0.6, 0.4], CENTRE)  # how far the animal reaches from it; []: all counts
_C.MATCHING.K = Key(4, POSITIVE)  # neighbours that a descriptor votes for
_C.MATCHING.NORMALISERS = Key(1, POSITIVE)  # neighbours beyond, of which one is the normaliser
_C.MATCHING.RULE = Key(
    "last", ("last", "name", "ratio")
)  # which one; ratio: one photograph with one
_C.MATCHING.SHORTLIST = Key(100, NOT_NEGATIVE)  # photographs checked by geometry; 0: none are
_C.MATCHING.PROBES = Key(32, NOT_NEGATIVE)  # parts of a large gallery that are searched; 0: all
_C.MATCHING.VOTE = Key("nsum", ("nsum", "csum"))  # of an individual's photographs: all, or the best

_C.FUSION.MATCHERS = Key(["cosine", "local"], TEXTS)  # whose calibrated scores are fused
_C.FUSION.CALIBRATION = Key("isotonic", ("isotonic", "logistic"))  # from scores to probabilities
_C.FUSION.HOW = Key(
    "logistic", ("logistic", "mean")
)  # a function of the logits, or the mean probability
_C.FUSION.IMAGES = Key(1000, POSITIVE)  # most training images that it is calibrated on

_TREE = CN()
for _name, _value in leaves(_C):
    if isinstance(_value, Key):
        RULES[_name] = _value.rule
    _TREE.add(_name, _value.default if isinstance(_value, Key) else _value)


def get_cfg() -> CN:
    """Return a new, changeable tree of all keys at their defaults, those of plugins among them."""
    cfg: CN = _TREE.clone()
    return cfg


def declare(
    key: str, default: Any, meaning: str, rule: Rule | tuple[str, ...] | None = None
) -> None:
    """Add a key to the configuration, from a module that IMPORTS names.

    Args:
        key: dotted, such as ``MODEL.LOSSES.MINE.ALPHA``; sections are made.
        default: a bool, an int, a float, a text, a list or a tuple; values must be of its type.
        meaning: a line for the list of keys.
        rule: what else must hold of a value: a test and what its error says, such as
            ``POSITIVE``, which is ``(lambda v: v > 0, "must be above 0")``, ``NOT_NEGATIVE`` or
            ``SHARE``; or, for a text, the values that it may have.

    Raises:
        UserError: the key is there already, has no meaning, or a default of another type.

    Example:
        >>> declare("MODEL.LOSSES.MINE.ALPHA", 0.5, "weight of the far pairs", SHARE)
    """
    module = sys._getframe(1).f_globals.get("__name__", "?")
    if not isinstance(default, bool | int | float | str | list | tuple) or not meaning:
        raise UserError(
            f"{module} declares the key {key} with the default {default!r} and the meaning "
            f"{meaning!r}; expected a bool, int, float, str, list or tuple, and a line of text"
        )
    if not _TREE.add(key, default):
        raise UserError(f"{module} declares the key {key}, which is there already")
    DECLARED[key] = Declared(default, meaning, module)
    if rule:
        RULES[key] = rule
