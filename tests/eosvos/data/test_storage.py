"""Object storage: a real S3 server on this machine, and one that refuses as S3 does."""

import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

from eosvos.data.parquet import encode, open_dataset, parts
from eosvos.data.parquet.layout import CARD, CLAIM, INDEX
from eosvos.data.parquet.storage import contents, remove
from eosvos.data.parquet.verifying import verify
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

SPEC = {"layout": "made"}
TINY = SyntheticSettings(size=32, frames=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence of three frames is a part."""
    monkeypatch.setattr(parts, "LEAST_FRAMES", 3)
    monkeypatch.setattr(parts, "MOST_FRAMES", 3)


def test_the_same_as_on_disk(tmp_path: Path, s3: str) -> None:
    sequences = synthetic("train", 3, TINY)
    out = f"{s3}/same/train"
    assert encode(sequences, out, SPEC)
    assert encode(sequences, tmp_path / "out", SPEC)
    assert not encode(sequences, out, SPEC)
    files = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert contents(out) == files
    here, there = open_dataset(tmp_path / "out"), open_dataset(out)
    assert (there.hash, there.index) == (here.hash, here.index)
    for before, after in zip(sequences, pickle.loads(pickle.dumps(there.sequences)), strict=True):
        assert [after.read(i).image for i in range(3)] == [before.read(i).image for i in range(3)]
    assert verify(out) == []
    with pytest.raises(BadInput, match=r"same/train: holds a dataset that differs in layout"):
        encode(sequences, out, {"layout": "other"})


def test_goes_on_where_it_was(s3: str, watched: Callable[..., list[Sequence]]) -> None:
    out = f"{s3}/resumed"
    sequences = synthetic("train", 3, TINY)

    def stop(read: int) -> None:
        if read == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(watched(sequences, stop), out, SPEC)
    assert {CLAIM, "data-00000.parquet"} <= (contents(out) or {}).keys()
    with pytest.raises(BadInput, match="resumed: the encoding has not ended"):
        open_dataset(out)
    with pytest.raises(BadInput, match=r"resumed: .* differs in layout"):
        encode(sequences, out, {"layout": "other"})
    reads: list[int] = []
    assert encode(watched(sequences, reads.append), out, SPEC)
    assert reads == list(range(1, 7))  # of the last two
    assert sorted(contents(out) or {}) == [CARD, INDEX, *(f"data-{number:05d}.parquet" for number in range(3))]


def test_what_is_no_dataset(s3: str) -> None:
    with pytest.raises(BadInput, match=r"^s3://bucket/nothing: no such folder; encode"):
        open_dataset(f"{s3}/nothing")
    encode(synthetic("train", 2, TINY), f"{s3}/cut", SPEC)
    remove(f"{s3}/cut", "data-00001.parquet")
    with pytest.raises(BadInput, match=r"^s3://bucket/cut/data-00001.parquet: missing, though the index names it"):
        open_dataset(f"{s3}/cut")


@pytest.mark.parametrize("use", [open_dataset, lambda uri: encode(synthetic("train", 1, TINY), uri, SPEC)])
def test_a_bucket_that_is_missing(s3: str, use: Callable[[str], object]) -> None:
    with pytest.raises(BadInput, match=r"^s3://nothing/train: no such bucket; make it, or correct the address"):
        use("s3://nothing/train")


REFUSALS = {
    "ExpiredToken": (400, "The provided token has expired.", "the credentials have expired; get new ones"),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id is not known.", "the credentials are refused; check AWS_ACCESS"),
    "SignatureDoesNotMatch": (403, "The signature does not match.", "the credentials are refused; check AWS_ACCESS"),
    "AccessDenied": (403, "Access Denied", "the credentials are refused; check AWS_ACCESS_KEY_ID"),
    "PermanentRedirect": (
        301,
        "Use the specified endpoint.",
        "the bucket is in another region; set AWS_DEFAULT",
    ),
    "AuthorizationHeaderMalformed": (400, "expecting 'eu-west-1'", "the bucket is in another region; set AWS_DEFAULT"),
}


class _Refusing(BaseHTTPRequestHandler):
    """Answers as S3 does, with the error that the bucket is named after."""

    def do_GET(self) -> None:
        code = self.path.split("/")[1].split("?")[0]
        status, message, _ = REFUSALS[code]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line(refusing: str, case: str) -> None:
    address = f"s3://key:secret@{case}/train?endpoint_override={refusing}&scheme=http&region=us-east-1"
    for use in (open_dataset, lambda uri: encode(synthetic("train", 1, TINY), uri, SPEC)):
        with pytest.raises(BadInput) as raised:
            use(address)
        assert f"/train?endpoint_override={refusing}&scheme=http&region=us-east-1: {REFUSALS[case][2]}" in str(
            raised.value
        )
        assert "secret" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_nobody_answers_within_half_a_minute() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        places = {
            "127.0.0.1:9": "does not answer .*; check the address",
            "nothing.invalid": "the host is not known; correct the address",
            f"127.0.0.1:{silent.getsockname()[1]}": "does not answer .*; check the address",
        }
        for endpoint, message in places.items():
            before = time.monotonic()
            with pytest.raises(BadInput, match=message):
                open_dataset(f"s3://key:secret@bucket/train?endpoint_override={endpoint}&scheme=http&region=us-east-1")
            assert time.monotonic() - before < 20


def test_others_read_the_folder_as_one_table_of_frames(tmp_path: Path) -> None:
    encode(synthetic("train", 3, TINY), tmp_path / "out", SPEC)
    table = ds.dataset(tmp_path / "out").to_table()
    assert table.num_rows == 9
    expected = [(f"train-{i:05d}", position) for i in range(3) for position in range(3)]
    assert list(zip(table["sequence"].to_pylist(), table["position"].to_pylist(), strict=True)) == expected
    frame = pd.read_parquet(tmp_path / "out")
    assert list(zip(frame["sequence"], frame["position"], strict=True)) == expected
