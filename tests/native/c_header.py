"""Where the fields of C structures lie, from the text of a header: enough of C for XLA's `c_api.h`."""

import re

SIZES = {"size_t": 8, "int64_t": 8, "int32_t": 4, "uint32_t": 4, "int": 4}


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", re.sub(r"//[^\n]*", "", text), flags=re.S)


def enumerators(text: str) -> dict[str, int]:
    """The values of all enumerators that are given a decimal number."""
    return {name: int(value) for name, value in re.findall(r"(\w+) = (\d+),?\s", without_comments(text))}


def structures(text: str) -> dict[str, dict[str, int]]:
    """For each structure, the offset of each field, and its size without the padding at its end under "sizeof"."""
    text = without_comments(text)
    sizes = SIZES | {name: 4 for name in re.findall(r"typedef enum \{[^}]*\} (\w+);", text)}
    for alias, base in re.findall(r"typedef (\w+) (\w+);", text):
        if alias in sizes:
            sizes[base] = sizes[alias]
    found: dict[str, dict[str, int]] = {}
    for name, body in re.findall(r"struct (\w+) \{(.*?)\n\}", text, flags=re.S):
        offsets, end = {}, 0
        for declaration in body.split(";"):
            declaration = " ".join(declaration.split())
            if not declaration:
                continue
            if declaration.startswith("_XLA_FFI_API_STRUCT_FIELD"):
                field, size, alignment = declaration.split("(")[1].rstrip(")"), 8, 8
            elif "(*" in declaration:
                field, size, alignment = re.search(r"\(\*(\w+)\)", declaration)[1], 8, 8
            else:
                *kind, field = declaration.replace("*", " * ").split()
                kind = [word for word in kind if word not in ("const", "struct")]
                if "*" in kind:
                    size = alignment = 8
                elif kind[0] in found:
                    size, alignment = -(-found[kind[0]]["sizeof"] // 8) * 8, 8
                else:
                    size = alignment = sizes[kind[0]]
            end = -(-end // alignment) * alignment
            offsets[field] = end
            end += size
        found[name] = offsets | {"sizeof": end}
    return found
