"""What is true of HMDB51 alone: how much it holds, and the tags in its file names.

H. Kuehne, H. Jhuang, E. Garrote, T. Poggio, T. Serre, "HMDB: a large video database for human motion
recognition", ICCV 2011. Its annotators marked what can be seen in each clip, and how well; the marks are in
the file name: `<source>_<class>_<body>_<camera>_np<people>_<viewpoint>_<quality>_<number>.avi`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CLASSES = 51
CLIPS = 6766
FRAMES = 640_000  # about
TRAIN_CLIPS = 3570  # of each split
SPLIT_LISTS = 153

# Field of `Tags` -> code in the file name -> words for people.
TAG_WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "body": MappingProxyType({"f": "full body", "u": "upper body", "h": "head", "l": "lower body"}),
        "camera": MappingProxyType({"cm": "camera moves", "nm": "camera still"}),
        "viewpoint": MappingProxyType({"fr": "front", "ba": "back", "le": "left", "ri": "right"}),
        "quality": MappingProxyType({"goo": "good", "med": "medium", "bad": "bad"}),
    }
)

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


def parse_tags(class_name: str, file_name: str) -> Tags | None:
    """Read the tags that stand after the last `_<class>_` of a file name; None where it carries none."""
    source, _, rest = file_name.rpartition(f"_{class_name}_")
    match = _TAGS.fullmatch(rest) if source else None
    if match is None:
        return None
    body, camera, people, viewpoint, quality = match.groups()
    return Tags(body, camera, int(people), viewpoint, quality)
