"""What every room may use; no torch."""

__version__ = "0.2.0"  # of the project; pyproject.toml and results.json have it from here
