"""Where plugins find `ops`. Models of their own they bring themselves."""
