"""Numbers that a device gives beside the CPU's, on frames of some videos: `python -m tests.gpu_check.numbers`.

Prints one JSON object: `transform`, pixels that differ of how many; by precision `cosine`, the lowest centred one to
the CPU's fp32, `rows`, how many embeddings differ when the same batch is encoded again, in another order, or by a
CUDA graph, and `refused`, convolutions that run unfused; `from_rings`, whether the device reads frames where they are;
`auto`, the precision that is tried first.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from har_cache.encoder.encoder import Encoder, centred_cosine, favoured
from har_cache.encoder.folded import fold
from har_cache.encoder.projection import fit_pca
from har_cache.encoder.transform import crop, normalise, pictures
from har_cache.encoder.weights import build_encoder, calibrate, random_model
from har_cache.extraction.gpu import batches
from har_cache.extraction.gpu.batches import BatchEncoder
from har_cache.video.decode import VideoReader
from har_cache.workers.ring import Ring

VIEWS = ("center", "full")


def frames_of(folder, most):
    """uint8 (n, height, width, 3) of each of some videos."""
    for path in islice(sorted(p for p in folder.rglob("*") if p.suffix in (".avi", ".mp4")), 12):
        with VideoReader(path) as video:
            yield np.concatenate(list(video.chunks()))[:most]


def measured(folder, device, most):
    """What this module's text says."""
    clips = list(frames_of(folder, most))
    return {
        "transform": transform(clips, device),
        **encoder(torch.cat([crop(torch.from_numpy(clip)) for clip in clips]), device),
    }


def transform(clips, device):
    """Pixels that the device's transform gives otherwise than the CPU's, pictures growing and shrinking."""
    wrong = total = 0
    for clip in clips:
        frames = torch.from_numpy(clip)
        for shown in (frames, frames.repeat_interleave(3, 1).repeat_interleave(3, 2)[:4]):
            for there, here in zip(pictures(shown.to(device), VIEWS), pictures(shown, VIEWS), strict=True):
                differ = there.cpu() != here
                wrong, total = wrong + int(differ.sum()), total + differ.numel()
    return [wrong, total]


def network(crops):
    """A random encoder that is calibrated, and projected, on these frames."""
    model = random_model(0)
    calibrate(model, normalise(crops).split(32))
    weight, bias = fit_pca(Encoder(fold(model)).features(crops).numpy())
    return fold(build_encoder({**model.state_dict(), "classifier.weight": weight, "classifier.bias": bias}))


def encoder(crops, device):
    """Precisions, and what a row depends on."""
    folded, batch_size = network(crops), batches.BATCH
    precisions = dict.fromkeys(["fp32", *favoured(device), *(["fp16"] if device != "cpu" else [])])
    reference = Encoder(folded, "fp32")(crops)[0]
    batch = crops[torch.arange(batch_size) % len(crops)].to(device).contiguous(memory_format=torch.channels_last)
    order = torch.randperm(batch_size, device=device)
    cosine, rows, refused = {}, {}, {}
    for name in precisions:
        here = Encoder(folded, name, device=device)
        cosine[name] = float(centred_cosine(reference, here(crops.to(device))[0].cpu()).min())
        once = here(batch)[0]
        with BatchEncoder(folded, name, ("center",), device) as encoding:
            encoding._pictures[0].copy_(batch)
            graph = encoding.forward()[0].clone()
        rows[name] = {
            "again": _differ(once, here(batch)[0]),
            "in another order": _differ(once[order], here(batch[order])[0]),
            "by a graph": _differ(once.half(), graph),
        }
        refused[name] = len(here.refused)
    with Ring.create(1 << 24) as ring, BatchEncoder(folded, "fp32", ("center",), device, {}, [ring.memory]) as encoding:
        from_rings = encoding.uploads.from_rings
    auto = next(iter(favoured(device)))
    return {"cosine": cosine, "rows": rows, "refused": refused, "from_rings": from_rings, "auto": auto}


def _differ(a, b):
    return int((a != b).any(1).sum())


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[2] == "cpu":  # a rehearsal
        batches.BATCH = 16
    print(json.dumps(measured(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
