"""Journeys: the program as its user meets it, through its command line, its files and its chat alone."""
