"""`har-cache ablate`."""

from har_cache.settings.evaluation import AblateSettings
from har_cache.texts import printable_values as shown

from .console import Bar, echo, print_json
from .options import Json


def ablate(settings: AblateSettings, as_json: Json = False) -> None:
    """Say what a run makes of its test list without order, without a branch, with fewer frames; nothing is trained.

    A run of several splits is ablated on the test list of each.
    """
    from har_cache.comparison.ablate import ablate as ablate_run
    from har_cache.comparison.summary import ablation_tables
    from har_cache.comparison.tables import render

    ablations = ablate_run(settings, Bar())
    if as_json:
        print_json({"runs": ablations} if len(ablations) > 1 else ablations[0])
    else:
        echo(render(shown([table for ablation in ablations for table in ablation_tables(ablation)]), settings.format))
