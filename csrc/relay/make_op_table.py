"""Writes attrs_table.inc and op_table.inc from a dump of an operator registry of TVM 0.19.

Run once per registry: ``python csrc/relay/make_op_table.py relay_ops.json``. The dump has a list ``ops`` (name,
args, attrs_type, attrs_type_built, pattern) and a dict ``attrs`` (the fields of each class).
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
KINDS = {
    "int": "kInt",
    "int32_t": "kInt",
    "int64_t": "kInt",
    "uint64_t": "kInt",
    "Integer": "kIntImm",
    "IntImm": "kIntImm",
    "IndexExpr": "kIntImm",
    "Optional<Integer>": "kIntImm",
    "bool": "kBool",
    "Bool": "kBoolImm",
    "double": "kDouble",
    "Optional<FloatImm>": "kFloatImm",
    "std::string": "kStdString",
    "String": "kString",
    "DataType": "kDataType",
    "Array<IndexExpr>": "kIntArray",
    "Array<Integer>": "kIntArray",
    "Array<PrimExpr>": "kIntArray",
    "Optional<Array<Integer>>": "kIntArray",
    "Array<FloatImm>": "kFloatArray",
    "Array<Array<IndexExpr>>": "kIntArrays",
    "Array<Array<Integer>>": "kIntArrays",
    "Variant<Integer,Array<Integer>>": "kIntOrIntArray",
    "Expr": "kExpr",
    "Constant": "kExpr",
}
# IndexExpr fields of vision operators that hold floats, as their declared defaults show.
FLOAT_FIELDS = {"sizes", "ratios", "steps", "offsets", "variances", "scales"}


def field(entry: dict) -> str:
    """Return the C++ initialiser of one attribute."""
    kind = KINDS.get(entry["type"], "kObject")
    default = entry.get("default")
    if kind == "kIntArray" and entry["name"] in FLOAT_FIELDS:
        kind = "kFloatArray"
    if kind == "kBool" and default is not None:
        default = bool(default)
    if kind == "kDataType" and default == "float32, 1":
        default = "float32"
    if isinstance(default, dict):  # a C++ expression; only compiler-internal operators have one
        default = None
    text = "nullptr" if not entry["has_default"] else json.dumps(json.dumps(default))
    return f'{{"{entry["name"]}", {kind}, {text}}}'


def wrap(head: str, items: list[str], tail: str) -> str:
    """Lay out a macro call within 100 columns."""
    lines, line = [], head
    for index, item in enumerate(items):
        piece = item + (tail if index == len(items) - 1 else ",")
        if line != head and len(line) + 1 + len(piece) > 99:
            lines.append(line)
            line = "     " + piece
        else:
            line += ("" if line.endswith("{") else " ") + piece
    return "\n".join([*lines, line]) if items else head + tail


def main(path: str) -> None:
    """Write both tables beside this script."""
    data = json.loads(pathlib.Path(path).read_text())
    classes = {key: value["fields"] for key, value in data["attrs"].items()}
    rows = []
    used = set()
    for op in data["ops"]:
        built = op.get("attrs_type_built") or op["attrs_type"] or ""
        if built == "DictAttrs":
            classes[built] = []
        elif built and not op.get("attrs_type_built") and classes[built] != op["attrs"]:
            built = op["name"]  # two C++ classes share a key: this operator gets a row of its own
            classes[built] = op["attrs"]
        if built:
            used.add(built)
        registered = "false" if op.get("attrs_type_built") else "true"
        args = " ".join(op["args"])
        pattern = op["pattern"] or "kNoPattern"
        items = [f'"{op["name"]}"', str(op["num_inputs"]), f'"{args}"', f'"{built}"', registered]
        rows.append(wrap("OP(", [*items, pattern], ")").replace("( ", "("))
    note = "// Made by make_op_table.py. clang-format off\n"
    attrs = [wrap(f'ATTRS("{key}", {{', [field(f) for f in classes[key]], "})") for key in sorted(used)]
    (HERE / "attrs_table.inc").write_text(note + "\n".join(attrs) + "\n")
    (HERE / "op_table.inc").write_text(note + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
