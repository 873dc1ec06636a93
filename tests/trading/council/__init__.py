"""The council's rules: packets, twins, aggregation, guards."""
