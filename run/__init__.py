"""One run: its config, the plugins it may use, and the record it leaves."""
