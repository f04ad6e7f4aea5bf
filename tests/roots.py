"""What tests of whole runs compare and start: the bytes of a root, and commands as a user gives them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMMAND = (sys.executable, "-c", "from marco_data.cli import main; main()")


def digests(root: str | Path) -> dict[str, str]:
    """{relative path: SHA-256} of everything in a root but `runs/`, which is no result."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(root).rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] != "runs"
    }


def unreferenced(root: str | Path) -> set[str]:
    """Data files of a root that no record names: what an attempt left that never was committed."""
    folder = Path(root)
    named = {
        file["path"]
        for path in folder.glob("*/*.json")
        if isinstance(record := json.loads(path.read_text("utf-8")), dict)
        for file in record.get("data", [])
    }
    manifests = {json.loads(path.read_text("utf-8"))["records"] for path in folder.glob("*/manifest-*.json")}
    data = {p.relative_to(root).as_posix() for s in ("parquet", "bin", "idx") for p in folder.rglob(f"*.{s}")}
    return data - named - manifests


def environment(home: str | Path) -> dict[str, str]:
    """That of a user who has never run Ray, with the steps of these tests at hand."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "HOME": str(home),
        "RAY_TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "COLUMNS": "300",
    }


def command(home: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A whole command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
