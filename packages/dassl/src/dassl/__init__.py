"""A training engine with the Dassl API: configuration, data, trainers, evaluation."""

__version__ = "0.7.0"
