"""The memory: codec, database, journal, queues and locks."""
