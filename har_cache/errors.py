"""Errors meant for the user: each message says what is wrong, where, and what to do about it."""


class HarCacheError(Exception):
    """Anything the user can act on. The command line prints it as one line and exits with 1."""


class HarCacheWarning(UserWarning):
    """What the user should know of a result, as that it leaks. For `warnings`; the command line prints it as a line."""


class SettingError(HarCacheError):
    """An option has a value that makes no sense. The command line exits with 2, as for other wrong usage."""


class FileError(HarCacheError):
    """A file or a directory cannot be read or written, or a sealed file is damaged."""


class DataError(HarCacheError):
    """The data set on disk, or its split lists, cannot be used as they are."""


class ClipError(HarCacheError):
    """One clip cannot be decoded. Its message is the reason written to failures.csv."""


class WeightsError(HarCacheError):
    """Encoder weights cannot be had, or do not fit."""


class CacheError(HarCacheError):
    """A cache directory is unusable: incomplete, damaged, or made with another recipe."""


class RunError(HarCacheError):
    """A run directory is unusable: not there, unfinished, damaged, or in the way."""


class DownloadError(HarCacheError):
    """A data set cannot be fetched, or what came is not what it should be."""
