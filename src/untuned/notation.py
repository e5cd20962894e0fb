"""Rules and towers written as text: `agd`, `agd(gain=2)`, `adam.tuning('lr') / sgd(lr=1e-5)`."""

import ast

from untuned import rules
from untuned.errors import UnknownRuleError
from untuned.rule import Rule
from untuned.tower import Floor, Tower

NAMED: dict[str, type[Rule]] = {name.lower(): getattr(rules, name) for name in rules.__all__}
METHODS = ("tuning", "per_tensor", "as_published")


def tower_of(rule: Rule | Floor | Tower | str) -> Tower:
    """The tower itself, that of a lone rule, or the one that a text stands for.

    Raises `UnknownRuleError`, or what the rule raises for its hyperparameters.
    """
    if isinstance(rule, str):
        rule = parse(rule)
    if isinstance(rule, Rule | Floor):
        rule = Tower((rule if isinstance(rule, Floor) else Floor(rule),))
    if not isinstance(rule, Tower):
        raise UnknownRuleError(f"rule={rule!r}: give a rule such as AGD(), or its text, 'agd'")
    top = rule.floors[-1]
    if top.names is not None or top.own:
        raise UnknownRuleError(
            f"rule={str(rule)!r}: nothing stands above {top} to tune it; put a rule there, such "
            "as / SGD(lr=1e-5)"
        )
    return rule


def parse(text: str) -> Rule | Floor | Tower:
    """Parse a text of rules and numbers; nothing is executed."""
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise UnknownRuleError(
            f"rule={text!r} cannot be read; write 'agd(gain=1)' or 'adam / sgd(lr=1e-5)'"
        ) from error
    return _read(expression, text)


def _read(expression: ast.expr, text: str) -> Rule | Floor | Tower:
    """A quotient, a method called on a rule, a call of a rule, or its name."""
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Div):
        return _read(expression.left, text) / _read(expression.right, text)
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute):
        return _method(expression, expression.func, text)
    return _rule(expression, text)


def _method(call: ast.Call, method: ast.Attribute, text: str) -> Rule | Floor | Tower:
    """Such as `adam.tuning('lr')`."""
    owner = _read(method.value, text)
    if method.attr not in METHODS or not hasattr(owner, method.attr) or call.keywords:
        known = ", ".join(METHODS)
        raise UnknownRuleError(f"rule={text!r}: .{method.attr}(...) is unknown; there are: {known}")
    names = [value.value for value in call.args if isinstance(value, ast.Constant)]
    if len(names) < len(call.args) or not all(isinstance(name, str) for name in names):
        raise UnknownRuleError(f"rule={text!r}: .{method.attr}(...) takes names such as 'lr'")
    if method.attr == "as_published" and names:
        raise UnknownRuleError(f"rule={text!r}: .as_published() takes nothing")
    return getattr(owner, method.attr)(*names)  # type: ignore[no-any-return]


def _rule(expression: ast.expr, text: str) -> Rule:
    """Such as `sgd` or `sgd(lr=0.1)`."""
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
    return NAMED[name.id.lower()].build(*values, **named)
