"""The domain: what a trade is, who may decide it and how it is executed. Imports nothing above it."""
