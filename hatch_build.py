"""Build hook: compiles `protos/askonce/v1/*.proto` to Python beside the sources.

The wheel and editable installs pick the result up there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProtos(BuildHookInterface):  # type: ignore[type-arg]
    """Runs protoc with the gRPC and mypy plugins.

    Include root and import root are both `protos/`, so the generated imports need no rewriting.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compile_protos(Path(self.root) / "protos")


def compile_protos(root: Path) -> None:
    """Compiles every proto under `root`/askonce. Raises RuntimeError when protoc refuses one."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    sources = sorted(str(path.relative_to(root)) for path in root.glob("askonce/**/*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={root}",
            f"--proto_path={well_known}",
            *(f"--proto_path={path}" for path in googleapis()),
            f"--python_out={root}",
            f"--grpc_python_out={root}",
            f"--mypy_out=quiet:{root}",
            f"--mypy_grpc_out=quiet:{root}",
            *sources,
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status}")


def googleapis() -> list[str]:
    """Folders that hold the protos of `google/rpc` and its siblings, when the wheel with them is installed."""
    import importlib.util

    spec = importlib.util.find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        return []
    return [str(Path(next(iter(spec.submodule_search_locations))).parent.parent)]


if __name__ == "__main__":
    compile_protos(Path(__file__).parent / "protos")
