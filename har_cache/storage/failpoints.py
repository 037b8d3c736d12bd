"""Named steps at which a trial can have this process fail, as a kill or a full disk would: nothing without the
variable `HAR_CACHE_FAILPOINT`, `<pattern>[@<n>]=<signal or error>`. `renamed:0000?.json@2=SIGKILL` kills the process at
the second step that the pattern fits; the name of an error, `written:*=ENOSPC`, has the step raise OSError.

Steps of a file that is put in its place: `opened`, `written`, `synced`, `renamed`, each followed by `:` and its name.
"""

import errno
import fnmatch
import os
import re
import signal

VARIABLE = "HAR_CACHE_FAILPOINT"
_SPELLING = re.compile(r"(?P<pattern>.+?)(@(?P<number>[0-9]+))?=(?P<action>[A-Z0-9]+)")

_seen: dict[str, int] = {}  # of this process: how often each pattern has fitted


def failpoint(step: str) -> None:
    """Fail here, where the variable says so. Raises OSError; ValueError for a variable that makes no sense."""
    if asked := os.environ.get(VARIABLE):
        _fail(step, asked)


def _fail(step: str, asked: str) -> None:
    match = _SPELLING.fullmatch(asked)
    if not match:
        raise ValueError(f"{VARIABLE}={asked}: expected <pattern>[@<n>]=<signal or error>")
    if not fnmatch.fnmatchcase(step, match["pattern"]):
        return
    _seen[asked] = _seen.get(asked, 0) + 1
    if _seen[asked] != int(match["number"] or 1):
        return
    action = match["action"]
    if action in signal.Signals.__members__:
        os.kill(os.getpid(), signal.Signals[action])
        return
    code = getattr(errno, action)
    raise OSError(code, os.strerror(code))
