"""Rules written as text: `agd`, `agd(gain=2)`."""

from __future__ import annotations

import ast

from untuned import rules
from untuned.errors import UnknownRuleError
from untuned.rule import Rule

NAMED = {name.lower(): getattr(rules, name) for name in rules.__all__}


def rule_of(rule: Rule | str) -> Rule:
    """The rule itself, or the one that a text stands for.

    Raises `UnknownRuleError`, or what the rule raises for its hyperparameters.
    """
    if isinstance(rule, str):
        return parse(rule)
    if isinstance(rule, Rule):
        return rule
    raise UnknownRuleError(f"rule={rule!r}: give a rule such as AGD(), or its text, 'agd'")


def parse(text: str) -> Rule:
    """The rule that a text stands for; numbers only, nothing is executed."""
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise UnknownRuleError(f"rule={text!r} cannot be read; write 'agd(gain=1)'") from error
    call = expression if isinstance(expression, ast.Call) else None
    name = call.func if call else expression
    if not isinstance(name, ast.Name) or name.id.lower() not in NAMED:
        raise UnknownRuleError(f"rule={text!r} is unknown; there are: {', '.join(NAMED)}")
    keywords = call.keywords if call else []
    if len({keyword.arg for keyword in keywords}) < len(keywords):
        raise UnknownRuleError(f"rule={text!r} gives a hyperparameter twice")
    try:
        values = [ast.literal_eval(value) for value in (call.args if call else [])]
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
    except (ValueError, TypeError) as error:
        raise UnknownRuleError(f"rule={text!r}: hyperparameters are numbers") from error
    return NAMED[name.id.lower()].build(*values, **named)  # type: ignore[no-any-return]
