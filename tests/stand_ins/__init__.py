"""Stand-ins: what stands between the program and the world in a test, or in the world's place."""
