"""docs/python.md, block after block."""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs_from_top_to_bottom(monkeypatch, capsys):
    # about 15 s: three evaluations and a sweep with a verifier
    monkeypatch.setattr(sys, "path", list(sys.path))
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) > 12
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, f"docs/python.md: {block[:40]}", "exec"), names)
    out = capsys.readouterr().out
    assert "did you mean 'hidden'" in out
    assert "clean_accuracy" in out
    for line in re.findall(r"# (sweep: .*)$", PAGE.read_text(), flags=re.MULTILINE):
        assert line in out
