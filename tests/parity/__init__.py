"""The independent check: `spec/strategy.md` written a second time, plainly, and the program held to it."""
