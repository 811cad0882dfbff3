"""Loads the module `plain` from the file in the argument, where pydantic, NumPy and Django can't be imported."""

import importlib.util
import sys

sys.modules["pydantic"] = sys.modules["numpy"] = sys.modules["django"] = None

spec = importlib.util.spec_from_file_location("plain", sys.argv[1])
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)
assert plain.amount(object) is object
assert plain.object_id(7) == "7"
assert plain.text("x") == "x"
assert plain.mapping({"a": 1}) == {"a": 1}
