"""Weights of local models in the data folder: fetched, verified, licensed, listed, removed."""

from router.weights.licences import Licence
from router.weights.naming import installed_folder
from router.weights.shelf import Weights
from router.weights.values import Inspect, Installed, Origin, Pull, PullProgress, Tell, WeightFile

__all__ = [
    "Inspect",
    "Installed",
    "Licence",
    "Origin",
    "Pull",
    "PullProgress",
    "Tell",
    "WeightFile",
    "Weights",
    "installed_folder",
]
