"""The wire face by itself: windows, signatures, limits, pages, books; and a server on a small market of its own."""
