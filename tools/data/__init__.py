"""`python -m tools.data`: is the data there, is it whole, and how to get it."""
