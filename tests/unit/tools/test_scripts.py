"""A tool that is missing is named with its mend; nothing is made up in its place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with the system's own tools and what a test puts there."""
    folder = tmp_path / "path"
    folder.mkdir()
    for tool in ("bash", "env", "dirname", "basename", "mkdir", "ln", "realpath", "mktemp", "mv", "rm", "cat", "tail"):
        (folder / tool).symlink_to(f"/bin/{tool}" if Path(f"/bin/{tool}").exists() else f"/usr/bin/{tool}")
    return folder


def program(path: Path, name: str, script: str) -> Path:
    (path / name).write_text(f"#!/bin/bash\n{script}\n")
    (path / name).chmod(0o755)
    return path / name


def run(path: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(ROOT / "tools" / tool), *arguments],
        cwd=path.parent,
        env={"PATH": str(path), "HOME": str(path.parent)},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def test_a_server_on_path_is_used_and_said(path: Path) -> None:
    server = program(path, "livekit-server", "echo livekit-server version 9.9.9")
    done = run(path, "get_livekit_server", "1.13.5", "bin/livekit-server")
    assert (path.parent / "bin" / "livekit-server").resolve() == server.resolve()
    assert "version 9.9.9; tested with 1.13.5" in done.stdout


def test_without_server_and_go_the_mend_is_named(path: Path) -> None:
    done = run(path, "get_livekit_server", "1.13.5", "bin/livekit-server")
    assert done.returncode == 1
    assert "no Go to build one" in done.stderr and "mend: install Go 1.21" in done.stderr
    assert not (path.parent / "bin" / "livekit-server").exists()


def test_a_go_that_is_too_old_is_refused(path: Path) -> None:
    program(path, "go", "[ $1 = env ] && echo go1.19.8 || echo go version go1.19.8")
    done = run(path, "get_livekit_server", "1.13.5", "bin/livekit-server")
    assert done.returncode == 1
    assert "Go is too old: go version go1.19.8" in done.stderr


def test_a_build_that_fails_shows_why_and_leaves_nothing(path: Path) -> None:
    program(path, "go", "[ $1 = env ] && echo go1.26.1 && exit; echo dial tcp: no route >&2; exit 1")
    done = run(path, "get_livekit_server", "1.13.5", "bin/livekit-server")
    assert done.returncode == 1
    assert "dial tcp: no route" in done.stderr and "mend: check the network" in done.stderr
    assert list((path.parent / "bin").iterdir()) == []


def test_the_pinned_version_is_built_once(path: Path) -> None:
    counts = path.parent / "builds"
    build = f'[ $1 = env ] && echo go1.26.1 && exit; echo $* >> {counts}; echo "#!/bin/bash" > $GOBIN/server'
    program(path, "go", build + "; /bin/chmod +x $GOBIN/server")
    for _ in range(2):
        assert run(path, "get_livekit_server", "1.13.5", "bin/livekit-server").returncode == 0
    assert counts.read_text().split() == ["install", "github.com/livekit/livekit-server/cmd/server@v1.13.5"]
    assert (path.parent / "bin" / "livekit-server").resolve().name == "livekit-server-1.13.5"


def test_without_python_the_mend_is_named(path: Path) -> None:
    program(path, "python3", "exit 1")  # as a Python before 3.11 answers the question for its version
    done = run(path, "make_venv", "venv", "requirements.lock")
    assert done.returncode == 1
    assert "no Python 3.11 or later" in done.stderr and "mend: apt install python3 python3-venv" in done.stderr


def test_a_python_without_venv_is_named(path: Path) -> None:
    program(path, "python3", 'case "$2" in *ensurepip*) exit 1;; esac; [ "$1" = -V ] && echo Python 3.11.2; exit 0')
    done = run(path, "make_venv", "venv", "requirements.lock")
    assert done.returncode == 1
    assert "Python 3.11.2 has no venv module" in done.stderr and "mend: apt install python3-venv" in done.stderr


def test_ci_runs_what_a_newcomer_runs() -> None:
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if not line.startswith("#")]
    assert commands == ['cd "$(dirname "$0")/.." && exec make test']


def test_without_npm_the_page_goes_on_without_its_packages(path: Path) -> None:
    (path.parent / "web").mkdir()
    done = run(path, "get_page_packages", "web", "web/stamp")
    assert done.returncode == 0
    assert "no npm; the page offers the direct call only" in done.stderr and "then make page" in done.stderr
    assert not (path.parent / "web" / "stamp").exists()


def test_packages_that_cannot_be_installed_are_tried_again_the_next_time(path: Path) -> None:
    (path.parent / "web").mkdir()
    (path / "touch").symlink_to("/usr/bin/touch")
    program(path, "npm", "echo npm error network >&2; exit 1")
    done = run(path, "get_page_packages", "web", "web/stamp")
    assert done.returncode == 0 and "npm error network" in done.stderr
    assert not (path.parent / "web" / "stamp").exists()
    program(path, "npm", 'echo "$*" > asked')
    assert run(path, "get_page_packages", "web", "web/stamp").returncode == 0
    assert (path.parent / "web" / "stamp").exists()
    assert "ci --ignore-scripts" in (path.parent / "web" / "asked").read_text()
