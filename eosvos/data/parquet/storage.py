"""Folders on any file system that pyarrow knows: what is in them, and files that are whole or absent."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from eosvos.errors import BadInput

_REMEDIES = {
    r"ExpiredToken|TokenRefreshRequired": "the credentials have expired; get new ones",
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|InvalidToken|INVALID_CLIENT_TOKEN_ID|MISSING_AUTH": (
        "the credentials are refused; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do"
    ),
    r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|HTTP status 301": (
        "the bucket is in another region; set AWS_DEFAULT_REGION, or ?region= in the address"
    ),
    r"NO_SUCH_BUCKET|NoSuchBucket": "no such bucket; make it, or correct the address",
    r"resolve host": "the host is not known; correct the address, AWS_ENDPOINT_URL or the region",
}
"""What a storage server answers -> what is wrong, and what to do about it."""
_UNFINISHED = ".unfinished"


def address_of(uri: str | Path) -> str:
    """An absolute path, or a URI as it is."""
    return str(uri) if "://" in str(uri) else str(Path(uri).resolve())


@lru_cache(maxsize=8)
def filesystem_of(address: str) -> tuple[fs.FileSystem, str]:
    """The file system that an address is on, and the folder there. Raises BadInput for none that pyarrow can open."""
    if "://" not in address:
        return fs.LocalFileSystem(), address
    try:
        filesystem, folder = fs.FileSystem.from_uri(address)
    except (OSError, pa.ArrowInvalid, NotImplementedError) as error:
        raise BadInput(f"{shown(address)}: not an address that pyarrow can open ({one_line(error)})") from error
    return filesystem, folder.rstrip("/")


def local_folder(address: str) -> Path | None:
    """The folder of a path or a ``file://`` URI; None where it is no local one."""
    filesystem, folder = filesystem_of(address)
    return Path(folder) if filesystem.type_name == "local" else None


def contents(address: str) -> dict[str, int | None] | None:
    """Names of what is in a folder -> bytes, None for a folder in it; None where there is no such folder.

    Raises:
        BadInput: a storage that does not answer or refuses, a bucket that is missing, or a file in the folder's place.
    """
    filesystem, folder = _impatient(address)
    try:
        return {info.base_name: info.size for info in filesystem.get_file_info(fs.FileSelector(folder))}
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise BadInput(f"{shown(address)}: a file is there or above it, not a folder; name another") from error
    except OSError as error:
        raise BadInput(_refused(address, error)) from error


@lru_cache(maxsize=8)
def _impatient(address: str) -> tuple[fs.FileSystem, str]:
    """As ``filesystem_of``, without the minutes that S3's client waits for a server that is silent.

    For the first question alone: in the midst of work its patience is right.
    """
    filesystem, folder = filesystem_of(address)
    if filesystem.type_name == "s3":
        _, (settings,) = filesystem.__reduce__()  # all that the address and the environment say
        filesystem = fs.S3FileSystem(**settings, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2))
    return filesystem, folder


def make_folder(address: str) -> None:
    """With its parents. Raises BadInput where it cannot be made."""
    filesystem, folder = filesystem_of(address)
    try:
        filesystem.create_dir(folder)
    except OSError as error:
        raise BadInput(_refused(address, error)) from error


def read(address: str, name: str) -> bytes:
    """A file of a folder. Raises BadInput where it cannot be read."""
    filesystem, folder = filesystem_of(address)
    try:
        with filesystem.open_input_stream(f"{folder}/{name}") as stream:
            content: bytes = stream.read()
    except OSError as error:
        raise BadInput(_refused(f"{address}/{name}", error)) from error
    return content


@contextmanager
def writing(address: str, name: str) -> Iterator[pa.NativeFile]:
    """A stream to a file of a folder that is there, whole, once the block has ended well.

    Where it has not, an object store may keep what it got: something else must say that the file is whole.

    Raises:
        BadInput: it cannot be written: no space, no access, no answer.
    """
    filesystem, folder = filesystem_of(address)
    local = filesystem.type_name == "local"  # elsewhere an object appears when it is whole, and a move is a copy
    path = f"{folder}/{name}"
    written = f"{folder}/.{name}.{uuid.uuid4().hex}{_UNFINISHED}" if local else path
    try:
        try:
            with filesystem.open_output_stream(written) as stream:
                yield stream
            if local:
                filesystem.move(written, path)
        finally:
            if local:
                with suppress(FileNotFoundError):
                    filesystem.delete_file(written)
    except OSError as error:
        raise BadInput(_refused(f"{address}/{name}", error)) from error


def is_unfinished(name: str) -> bool:
    """Whether a name is one that ``writing`` has for a file before it is whole, which a kill may leave."""
    return name.startswith(".") and name.endswith(_UNFINISHED)


def write(address: str, name: str, content: bytes) -> None:
    """A whole file. Raises BadInput where it cannot be written."""
    with writing(address, name) as stream:
        stream.write(content)


def remove(address: str, name: str) -> None:
    """Removes a file of a folder, if it is there. Raises BadInput where that is not possible."""
    filesystem, folder = filesystem_of(address)
    try:
        with suppress(FileNotFoundError):
            filesystem.delete_file(f"{folder}/{name}")
    except OSError as error:
        raise BadInput(_refused(f"{address}/{name}", error)) from error


def shown(address: str) -> str:
    """An address as messages have it: without the key and the secret that may stand in it."""
    return re.sub(r"^(\w+://)[^/?]*@", r"\1", address)


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())


def _refused(place: str, error: OSError) -> str:
    place, text = shown(place), one_line(error)
    for pattern, remedy in _REMEDIES.items():
        if re.search(pattern, text):
            return f"{place}: {remedy} ({text})"
    if error.errno is not None:
        return f"{place}: {text}; check the address, the access and the space that is left"
    return f"{place}: does not answer ({text}); check the address and the access"
