"""What every room may use. Needs nothing but the standard library."""
