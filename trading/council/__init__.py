"""The council: it may veto a proposal or shrink it, and nothing else.

    guards      what code refuses before and after the council, models or not
    packet      what the agents see: numbers and enums, built by code from closed bars and the account
    schemas     what the agents may answer
    twins       each agent as rules in code: the keyless default and the control arm
    aggregate   three answers become one verdict
    rules       the councils that need no model: `RulesCouncil`, `NoCouncil`

Everything here is pure: the same brief gives the same packet to the byte and the same verdict.
"""
