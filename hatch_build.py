"""Build hook: compiles `protos/askonce/v1/*.proto` to Python in `askonce/v1/`.

The wheel and editable installs pick the result up there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProtos(BuildHookInterface):  # type: ignore[type-arg]
    """Runs protoc with the gRPC and mypy plugins.

    Protos are named from `protos/`, modules are imported from the root: the same paths below both, so that the
    generated imports need no rewriting.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compile_protos(Path(self.root))


def compile_protos(root: Path) -> None:
    """Compiles every proto under `root`/protos. Raises RuntimeError when protoc refuses one."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    protos = root / "protos"
    sources = sorted(str(path.relative_to(protos)) for path in protos.glob("askonce/**/*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={protos}",
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
    """Folders that hold the protos of `google/rpc` and its siblings, when the wheel with them is installed.

    The wheel ships long-running operations under a name that is not the canonical one and that generated code could not
    import; a copy under the right name comes first.
    """
    import importlib.util

    spec = importlib.util.find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        return []
    shipped = Path(next(iter(spec.submodule_search_locations))).parent.parent
    renamed = Path(__file__).resolve().parent / "build" / "googleapis"
    canonical = renamed / "google" / "longrunning" / "operations.proto"
    canonical.parent.mkdir(parents=True, exist_ok=True)
    canonical.write_bytes((shipped / "google" / "longrunning" / "operations_proto.proto").read_bytes())
    return [str(renamed), str(shipped)]


if __name__ == "__main__":
    compile_protos(Path(__file__).parent)
