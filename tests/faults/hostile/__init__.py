"""Files made to do harm, tried one after another."""

from .trials import hostile

__all__ = ["hostile"]
