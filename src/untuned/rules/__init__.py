"""The rules, one paper a file."""

from untuned.rules.adagrad import AdaGrad
from untuned.rules.adam import Adam
from untuned.rules.agd import AGD
from untuned.rules.auto import Auto
from untuned.rules.nero import FreeNero, Nero
from untuned.rules.rmsprop import RMSProp
from untuned.rules.sgd import SGD

__all__ = ["AGD", "SGD", "AdaGrad", "Adam", "Auto", "FreeNero", "Nero", "RMSProp"]
