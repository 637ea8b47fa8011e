"""What a model's entry stands for: a published network, a file of weights, or an architecture."""

from collections.abc import Mapping
from typing import Any

from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean
from robsweep.tasks.catalogue import NETS


def arch_of(name: str, body: Mapping[str, Any]) -> Any:
    """What a model's entry in a sweep file calls its architecture."""
    net = body.get("net")
    named = NETS[net].arch if isinstance(net, str) and net in NETS else name
    if "members" in body:
        named = "ensemble"
    return body.get("arch", "onnx" if _is_onnx(body) else named)


def written_out(document: Document, key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
    """A model's entry with what its `net:`, or its `.onnx` file, stands for.

    Raises:
        SpecError: There is no such net, or other weights are named beside it.
    """
    full = {**body, "arch": arch_of(str(key[-1]), body)}
    if body.get("net") is None:
        return full
    name = body["net"]
    if not isinstance(name, str) or name not in NETS:
        found = f"unknown net {name!r}{did_you_mean(str(name), NETS)}"
        raise document.error((*key, "net"), f"{found} (`robsweep list nets` shows all)")
    for other in ("weights", "sha256"):
        if other in body:
            raise document.error((*key, other), f"net {name} has its own `{other}`: leave it out")
    net = NETS[name]
    known = net.parameters if full["arch"] == net.arch else {}
    known = {word: list(v) if isinstance(v, tuple) else v for word, v in known.items()}
    return {**known, **full, "weights": net.file, "sha256": net.sha256}


def _is_onnx(body: Mapping[str, Any]) -> bool:
    return str(body.get("weights", "")).endswith(".onnx")
