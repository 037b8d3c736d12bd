"""Real clips and the official split lists of HMDB51, which lie beside the checkout where there are any."""

from pathlib import Path

HMDB51 = Path(__file__).parents[3] / "shared" / "hmdb51"
VIDEOS, OFFICIAL_LISTS = HMDB51 / "videos", HMDB51 / "splits"
