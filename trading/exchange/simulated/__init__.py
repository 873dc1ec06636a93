"""The paper exchange: one venue core with an in-memory face, a durable ledger and a market that walks bars."""
