"""`har-cache export-features`."""

from har_cache.settings.exchange import ExportFeaturesSettings

from .console import Bar, plural, print_json, say
from .options import Json


def export_features(settings: ExportFeaturesSettings, as_json: Json = False) -> None:
    """Write the features of a cache for other tools: with labels, sources, splits, and the time of each frame.

    npy: a file a clip and clips.csv; parquet: a row a clip; webdataset: tar files; datasets: Parquet with a card, for
    datasets.load_dataset. Run it again to go on after an interruption.
    """
    from har_cache.exchange.export_features import export_features as export

    exported = export(settings, Bar())
    if as_json:
        print_json(exported)
    clips = plural(exported.clips, "clip")
    say(f"{exported.to}: {clips} as {exported.format}, {exported.written} of them written now")
