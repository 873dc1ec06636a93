"""The paper exchange's wire face, checked from outside with the clients as their authors ship them: pybit and ccxt."""
