"""Errors meant for the user: each message says what is wrong, where, and what to do about it."""


class HarCacheError(Exception):
    """Anything the user can act on. The command line prints it as one line and exits with 1."""


class DataError(HarCacheError):
    """The data set on disk, or its split lists, cannot be used as they are."""


class ClipError(HarCacheError):
    """One clip cannot be decoded. Its message is the reason written to failures.csv."""


class WeightsError(HarCacheError):
    """Encoder weights cannot be had, or do not fit."""


class CacheError(HarCacheError):
    """A cache directory is unusable: incomplete, damaged, or made with another recipe."""


class DownloadError(HarCacheError):
    """A data set cannot be fetched, or what came is not what it should be."""
