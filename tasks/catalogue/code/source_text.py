"""Python source as text: what it says without comments and docstrings, and what it imports."""

import ast
import codecs
import io
import tokenize
from collections.abc import Iterator
from functools import lru_cache

_CACHED = 512  # modules


@lru_cache(maxsize=_CACHED)
def canonical(content: bytes) -> bytes:
    """A module's source without comments, docstrings, and blank lines behind docstrings.

    A file without comments and docstrings comes back byte for byte, as does one that is no Python.
    Lines that hold nothing but a comment go as a whole; other blank lines stay. The result need not
    be valid Python: two files have the same one only if they do the same.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        lines = list(io.StringIO(content.decode(encoding), newline=""))
        comments = [t.start for t in _tokens(lines) if t.type == tokenize.COMMENT]
        docstrings = list(_docstrings(ast.parse(content), lines))
    except (SyntaxError, ValueError, LookupError, tokenize.TokenError):
        return content
    if not comments and not docstrings:
        return content
    kept: list[str | None] = [*lines]
    for row, column in comments:
        line = lines[row - 1]
        before = line[:column].rstrip()
        kept[row - 1] = before + line[len(line.rstrip("\r\n")) :] if before else None
    for first, last in docstrings:
        for row in range(first, last + 1):
            kept[row - 1] = None
        for row in range(last, len(lines)):
            if (kept[row] or "").strip():
                break
            kept[row] = None
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    return mark + "".join(line for line in kept if line is not None).encode()


@lru_cache(maxsize=_CACHED)
def imports_of(content: bytes) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Every import in a module, also inside functions: (dots, module, names), as in

    `from ..module import names`. Calls of `import_module` with a literal name count too.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return ()
    return tuple(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((0, alias.name, ()) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield level, module or "", tuple(alias.name for alias in names)
            case ast.Call(
                func=ast.Name(id=called) | ast.Attribute(attr=called),
                args=[ast.Constant(value=str(name)), *_],
            ) if called in {"import_module", "__import__"}:
                module = name.lstrip(".")
                yield len(name) - len(module), module, ()


def _tokens(lines: list[str]) -> Iterator[tokenize.TokenInfo]:
    following = iter(lines)
    return tokenize.generate_tokens(lambda: next(following, ""))


def _docstrings(tree: ast.Module, lines: list[str]) -> Iterator[tuple[int, int]]:
    """First and last line of each docstring that has its lines for itself."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str())) as statement, *_]:
                first, last = statement.lineno, statement.end_lineno or statement.lineno
                before = lines[first - 1].encode()[: statement.col_offset]
                behind = lines[last - 1].encode()[statement.end_col_offset :].strip()
                if not before.strip() and (not behind or behind.startswith(b"#")):
                    yield first, last
