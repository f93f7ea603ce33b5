"""Write docs/CLI.md and docs/API.md from the code: `python docs/make_reference.py`."""

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

import aecodec
from aecodec import anomalies, arguments, codec, container, denoising, errors, features, image, roi, sampling
from aecodec.cli import app

FOLDER = Path(__file__).parent
WIDTH = 120
NOTE = "*Written by `python docs/make_reference.py`; what it says is in the code.*"
OTHERS = (
    "`doctor` exits with 1 if something is not well; `train`, `curve` and `export` with 1 for what goes wrong and 2 "
    "for wrong usage. What nobody foresaw, a mistake in the program, shows its traceback, and is an error as any in a "
    "batch, which goes on; elsewhere it ends with 1. SIGINT ends a batch with 130, SIGTERM with 143, SIGHUP with 129."
)
USES = {  # of the model as an autoencoder, which a program imports from their modules
    features: ("features", "nearest", "latents"),
    anomalies: ("fit", "heat_map"),
    sampling: ("sample",),
    denoising: ("denoise",),
}
VALUES = {int: "integer", float: "number", str: "text", Path: "path"}


# The command line


def cli() -> str:
    """A section for each command, from the objects that typer parses with."""
    group: Any = typer.main.get_command(app)
    title, codes, when = re.split(": |; ", group.epilog)
    parts = [
        "# The command line",
        NOTE,
        _wrap(f"{group.help} `python -m aecodec` is the same command, and each command has `--help` or `-h`."),
        "\n".join(_options(group)),
    ]
    for name, command in _commands(group):
        parts += [f"## aecodec {name}", _code(command.help), f"```sh\n{_usage(name, command)}\n```"]
        parts += ["\n".join(table) for table in (_arguments(command), _options(command)) if table]
    rows = [f"| {code[:1]} | {code[2:]} |" for code in codes.split(", ")]
    parts += [f"## {title}", "\n".join(["| code | |", "|---|---|", *rows]), _wrap(f"Of several files: {when} {OTHERS}")]
    return "\n\n".join(parts) + "\n"


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and commands, those of groups in it too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _usage(name: str, command: Any) -> str:
    given = [f"{p.opts[-1]} {p.name.upper()}" for p in command.params if p.param_type_name == "option" and p.required]
    names = [_argument(p) for p in command.params if p.param_type_name == "argument"]
    optional = any(p.param_type_name == "option" and not p.required for p in command.params)
    return " ".join(["aecodec", name, *(["[OPTIONS]"] if optional else []), *given, *names])


def _argument(parameter: Any) -> str:
    name: str = parameter.metavar or parameter.name.upper()
    return name.removesuffix("...") + ("..." if parameter.nargs < 0 else "")


def _arguments(command: Any) -> list[str]:
    found = [p for p in command.params if p.param_type_name == "argument"]
    return ["| argument | |", "|---|---|", *(f"| `{_argument(p)}` | {p.help} |" for p in found)] if found else []


def _options(command: Any) -> list[str]:
    hints = get_type_hints(command.callback, include_extras=True)
    rows = []
    for p in command.params:
        if p.param_type_name == "option":
            value = (f"`{p.metavar}`, " if p.metavar else "") + _value(hints.get(p.name, bool))
            default = "required" if p.required else _default(p)
            rows.append(f"| {', '.join(f'`{name}`' for name in p.opts)} | {value} | {default} | {_code(p.help)} |")
    return ["| option | value | default | |", "|---|---|---|---|", *rows] if rows else []


def _value(hint: Any) -> str:
    """In words, what an option takes: nothing for a flag."""
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else [hint]
    if NoneType in get_args(kind):
        kind = get_args(kind)[0]
    if get_origin(kind) is list:
        return f"{VALUES[get_args(kind)[0]]}, repeatable"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if kind is bool:
        return ""
    limits = (("from", extras[0].min), ("to", extras[0].max))
    return " ".join([VALUES[kind], *(f"{word} {limit:.12g}" for word, limit in limits if limit is not None)])


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return str(parameter.show_default)
    return "" if parameter.default is None or parameter.is_flag else f"`{parameter.default}`"


# The library


def api() -> str:
    """Functions, the codec, the errors and the types of their signatures."""
    public = {name: getattr(aecodec, name) for name in aecodec.__all__}
    functions = {name: found for name, found in public.items() if inspect.isfunction(found)}
    methods = {name: found for name, found in vars(codec.Codec).items() if inspect.isfunction(found) and name[0] != "_"}
    parts = ["# The library", NOTE, *_prose(aecodec), "## Functions"]
    shared = ", ".join(f"`aecodec.{name}`" for name, found in public.items() if inspect.ismethod(found))
    parts.append(_wrap(f"{shared}: the methods of a `Codec` of the default weights, which is made on first use."))
    for name, function in functions.items():
        parts += [f"### {name}", _signature(f"aecodec.{name}", function), *_prose(function)]
    parts += ["## Codec", _signature("aecodec.Codec", codec.Codec.__init__), *_prose(codec.Codec)]
    for name, method in methods.items():
        parts += [f"### Codec.{name}", _signature(f"Codec.{name}", method), *_prose(method)]
    parts.append("## The model as an autoencoder")
    for module, chosen in USES.items():
        parts += _prose(module)
        for name in chosen:
            path, function = f"{module.__name__}.{name}", getattr(module, name)
            parts += [f"### {path.removeprefix('aecodec.')}", _signature(path, function), *_prose(function)]
    scores = anomalies.Detector.scores
    parts += ["### anomalies.Detector", *_prose(anomalies.Detector), _signature("Detector.scores", scores)]
    parts += _prose(scores)
    shown = "\n".join(parts)
    return "\n\n".join([*parts, "## Types", *_types(shown), "## Errors and warnings", *_prose(errors)]) + "\n"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """With the annotations as the source has them and the values of the defaults."""
    node: Any = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    annotations = {a.arg: _annotation(a.annotation) for a in [*node.args.args, *node.args.kwonlyargs] if a.annotation}
    words: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        default = parameter.default
        value = json.dumps(default) if isinstance(default, str) else repr(default)
        words.append(f"{parameter.name}: {annotations[parameter.name]}")
        words[-1] += "" if default is parameter.empty else f" = {value}"
    result = "" if function.__name__ == "__init__" else f" -> {_annotation(node.returns)}"
    text = f"{name}({', '.join(words)}){result}"
    if len(text) > WIDTH:
        text = "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){result}"])
    return f"```python\n{text}\n```"


def _annotation(node: Any) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _types(text: str) -> list[str]:
    """The definitions of the names of ours in the signatures, and in these definitions."""
    lines, classes = {}, {}
    modules, wanted = (arguments, container, roi, image, features), re.findall(r"(?:[:>\[|]) ?([A-Z]\w+)", text)
    for name in wanted:
        module = next((m for m in modules if re.search(rf"^{name} = ", inspect.getsource(m), re.M)), None)
        if module and name not in lines:
            lines[name] = re.findall(rf"^{name} = .*$", inspect.getsource(module), re.M)[0]
            wanted += re.findall(r"\w+", lines[name])
        elif dataclasses.is_dataclass(found := getattr(container, name, None)):
            fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(found))
            text = " ".join((inspect.getdoc(found) or "").split())
            classes[name] = _wrap(_code(f"`{name}`: {text} Its fields: {fields}."))
    return ["```python\n" + "\n".join(lines.values()) + "\n```", *classes.values()]


# Docstrings


def _prose(thing: Any) -> list[str]:
    """The paragraphs of a docstring: arguments and errors as lists, examples as code."""
    return [_paragraph(text) for text in re.split(r"\n\n+", inspect.getdoc(thing) or "")]


def _paragraph(text: str) -> str:
    if text.startswith(">>>"):
        return f"```python\n{text}\n```"
    if found := re.match(r"(\w+):\n    ", text):
        title, items = found[1], re.findall(r"^    (\S[^:]*): (.*(?:\n {8}.*)*)", text, re.M)
        rows = (f"{', '.join(f'`{name}`' for name in names.split(', '))}: {_code(body)}" for names, body in items)
        lines = [_wrap(" ".join(row.split()), "- ") for row in rows]
        return "\n".join([f"{'Arguments' if title == 'Args' else title}:", "", *lines])
    return _code(text) if text.startswith("*") else _wrap(_code(" ".join(text.split())))


def _code(text: str) -> str:
    return text.replace("``", "`")


def _wrap(text: str, bullet: str = "") -> str:
    indent = " " * len(bullet)
    return textwrap.fill(text, WIDTH, initial_indent=bullet, subsequent_indent=indent, break_on_hyphens=False)


if __name__ == "__main__":
    (FOLDER / "CLI.md").write_text(cli(), "utf-8")
    (FOLDER / "API.md").write_text(api(), "utf-8")
