"""Make the package of the AWS Lambda function: build/lambda/ and build/lambda.zip, the same bytes from the same commit.

    python3.13 deploy/lambda/build.py [--artifact exports/cifar10/1] [--out build/lambda]

Any other Python does as well, but cannot add the bytecode, without which a cold start takes 1.2 s in place of 0.5.
The versions are those of requirements/lambda.txt. uv fetches them, because pip decides markers such as
`python_full_version < '3.12'` by the Python that it runs on, not by the one that it is asked to install for.
"""

import argparse
import compileall
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from py_compile import PycInvalidationMode

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = "3.13"  # as in template.yaml
PLATFORM = "x86_64-manylinux_2_28"  # that runtime has glibc 2.34; template.yaml says why not arm64
LIMIT_BYTES = 250 * 2**20  # Lambda's, unpacked
# Lambda listens in uvicorn's place and gives no command line: 26 of the 180 MB that the lock installs
UNUSED = {
    *("click", "h11", "httptools", "uvicorn", "uvloop"),
    *("httpcore2", "httpx2", "httpx2-jsfetch", "truststore"),  # the client's
    *("markdown-it-py", "mdurl", "pygments", "rich", "shellingham", "typer"),
}
# tests and stubs; and what uv writes of this machine and this minute
NEEDLESS = ("bin", "**/tests", "**/*.pyi", "**/RECORD", "**/INSTALLER", "**/REQUESTED", "**/uv_cache.json", ".lock")


def main() -> None:
    """Build what the command line asks for and print its size."""
    parser = argparse.ArgumentParser(description="Make the package of the AWS Lambda function.")
    parser.add_argument("--artifact", type=Path, default=ROOT / "exports/cifar10/1", help="the folder to serve")
    parser.add_argument("--out", type=Path, default=ROOT / "build/lambda", help="a folder; its zip appears beside it")
    wanted = parser.parse_args()
    if wanted.out.exists() and any(wanted.out.iterdir()) and not (wanted.out / "handler.py").exists():
        sys.exit(f"error: {wanted.out} is there and no package of this function: it will not be replaced")
    shutil.rmtree(wanted.out, ignore_errors=True)
    install(wanted.out)
    copy_ours(wanted.out, wanted.artifact)
    compiled = sys.version_info[:2] == tuple(int(part) for part in PYTHON.split("."))
    if compiled:
        compile_all(wanted.out)
    else:
        print(f"warning: no bytecode, for which Python {PYTHON} would have to run this", file=sys.stderr)  # noqa: T201
    print(f"{wanted.out}: {size(wanted.out) / 2**20:.1f} MiB of {LIMIT_BYTES / 2**20:.0f}")  # noqa: T201
    if size(wanted.out) > LIMIT_BYTES:
        sys.exit("error: Lambda takes no package of this size")
    archive = pack(wanted.out)
    print(f"{archive}: {archive.stat().st_size / 2**20:.1f} MiB")  # noqa: T201


def needed() -> list[str]:
    """The lock's requirements that the function imports, each with its hashes."""
    lock = (ROOT / "requirements/lambda.txt").read_text()
    every = re.findall(r"^[a-z0-9][^=]*==.*(?:\n[ #].*)*", lock, re.MULTILINE)
    return [each for each in every if each.partition("==")[0] not in UNUSED]


def install(folder: Path) -> None:
    """The wheels of what is needed, for the Lambda runtime."""
    uv = shutil.which("uv", path=os.pathsep.join([os.environ["PATH"], str(ROOT / ".venv/bin")]))
    if uv is None:
        sys.exit("error: this needs uv: pip install uv")
    what = ["--target", str(folder), "--requirements", "-", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    where = ["--python-version", PYTHON, "--python-platform", PLATFORM]
    command = [uv, "pip", "install", "--quiet", *what, *where]
    subprocess.run(command, input="\n".join(needed()), text=True, check=True)  # noqa: S603  # all words are ours
    for pattern in NEEDLESS:
        for path in list(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy_ours(folder: Path, artifact: Path) -> None:
    """The application, its name and version for importlib.metadata, the handler, and the artifact."""
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "deploy/lambda/handler.py", folder)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    shutil.copytree(artifact, folder / "exports/cifar10/1")  # where SIGHTGLASS_MODEL points unless it is set


def compile_all(folder: Path) -> None:
    """Bytecode beside the sources: where Lambda unpacks them, nothing can be written."""
    unchecked = PycInvalidationMode.UNCHECKED_HASH  # else Python compares the sources' times, which unpacking changes
    if not compileall.compile_dir(
        folder, quiet=1, workers=0, invalidation_mode=unchecked, stripdir=folder, prependdir="/var/task"
    ):
        sys.exit("error: not everything could be compiled")


def size(folder: Path) -> int:
    """Bytes in all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack(folder: Path) -> Path:
    """A zip in which order, times and modes do not depend on when and where it was made."""
    archive = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # of 1980-01-01
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(entry, path.read_bytes())
    return archive


if __name__ == "__main__":
    main()
