"""The cases, a file per group of APIs.

    @case("ListOffsets")                      at every version of the API
    def latest(b): b.ask(...)

    @case("CreateTopics", since=5, each={"empty": "", "a dot": "."})
    def illegal_name(b, name): b.ask(...)     two cases: "illegal_name: empty", "illegal_name: a dot"
"""

import importlib
import pkgutil
from typing import Callable, NamedTuple

NO_VALUE = object()


class Case(NamedTuple):
    """One function at all of its versions, with one of its values."""
    api: str
    name: str
    since: int
    until: int
    run: Callable
    value: object

    def __call__(self, bench):
        self.run(bench) if self.value is NO_VALUE else self.run(bench, self.value)

    def versions(self, apis):
        if self.api not in apis:  # "Connection"
            return range(1)
        api = apis[self.api]
        return range(max(self.since, api.low), min(self.until, api.high) + 1)


CASES = []


def case(api, since=0, until=999, each=None):
    """Registers the function below it."""
    def register(function):
        name = function.__name__.strip("_")
        values = {name: NO_VALUE} if each is None else {f"{name}: {label}": value for label, value in each.items()}
        CASES.extend(Case(api, label, since, until, function, value) for label, value in values.items())
        return function
    return register


def load():
    """All cases, in the order of files and of lines."""
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"cases.{module}")
    return CASES
