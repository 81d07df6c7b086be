"""The catalogue: what models there are, read from models.toml (or a file of one's own) and checked at the door."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cosygate.catalogue.unpacking import SUFFIXES, is_archive

LARGEST_CATALOGUE = 1024**2  # bytes

Family = Literal["moonshine", "sense_voice", "paraformer", "zipformer", "whisper", "diarization", "punctuation"]
# What sherpa-onnx's factory methods of a family call the files that they take.
ROLES: Mapping[str, frozenset[str]] = {
    "moonshine": frozenset({"encoder", "decoder", "tokens"}),
    "sense_voice": frozenset({"model", "tokens"}),
    "paraformer": frozenset({"paraformer", "tokens"}),
    "zipformer": frozenset({"encoder", "decoder", "joiner", "tokens"}),
    "whisper": frozenset({"encoder", "decoder", "tokens"}),
    "diarization": frozenset({"segmentation", "embedding"}),
    "punctuation": frozenset({"model"}),
}
Capability = Literal["words", "hotwords", "itn", "emotion", "events", "language", "punctuation", "speakers"]


def loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def checked_url(url: str) -> str:
    """Raises ValueError unless it is an https address without a password; plain http only to this machine."""
    parts = urlsplit(url)
    if not url.isascii() or any(c.isspace() for c in url):
        raise ValueError("an address has only ASCII characters and no spaces")
    fits = parts.scheme == "https" or (parts.scheme == "http" and loopback(parts.hostname))
    if not (fits and parts.hostname) or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("it is an https address without password and query; plain http only to this machine")
    return url


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")]  # no folders: a model lies flat
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]  # SHA-256; empty: not known
Url = Annotated[str, AfterValidator(checked_url)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Strict):
    """What is fetched: an archive that has files of the model, or one of its files itself."""

    url: Url
    bytes: int = Field(0, ge=0)  # 0: not known
    sha256: Digest = ""

    @property
    def name(self) -> str:
        return urlsplit(self.url).path.rpartition("/")[2]


class File(_Strict):
    path: FileName
    sha256: Digest = ""


class Entry(_Strict):
    name: Name
    title: str
    family: Family
    languages: tuple[str, ...]  # BCP 47; "mul": a hundred of them
    capabilities: tuple[Capability, ...]  # beyond text
    licence: str
    home: Url  # where it is described, with its licence
    files: dict[str, File]  # role → file
    settings: dict[str, str | int | float | bool] = {}  # for whoever loads it
    sources: tuple[Source, ...] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _fits_together(self) -> Entry:
        if set(self.files) != ROLES[self.family]:
            raise ValueError(f"files of a {self.family} model are {', '.join(sorted(ROLES[self.family]))}")
        if len({f.path for f in self.files.values()}) < len(self.files):
            raise ValueError("one file has two roles")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same file name")
        for name in names:
            if not is_archive(name) and name not in {f.path for f in self.files.values()}:
                raise ValueError(f"{name} is neither an archive ({', '.join(SUFFIXES)}) nor one of the model's files")
        return self


def load(path: Path | None = None) -> dict[str, Entry]:
    """Name → entry, in the file's order: of the catalogue that is part of CosyGate, or of the one at `path`. Raises
    ValueError for one that is wrong, with a line for each fault; OSError."""
    origin = path or "models.toml"
    if path is None:
        content = files("cosygate.catalogue").joinpath("models.toml").read_bytes()
    else:
        with path.open("rb") as file:
            content = file.read(LARGEST_CATALOGUE + 1)
        if len(content) > LARGEST_CATALOGUE:
            raise ValueError(f"{path}: a catalogue has at most {LARGEST_CATALOGUE:,} bytes")
    try:
        tables: dict[str, Any] = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{origin}: {error}") from None
    entries: dict[str, Entry] = {}
    faults: list[str] = []
    for name, table in tables.items():
        try:
            entries[name] = Entry.model_validate({**table, "name": name} if isinstance(table, dict) else table)
        except ValidationError as error:
            faults += [f"{origin}: {'.'.join(map(str, (name, *e['loc'])))}: {e['msg']}" for e in error.errors()]
    if faults:
        raise ValueError("\n".join(faults))
    return entries
