"""Archives, good and hostile: what is taken from them, and what is refused before it does harm."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from cosygate.catalogue import Unfit
from cosygate.catalogue.unpacking import GROWTH, GROWTH_FREE, MEMBERS, Unsafe, unpack
from tests.support.model_host import member, noise, packed, tarred, zipped

MODEL = noise(300_000)
FILES = {"top/model.onnx": MODEL, "top/tokens.txt": b"a 0\n", "top/LICENSE": b"MIT", "top/test_wavs/model.onnx": b"no"}
WANTED = {"model.onnx", "tokens.txt"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "new"
    folder.mkdir(parents=True)
    return folder


def unpacked(data: bytes, out: Path, name: str = "m.tar.bz2") -> dict[str, bytes]:
    """What comes out of it; nothing may ever come to lie elsewhere."""
    archive = out.parent.parent / name
    archive.write_bytes(data)
    try:
        unpack(archive, name, WANTED, ("LICENSE",), out)
    finally:
        archive.unlink()
        assert [p.name for p in (*out.parent.parent.iterdir(), *out.parent.iterdir())] == ["out", "new"]
        assert not any(p.is_symlink() for p in out.iterdir())
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("name", ["m.tar.bz2", "m.tar.gz", "m.zip"])
@pytest.mark.parametrize("top", ["top/", "", "./top/"])
def test_only_what_is_wanted_comes_out(out: Path, name: str, top: str) -> None:
    files = {path.replace("top/", top): content for path, content in FILES.items() if "wavs" not in path or top}
    data = zipped(files) if name == "m.zip" else tarred(files, suffix=name)
    assert unpacked(data, out, name) == {"model.onnx": MODEL, "tokens.txt": b"a 0\n", "LICENSE": b"MIT"}


@pytest.mark.parametrize("path", ["../model.onnx", "/model.onnx", "top/../../model.onnx", "..", "top\\..\\x", "C:/x"])
def test_a_path_that_leads_out_is_refused(out: Path, path: str) -> None:
    with pytest.raises(Unsafe, match="leads out"):
        unpacked(tarred({path: b"evil"}), out)
    with pytest.raises(Unsafe, match="leads out"):
        unpacked(zipped({path.replace("\\", "/") if "\\" in path else path: b"evil"}), out, "m.zip")


@pytest.mark.parametrize(
    "link",
    [
        member("top/model.onnx", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("top/model.onnx", kind=tarfile.SYMTYPE, link="../../../etc/passwd"),
        member("top/model.onnx", kind=tarfile.LNKTYPE, link="../secret"),
        member("top/model.onnx", kind=tarfile.LNKTYPE, link="/etc/passwd"),
    ],
)
def test_a_link_that_leads_out_is_refused(out: Path, link: tarfile.TarInfo) -> None:
    with pytest.raises(Unsafe, match="leads out"):
        unpacked(tarred(FILES, link), out)


def test_a_link_that_stays_inside_is_not_made(out: Path) -> None:
    """And so cannot be written through by what comes after it."""
    inside = [
        member("top/tokens.txt", kind=tarfile.SYMTYPE, link="test_wavs"),
        member("top/x", kind=tarfile.LNKTYPE, link="top/tokens.txt"),
    ]
    assert unpacked(tarred(FILES, *inside), out)["tokens.txt"] == b"a 0\n"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(out: Path, kind: bytes) -> None:
    with pytest.raises(Unsafe, match="neither a file nor a folder"):
        unpacked(tarred(FILES, member("top/model.onnx", kind=kind)), out)


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_a_link_or_a_device_in_a_zip_is_refused(out: Path, mode: int) -> None:
    with pytest.raises(Unsafe, match="neither a file nor a folder"):
        unpacked(zipped({"top/model.onnx": b"/etc/passwd"}, {"top/model.onnx": mode}), out, "m.zip")


def test_a_file_that_is_there_twice_is_refused(out: Path) -> None:
    with pytest.raises(Unsafe, match=r"model\.onnx twice"):
        unpacked(tarred({"top/model.onnx": b"1", "model.onnx": b"2"}), out)


def test_a_licence_that_is_there_already_is_kept(out: Path) -> None:
    (out / "LICENSE").write_bytes(b"of another source")
    assert unpacked(tarred(FILES), out)["LICENSE"] == b"of another source"


def bomb(suffix: str, name: str = "other.bin") -> bytes:
    """A tar of one file of zeros that is larger than an archive may become, in a few hundred bytes."""
    size = GROWTH_FREE + 2**26
    compressor = bz2.BZ2Compressor() if suffix.endswith("bz2") else gzip.zlib.compressobj(9, wbits=31)  # type: ignore[attr-defined]
    parts = [compressor.compress(member(f"top/{name}", size=size).tobuf())]
    parts += [compressor.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join([*parts, compressor.compress(bytes(10_240)), compressor.flush()])


@pytest.mark.parametrize("suffix", [".tar.bz2", ".tar.gz"])
def test_a_bomb_is_refused_before_it_is_unpacked(out: Path, suffix: str) -> None:
    data = bomb(suffix)
    assert len(data) < 200_000
    with pytest.raises(Unsafe, match="unpacks to more than"):
        unpacked(data, out, f"m{suffix}")
    assert list(out.iterdir()) == []


def test_a_bomb_that_is_wanted_stops_before_the_disk_is_full(out: Path) -> None:
    data = bomb(".tar.gz", "model.onnx")
    with pytest.raises(Unsafe, match="unpacks to more than"):
        unpacked(data, out, "m.tar.gz")
    assert sum(path.stat().st_size for path in out.iterdir()) <= GROWTH_FREE + GROWTH * len(data)


def test_a_bomb_in_a_zip_is_refused_before_it_is_unpacked(out: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as bundle, bundle.open("top/model.onnx", "w") as inside:
        for _ in range(GROWTH_FREE // 2**20 + 4):
            inside.write(bytes(2**20))
    with pytest.raises(Unsafe, match="unpacks to more than"):
        unpacked(data.getvalue(), out, "m.zip")
    assert list(out.iterdir()) == []


def test_a_header_that_claims_much_is_not_read_into_memory(out: Path) -> None:
    """A GNU long name of 50 MB of zeros: tarfile would read it whole."""
    size = 50 * 2**20
    header = member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=size).tobuf(tarfile.GNU_FORMAT)
    data = packed(header + bytes(size))
    tracemalloc.start()
    with pytest.raises(Unsafe, match="header of more than"):
        unpacked(data, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_too_many_files_are_refused(out: Path) -> None:
    many = {f"top/{number}": b"" for number in range(MEMBERS + 1)}
    with pytest.raises(Unsafe, match="more than 10,000 files"):
        unpacked(tarred(many, suffix=".tar.gz"), out, "m.tar.gz")
    with pytest.raises(Unsafe, match=r"more than 10,000 files|header of more than"):
        unpacked(zipped({f"t/{number}": b"" for number in range(MEMBERS + 1)}), out, "m.zip")


@pytest.mark.parametrize("name", ["m.tar.bz2", "m.tar.gz", "m.zip"])
@pytest.mark.parametrize("fault", ["cut", "flipped", "something else", "empty"])
def test_a_damaged_archive_is_told_as_such(out: Path, name: str, fault: str) -> None:
    good = zipped(FILES) if name == "m.zip" else tarred(FILES, suffix=name)
    middle = len(good) // 2
    data = {
        "cut": good[:middle],
        "flipped": good[:middle] + bytes(b ^ 255 for b in good[middle : middle + 2000]) + good[middle + 2000 :],
        "something else": b"<html>Not found</html>" * 100,
        "empty": b"",
    }[fault]
    with pytest.raises(Unfit, match=f"{name} is damaged"):
        unpacked(data, out, name)
