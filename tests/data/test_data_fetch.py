"""Downloading, against a server on this machine: what arrives, what is refused, what is left behind."""

import dataclasses
import hashlib
import io
import socket
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from c2f_np.data import cached, data_folder, fetch, load_dataset, named
from c2f_np.errors import DataError

U_DATA = b"1\t1\t5\t1\n1\t2\t5\t2\n2\t1\t5\t1\n"
TRAIN, TEST = b"0 0 1 2\n1 0\n", b"0 3\n1 1\n"


def zip_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def serving(handler):
    """Serve on a free port of this machine; the value is the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def nobody():
    """Return the URL of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def site(tmp_path):
    """A folder and the URL under which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()
    with serving(partial(QuietHandler, directory=str(folder))) as url:
        yield folder, url


@pytest.fixture
def expect(monkeypatch):
    """Make a named data set expect other contents than the published ones."""

    def change(name, *digests):
        info = named.NAMED[name]
        pairs = zip(info.files, digests, strict=True)
        files = tuple(dataclasses.replace(file, digest=digest) for file, digest in pairs)
        monkeypatch.setitem(named.NAMED, name, dataclasses.replace(info, files=files))

    return change


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def files_below(folder):
    return sorted(str(path.relative_to(folder)).replace("\\", "/") for path in folder.rglob("*") if path.is_file())


def get(name, url, cache):
    return fetch(name, cache_dir=cache, base_url=url, progress=False, announce=None)


def test_an_archive_is_fetched_checked_and_unpacked(site, expect, tmp_path, cache):
    folder, url = site
    archive = zip_of({"ml-100k/README": b"terms", "ml-100k/u.data": U_DATA, "../evil": b"x", "/evil": b"x"})
    (folder / "ml-100k.zip").write_bytes(archive)
    expect("ml-100k", sha256(archive))
    said = []
    path = fetch("ml-100k", cache_dir=cache, base_url=url + "/", progress=False, announce=said.append)
    assert path == cache / "ml-100k" == cached("ml-100k", cache)
    assert files_below(tmp_path) == ["cache/ml-100k/u.data", "site/ml-100k.zip"]  # nothing else, nowhere else
    assert (path / "u.data").read_bytes() == U_DATA
    assert "no redistribution" in said[0] and "Harper" in said[0]
    assert load_dataset("ml-100k", cache_dir=cache).n_users == 2

    (folder / "ml-100k.zip").unlink()
    assert get("ml-100k", url, cache) == path  # what is there is not fetched again


def test_single_files_are_checked_by_sha256_or_git_blob_id(site, expect, cache):
    folder, url = site
    (folder / "train.txt").write_bytes(TRAIN)
    (folder / "test.txt").write_bytes(TEST)
    expect("gowalla", blob(TRAIN), sha256(TEST))
    path = get("gowalla", url, cache)
    assert load_dataset("gowalla", cache_dir=cache).test.nnz == 2

    (path / "train.txt").write_bytes(b"spoilt\n")
    with pytest.raises(DataError, match="move it away"):
        get("gowalla", url, cache)
    (path / "train.txt").unlink()
    assert (get("gowalla", url, cache) / "train.txt").read_bytes() == TRAIN


def test_git_blob_id_is_git_s():
    # printf 'hello\n' | git hash-object --stdin
    assert named.checksum(io.BytesIO(b"hello\n"), "git-blob") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_progress_bar_can_be_shown(site, expect, cache, capsys):
    folder, url = site
    archive = zip_of({"ml-100k/u.data": U_DATA})
    (folder / "ml-100k.zip").write_bytes(archive)
    expect("ml-100k", sha256(archive))
    fetch("ml-100k", cache_dir=cache, base_url=url)
    shown = capsys.readouterr()
    assert "Harper" in shown.out and "100%" in shown.err


class BreaksOff(QuietHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")


ML_1M = "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"
BLOB_ID = ("git blob id", "a27782bd7a1d4d0744148dc0460ea94da74763f2")


@pytest.mark.parametrize(
    ("name", "file", "where", "parts"),
    [
        ("ml-100k", "ml-100k.zip", "site", (f"right checksum: sha256 {sha256(b'something else')}",)),
        ("ml-1m", "ml-1m.zip", "site", ("the server answered 404", "download https://files.grouplens.org", ML_1M)),
        ("gowalla", "train.txt", "nobody", ("cannot be reached (ConnectionError)", *BLOB_ID)),
        ("gowalla", "train.txt", "nonsense", ("cannot be reached (MissingSchema)",)),
        ("gowalla", "train.txt", "breaks off", ("cannot be reached",)),
    ],
)
def test_downloads_that_fail(site, cache, name, file, where, parts):
    """One line that says what happened and what to do by hand; nothing is left behind."""
    folder, url = site
    (folder / "ml-100k.zip").write_bytes(b"something else")
    with serving(BreaksOff) as broken:
        url = {"site": url, "nobody": nobody(), "nonsense": "nonsense", "breaks off": broken}[where]
        with pytest.raises(DataError) as caught:
            get(name, url, cache)
    message = str(caught.value)
    for part in ("By hand: download https://", str(cache / name / file), *parts):
        assert part in message
    assert "\n" not in message and "Traceback" not in message
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or caught.value.__context__ is None)
    assert files_below(cache) == [] and cached(name, cache) is None


def test_what_was_put_there_by_hand_is_used(expect, tmp_path):
    archive = zip_of({"ml-100k/u.data": U_DATA})
    expect("ml-100k", sha256(archive))
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "ml-100k.zip").write_bytes(archive)
    get("ml-100k", nobody(), tmp_path)
    assert files_below(tmp_path) == ["ml-100k/ml-100k.zip", "ml-100k/u.data"]


@pytest.mark.parametrize(("name", "file"), [("ml-100k", "ml-100k.zip"), ("gowalla", "train.txt")])
def test_a_file_of_somebody_s_own_is_not_replaced(site, cache, name, file):
    mine = cache / name / file
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(DataError, match="not replaced: move it away"):
        get(name, site[1], cache)
    assert mine.read_text() == "years of work"


def test_a_server_that_never_stops_sending(site, expect, cache, monkeypatch):
    folder, url = site
    (folder / "ml-100k.zip").write_bytes(b"x" * 5000)
    expect("ml-100k", sha256(b"x" * 5000))
    monkeypatch.setattr("c2f_np.data.named._LARGEST_DOWNLOAD", 4999)
    with pytest.raises(DataError, match="is too large"):
        get("ml-100k", url, cache)
    assert files_below(cache) == []


@pytest.mark.parametrize("archive", [zip_of({"other": b""}), b"not a zip"])
def test_an_archive_without_the_member(expect, cache, site, archive):
    folder, url = site
    (folder / "ml-100k.zip").write_bytes(archive)
    expect("ml-100k", sha256(archive))
    with pytest.raises(DataError, match="not a zip archive with ml-100k/u.data in it"):
        get("ml-100k", url, cache)
    assert cached("ml-100k", cache) is None


def test_names_and_folders_that_will_not_do(tmp_path):
    (tmp_path / "file").write_text("")
    for name, folder, message in (
        ("ml-100k", tmp_path / "file", "the folder cannot be made"),
        ("planted", tmp_path, "comes with the package"),
        ("netflix", tmp_path, "no data set named 'netflix'; the names are southern-women"),
    ):
        with pytest.raises(DataError, match=message):
            get(name, nobody(), folder)


def test_where_data_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("C2F_NP_DATA", str(tmp_path / "env"))
    assert data_folder() == tmp_path / "env"
    assert data_folder(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.delenv("C2F_NP_DATA")
    assert "c2f_np" in str(data_folder())
