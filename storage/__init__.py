"""The memory: one database file, its journal, and everything that is drawn from the journal."""
