"""Exchanges: the real one behind its client library and the simulated one. They do not know each other."""
