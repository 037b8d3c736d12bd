"""Facts of HMDB51: where it is published, how much it holds, how its files are named, the tags in their names.

H. Kuehne, H. Jhuang, E. Garrote, T. Poggio, T. Serre, "HMDB: a large video database for human motion
recognition", ICCV 2011. Its annotators marked what can be seen in each clip, and how well; the marks are in
the file name: `<source>_<class>_<body>_<camera>_np<people>_<viewpoint>_<quality>_<number>.avi`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..settings.names import SPLITS

CLASSES = 51
CLIPS = 6766
FRAMES = 640_000  # about
TRAIN_CLIPS = 3570  # of each split

# As the archives unpack, and as other data sets may be laid out.
VIDEO_FOLDER = "hmdb51_org"
LIST_FOLDER = "testTrainMulti_7030_splits"
LIST_NAME = re.compile(r"([^\ud800-\udfff]+)_test_split([123])\.txt")  # class, split

CLASS_NAMES = tuple(
    """brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing
    flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike
    ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand swing_baseball
    sword sword_exercise talk throw turn walk wave""".split()  # noqa: SIM905
)

# Field of `Tags` -> code in the file name -> words for people.
TAG_WORDS: Mapping[str, Mapping[str, str]] = {
    "body": {"f": "full body", "u": "upper body", "h": "head", "l": "lower body"},
    "camera": {"cm": "camera moves", "nm": "camera still"},
    "viewpoint": {"fr": "front", "ba": "back", "le": "left", "ri": "right"},
    "quality": {"goo": "good", "med": "medium", "bad": "bad"},
}

_CODES = {field: "|".join(words) for field, words in TAG_WORDS.items()}
_TAGS = re.compile(r"({body})_({camera})_np([0-9]{{1,3}})_({viewpoint})_({quality})_[0-9]+\.[^.]+".format_map(_CODES))


@dataclass(frozen=True)
class Tags:
    """The marks of one clip, as codes; `TAG_WORDS` has the words for them."""

    body: str  # visible part: f, u, h or l
    camera: str  # cm or nm
    people: int  # how many take part in the action
    viewpoint: str  # fr, ba, le or ri
    quality: str  # goo, med or bad


@dataclass(frozen=True)
class Archive:
    """A file of the official site, and what no copy of it may exceed."""

    name: str
    sha256: str
    max_bytes: int


@dataclass(frozen=True)
class Release:
    """Contents of a complete copy of the data set, and where it is published."""

    classes: tuple[str, ...]
    clips: int
    videos: Archive  # a RAR of one RAR a class
    lists: Archive
    mirrors: tuple[str, ...]  # folders that hold both archives, in the order in which they are tried

    @property
    def list_names(self) -> tuple[str, ...]:
        """The file names of all split lists."""
        return tuple(list_name(name, split) for name in self.classes for split in SPLITS)


_PATH = "serre-lab.clps.brown.edu/wp-content/uploads/2013/10/"

# The checksums are those that others have published (torchvision among them); to be confirmed by the first download
# from the official site that is seen to work.
OFFICIAL = Release(
    classes=CLASS_NAMES,
    clips=CLIPS,
    videos=Archive(f"{VIDEO_FOLDER}.rar", "9e714a0d8b76104d76e932764a7ca636f929fff66279cda3f2e326fa912a328e", 4 << 30),
    lists=Archive(
        "test_train_splits.rar", "229c94f845720d01eb3946d39f39292ea962d50a18136484aa47c1eba251d2b7", 64 << 20
    ),
    mirrors=(f"https://{_PATH}", f"http://{_PATH}"),
)


def list_name(class_name: str, split: int) -> str:
    """The file name of a split list, as `LIST_NAME` reads it."""
    return f"{class_name}_test_split{split}.txt"


def parse_tags(class_name: str, file_name: str) -> Tags | None:
    """Read the tags that stand after the last `_<class>_` of a file name; None where it carries none."""
    source, _, rest = file_name.rpartition(f"_{class_name}_")
    match = _TAGS.fullmatch(rest) if source else None
    if match is None:
        return None
    body, camera, people, viewpoint, quality = match.groups()
    return Tags(body, camera, int(people), viewpoint, quality)
