"""How many faults of each kind are tried."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Numbers of trials."""

    damages: int  # flipped bits, files cut, emptied, gone
    hostile: int  # files made to do harm
    steps: int  # commands that fail at a named step of a commit
    kills: int  # commands killed at random moments
    races: int  # two commands at once, or a reader beside one
    limits: int  # commands that lack disk, files, memory, rights
    fuzz: int  # clips


SHORT = Plan(damages=80, hostile=40, steps=6, kills=12, races=4, limits=4, fuzz=60)
LONG = Plan(damages=1200, hostile=400, steps=90, kills=200, races=102, limits=40, fuzz=2000)
