"""An offline feature cache for human action recognition in video, and a trainer on top of it.

The command line's stages are functions here, by the same names and with the same options:

    import har_cache

    har_cache.extract("data/sample", "data/caches/sample", weights="random")
    run = har_cache.train_head("data/caches/sample", "data/runs/sample", epochs=30)
    print(har_cache.evaluate(run).metrics.top1)

Each is imported on first use: to open a cache takes numpy and h5py alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.caches import download, export_features, extract, import_features, sample, verify
    from .api.clip_dataset import ClipDataset
    from .api.figures import compare, evaluate, report, score
    from .api.runs import finetune, predict, train_head
    from .cache.reader import FeatureCache
    from .errors import HarCacheError, HarCacheWarning
    from .model.head import Head
    from .model.run import Run
    from .prediction.predictor import Predictor

    __version__: str

__all__ = [
    "ClipDataset",
    "FeatureCache",
    "HarCacheError",
    "HarCacheWarning",
    "Head",
    "Predictor",
    "Run",
    "__version__",
    "compare",
    "download",
    "evaluate",
    "export_features",
    "extract",
    "finetune",
    "import_features",
    "predict",
    "report",
    "sample",
    "score",
    "train_head",
    "verify",
]

_HOMES = {
    **dict.fromkeys(("download", "export_features", "extract", "import_features", "sample", "verify"), "api.caches"),
    **dict.fromkeys(("compare", "evaluate", "report", "score"), "api.figures"),
    **dict.fromkeys(("finetune", "predict", "train_head"), "api.runs"),
    "ClipDataset": "api.clip_dataset",
    "FeatureCache": "cache.reader",
    "HarCacheError": "errors",
    "HarCacheWarning": "errors",
    "Head": "model.head",
    "Predictor": "prediction.predictor",
    "Run": "model.run",
}


if not TYPE_CHECKING:  # to whom any name would be there

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("har-cache")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # On first use: neither worker processes nor the command line's --help must pay for what they do not need.
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
