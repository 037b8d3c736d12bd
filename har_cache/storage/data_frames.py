"""Tables for pandas, which is no dependency: where it is installed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import HarCacheError

if TYPE_CHECKING:
    import pandas


def data_frame(columns: Mapping[str, Any]) -> "pandas.DataFrame":
    """A table of these columns, by name. Raises HarCacheError where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise HarCacheError("to_pandas() needs pandas: pip install pandas (to_dict() does not)") from error
    return pandas.DataFrame(dict(columns))
