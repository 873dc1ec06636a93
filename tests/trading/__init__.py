"""The trading core under test: arithmetic as properties, the venue by hand, recovery by killing it."""
