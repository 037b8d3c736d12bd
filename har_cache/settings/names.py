"""Values that options take by name, and the forms of others. Nothing here imports torch, since `--help` needs it."""

# Devices as they are asked for: one, or (of stage one alone) several GPUs.
DEVICE = r"auto|cpu|cuda(:[0-9]+)?"
DEVICES = rf"{DEVICE}|cuda:[0-9]+(,(cuda:)?[0-9]+)+"
DECODERS = ("auto", "decord", "pyav")
EXECUTORS = ("local", "ray")
PRECISIONS = ("fp32", "fp16", "bf16", "fp16-mixed", "bf16-mixed")
MNASNET = "mnasnet0_5"  # the encoder that is taken where no other is asked for
DIM = 256  # numbers of an embedding, where no other number is asked for
NATIVE = "native"
TIMM = "timm:"  # before the name of an encoder
# Weights that an encoder was published with: torchvision's are of ImageNet, timm's of many things.
IMAGENET, PUBLISHED, IMAGENET_OR_RANDOM = "imagenet", "published", "imagenet-or-random"
NAMED_WEIGHTS = (IMAGENET, PUBLISHED, "random", IMAGENET_OR_RANDOM)
NAMED_PROJECTIONS = ("pca", "random")
NO_PROJECTION_NAME = "none"  # as recipes have it
CENTER, FLIP, FULL = "center", "flip", "full"  # the middle of a frame; that mirrored; all of the frame
VIEWS = ("center", "center,flip", "center,full", "center,flip,full")
FEATURE_FORMATS = ("npy", "parquet", "webdataset", "datasets")
CELLS = ("gru", "lstm", "rnn", "conv")
BLOCKS = 18  # of MNASNet: the stem, sixteen inverted residuals, the last convolution
SPLITS = (1, 2, 3)  # of HMDB51
MOST_SPLITS = 99
SEEDS = r"[0-9]{1,9}-[0-9]{1,9}|[0-9]{1,9}(,[0-9]{1,9})*"
ALL = "all"
FORMATS = ("text", "markdown", "latex")  # of tables
