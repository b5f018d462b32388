"""Files: only regular ones are opened; a write is whole or has not happened, also without room, twice at once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deepcd.data.files import open_regular, replace, sole_writer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_regular_files_are_opened_also_by_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name) as stream:
            assert stream.read() == b"content"


def test_nothing_else_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name, number in (("pipe", errno.EINVAL), ("device", errno.EINVAL), ("", errno.EISDIR), ("none", errno.ENOENT)):
        before = len(os.listdir("/dev/fd"))
        with pytest.raises(OSError, match=r"regular|directory|No such") as caught:
            open_regular(tmp_path / name)
        assert caught.value.errno == number
        assert caught.value.filename == str(tmp_path / name)
        assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "a"
    replace(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left") as caught:
        replace(path, b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_an_interrupted_write_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path / "a", b"new")
    assert names(tmp_path) == []


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """A true failure of the system call, in the middle of the content."""
    path = tmp_path / "a"
    replace(path, b"old")
    program = (
        "import resource, sys\n"
        "from deepcd.data.files import replace\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: replace(sys.argv[1], bytes(1_000_000))\n"
        "except OSError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == f"[Errno {errno.EFBIG}] File too large: '{path}'"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_the_folder_is_synchronised_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def synchronised(descriptor: int) -> None:
        calls.append("folder" if os.path.samestat(os.fstat(descriptor), tmp_path.stat()) else "file")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(os, "replace", renamed)
    replace(tmp_path / "a", b"new")
    assert calls == ["file", "rename", "folder"]


def test_the_file_may_be_read_by_whom_the_mask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_threads_that_write_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([n]) * (50_000 + n) for n in range(4)]
    torn: list[int] = []

    def write(content: bytes) -> None:
        for _ in range(25):
            replace(path, content)
            if path.read_bytes() not in contents:
                torn.append(content[0])

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not torn
    assert names(tmp_path) == ["a"]


class TestSoleWriter:
    def test_only_one_at_a_time(self, tmp_path: Path) -> None:
        with sole_writer(tmp_path / "a"):
            with (
                pytest.raises(BlockingIOError, match="Another process is writing it") as caught,
                sole_writer(tmp_path / "a"),
            ):
                pass
            assert caught.value.filename == str(tmp_path / "a")
            with sole_writer(tmp_path / "b"):
                assert names(tmp_path) == [".a.lock", ".b.lock"]
        assert names(tmp_path) == []
        with sole_writer(tmp_path / "a"):
            pass

    def test_the_lock_of_the_killed_is_taken_over_and_their_leftovers_removed(self, tmp_path: Path) -> None:
        program = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from deepcd.data import files\n"
            "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
            "with files.sole_writer(Path(sys.argv[1])): files.replace(sys.argv[1], b'half')\n"
        )
        killed = subprocess.run([sys.executable, "-c", program, tmp_path / "a"], check=False)
        assert killed.returncode == -9
        assert {Path(name).suffix for name in names(tmp_path)} == {".lock", ".tmp"}
        with sole_writer(tmp_path / "a"):
            assert names(tmp_path) == [".a.lock"]
        assert names(tmp_path) == []

    def test_what_belongs_to_others_stays(self, tmp_path: Path) -> None:
        others = [".a.b.0123456789abcdef.tmp", ".aa.12.tmp", ".a.tmp", "a", "a.12.tmp", ".a.xyz.tmp"]
        ours = [".a.12.tmp", ".a.0123456789abcdef.tmp", ".a.checkpoint.77.tmp"]
        for name in others + ours:
            (tmp_path / name).touch()
        with sole_writer(tmp_path / "a", tmp_path / "a.checkpoint"):
            assert names(tmp_path) == sorted([*others, ".a.lock"])

    def test_an_exception_releases_it(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError), sole_writer(tmp_path / "a"):
            raise RuntimeError
        assert names(tmp_path) == []

    def test_a_removed_lock_file_keeps_nobody_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its owner ended between our opening and our locking: we hold a file that the next one cannot find."""
        fcntl = pytest.importorskip("fcntl")
        flock = fcntl.flock

        def late(stream: object, operation: int) -> None:
            (tmp_path / ".a.lock").unlink()
            flock(stream, operation)

        monkeypatch.setattr(fcntl, "flock", late)
        with pytest.raises(BlockingIOError), sole_writer(tmp_path / "a"):
            pass
