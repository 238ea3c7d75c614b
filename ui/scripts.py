"""The small scripts of the panels, read from the files beside this one."""

from importlib.resources import files


def script(name: str) -> str:
    """The source of one script, for `js_on_load`."""
    return (files("ui") / name).read_text(encoding="utf-8")
