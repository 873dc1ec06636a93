"""The council: it may veto a proposal or shrink it, and nothing else.

    guards      what code refuses before and after the council, models or not
    packet      what the agents see: numbers and enums, built by code from closed bars and the account
    schemas     what the agents may answer
    twins       each agent as rules in code: the keyless default and the control arm
    aggregate   three answers become one verdict
    rules       the councils that need no model: `RulesCouncil`, `NoCouncil`
    prompting   the questions to the models: files in `prompts/` that never change once released
    reading     a model's text becomes an answer, or a list of what is wrong with it
    questions   what is asked of whom, and what came of it: the contract with `trading.llm`
    mirror      a market upside down must turn every vote around
    models      the council of three models: `ModelCouncil`

All but the last is pure: the same brief gives the same packet to the byte and the same verdict.
"""

from typing import Final

MODES: Final = ("rules", "strict", "degraded", "shadow", "off")
"""Who decides: `rules` the twins in code, `strict` the models or nobody, `degraded` the models with a twin for a
missing voter at half size, `shadow` the rules while the models are recorded, `off` nobody: the strategy alone."""
MODEL_MODES: Final = frozenset({"strict", "degraded", "shadow"})
