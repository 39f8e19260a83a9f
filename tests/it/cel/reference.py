"""Evaluates expressions with cel-python: a line of JSON {"expression", "body", "headers"} in, a line out: the
value as the server writes it, or {"error": what}."""

import json
import sys

import celpy
from celpy import celtypes


def plain(value):
    """The value as JSON has it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, celtypes.BoolType):
        return bool(value)
    if isinstance(value, (celtypes.IntType, celtypes.UintType)):
        return int(value)
    if isinstance(value, celtypes.DoubleType):
        return float(value)
    if isinstance(value, (celtypes.StringType, str)):
        return str(value)
    if isinstance(value, (celtypes.ListType, list)):
        return [plain(item) for item in value]
    if isinstance(value, (celtypes.MapType, dict)):
        return {str(key): plain(item) for key, item in value.items()}
    raise TypeError(type(value).__name__)


def text(value):
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def evaluate(case, environment):
    program = environment.program(environment.compile(case["expression"]))
    variables = {"body": celpy.json_to_cel(case["body"]), "headers": celpy.json_to_cel(case["headers"])}
    value = plain(program.evaluate(variables))
    return {"value": text(value)}


def main():
    environment = celpy.Environment()
    for line in sys.stdin:
        try:
            answer = evaluate(json.loads(line), environment)
        except Exception as error:  # Its messages may fail in other ways than its evaluation.
            answer = {"error": f"{type(error).__name__}: {error.args[:1]}"[:600]}
        print(json.dumps(answer), flush=True)


main()
