"""`har-cache bench`."""

from typing import TYPE_CHECKING

from har_cache.settings.tools import BenchSettings
from har_cache.system import uninterrupted

from .console import Bar, echo, print_json
from .options import Json

if TYPE_CHECKING:
    from har_cache.bench.bench import Figure, Result

_QUIET = 0.1


def bench(settings: BenchSettings, as_json: Json = False) -> None:
    """Measure this machine: each part of the pipeline beside its limit. Leave the machine alone meanwhile."""
    with uninterrupted():
        from har_cache.bench.bench import bench as measure

    result = measure(settings, Bar())
    if as_json:
        print_json(result)
    else:
        echo(_text(result))


def _text(result: "Result") -> str:
    machine = result.machine
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB"
        + (f", {machine['gpu']}" if machine["gpu"] else "")
        + f"; {result.workers} workers, device {result.device}, precision {result.precision}",
        "",
        f"{'part':<20} {'speed':>18} {'spread':>7} {'limit':>10} {'ratio':>6}  the limit is",
        *(_line(figure) for figure in result.figures),
        "",
        f"Stage one is bound by: {result.bound_by}",
    ]
    if times := result.faster_than_baseline:
        lines.append(f"Against the naive baseline: {times:.1f} times as fast")
    lines += [f"HMDB51, {what}: {hours:.2f} h" for what, hours in result.hours_for_hmdb51.items()]
    return "\n".join([*lines, *_unquiet(result)])


def _unquiet(result: "Result") -> list[str]:
    """A remark where the machine was not quiet: matrix products always do the same, so what they vary by is its own."""
    products = next(figure for figure in result.figures if figure.part == "encode fp32")
    spread = products.limit_spread or 0.0
    remark = f"plain matrix products varied by {spread:.0%} from run to run, and so may all else"
    return [f"This machine is not quiet: {remark}"] if spread > _QUIET else []


def _line(figure: "Figure") -> str:
    speed = f"{figure.median:,.0f} {figure.unit}" if figure.median >= 10 else f"{figure.median:.2f} {figure.unit}"
    limit = f"{figure.limit:,.0f}" if figure.limit else ""
    ratio = f"{figure.ratio:.2f}" if figure.ratio else ""
    return (
        f"{figure.part:<20} {speed:>18} {figure.spread:>6.0%} {limit:>10} {ratio:>6}  {figure.limit_is or ''}".rstrip()
    )
