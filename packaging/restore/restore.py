#!/usr/bin/env python3
"""Reads a Mainstay backup repository without Mainstay.

Needs Python 3.9 or later and three packages, since Python itself has neither
AES-GCM nor zstd nor BLAKE3:

    python3 -m pip install cryptography zstandard blake3

Usage (the key is what `mainstay key export` printed):

    restore.py --key-file FILE [--repository DIR] list
    restore.py --key-file FILE [--repository DIR] files   SNAPSHOT
    restore.py --key-file FILE [--repository DIR] restore SNAPSHOT INTO [PATH...]

FORMAT.txt, beside this file, describes what is read here. Nothing is written but
below INTO, and nothing there is overwritten. Of the server's own rows and keys (the
entries in stores/ and keyspace), what is whole of a damaged one gets ".incomplete"
behind its name. The exit code is 0 when everything
asked for was done, 1 when something is damaged (it is named, the rest is done).
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import struct
import sys
import time
from collections import OrderedDict

try:
    import blake3
    import zstandard
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError as error:
    sys.exit(f"{error}; install with: python3 -m pip install cryptography zstandard blake3")

CHUNK, TRAILER, INDEX, SNAPSHOT, MARK = 1, 2, 3, 4, 5
FILE, FOLDER, SYMLINK, HARDLINK = 1, 2, 3, 4
LINE = struct.Struct("<32sBII")
LARGEST_CHUNK = 4 << 20
HOLE = 4096
PIECES = b"mainstay/pieces/1"


class Damaged(Exception):
    """Something in the repository is not what was written."""


def hkdf(key, salt, info):
    """HKDF-SHA256 (RFC 5869), 32 bytes."""
    extracted = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def master_key(text):
    """The 32 bytes of a printed key, 64 hex digits, or base64."""
    text = text.strip()
    lead = "mainstay-key-1-"
    if text.startswith(lead):
        digits, _, check = text[len(lead):].partition("-")
        key = bytes.fromhex(digits)
        if len(key) != 32 or hashlib.sha256(key).hexdigest()[:8] != check:
            sys.exit("the key has a typing error: its last eight digits do not fit the rest")
        return key
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = base64.b64decode(text)
    if len(key) != 32:
        sys.exit("the key file holds no master key")
    return key


class Repository:
    """An opened repository in a folder."""

    def __init__(self, folder, master):
        self.folder = folder
        config = self.read("config")
        if config[:7] != b"MNSTBKP" or len(config) < 96:
            sys.exit(f"{folder} is no Mainstay backup repository")
        if config[7:8] != b"1":
            sys.exit("the repository has a later format than this script knows")
        self.id = config[8:24]
        self.key = self.unlock(config, master)
        tag = blake3.blake3(config[:64], key=self.sub("config")).digest()
        if not hmac.compare_digest(tag, config[64:96]):
            print("warning: config was altered", file=sys.stderr)
        self.chunk_id_key = self.sub("chunk-id")
        self.pack_key = self.sub("pack")
        self.chunks = {}
        self.ciphers = {}
        self.recent = OrderedDict()
        self.load_index()

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def names(self, folder):
        """Names of the files below a folder of the repository."""
        for above, _, names in os.walk(os.path.join(self.folder, folder)):
            for name in sorted(names):
                if not name.endswith(".tmp"):
                    yield os.path.relpath(os.path.join(above, name), self.folder)

    def sub(self, purpose):
        return hkdf(self.key, self.id, f"mainstay/backup/{purpose}/v1".encode())

    def unlock(self, config, master):
        master_id = hkdf(master, b"", b"mainstay/master-id/v1")[:8].hex()
        wrapping = AESGCM(hkdf(master, self.id, b"mainstay/backup/v1"))
        for name in self.names("keys"):
            slot = self.read(name)
            if len(slot) != 101 or slot[:9] != b"MNSTKEY1\x01" or slot[25:41] != master_id.encode():
                continue
            try:
                key = wrapping.decrypt(slot[41:53], slot[53:], slot[:41])
            except InvalidTag:
                continue
            commitment = hkdf(key, self.id, b"mainstay/backup/commitment/v1")
            if hmac.compare_digest(commitment, config[32:64]):
                return key
        sys.exit(f"the key does not open this repository: none of its key slots is for master key {master_id}")

    def associated(self, kind, name):
        return self.id + b"1" + bytes([kind]) + name

    def document(self, kind, purpose, magic, name, sealed):
        if sealed[:8] != magic or len(sealed) < 56:
            raise Damaged("not the kind of file its name says")
        cipher = AESGCM(hkdf(self.sub(purpose), sealed[8:40], b"mainstay/backup/sealing/v1"))
        try:
            return cipher.decrypt(bytes(12), sealed[40:], self.associated(kind, name.encode()))
        except InvalidTag:
            raise Damaged("it does not verify: cut, altered or forged") from None

    def load_index(self):
        known = set()
        for name in self.names("index"):
            try:
                plain = self.document(INDEX, "index", b"MNSTIDX1", "", self.read(name))
            except Damaged as error:
                print(f"warning: {name}: {error}; reading the packs instead", file=sys.stderr)
                continue
            (packs,) = struct.unpack_from("<I", plain)
            at = 4
            for _ in range(packs):
                digest, salt, _, count = struct.unpack_from("<32s32sQI", plain, at)
                at += 76
                known.add(digest.hex())
                self.take_in(digest.hex(), salt, plain[at:at + count * LINE.size])
                at += count * LINE.size
        for name in self.names("packs"):
            digest = os.path.basename(name)
            if digest not in known:
                try:
                    self.adopt(digest, self.read(name))
                except (Damaged, struct.error) as error:
                    print(f"warning: {name}: {error}", file=sys.stderr)

    def adopt(self, digest, pack):
        """Takes in a pack no index names, by its trailer."""
        if pack[:8] != b"MNSTPAK1" or pack[-8:] != b"MNSTPEND" or blake3.blake3(pack).hexdigest() != digest:
            raise Damaged("it is no whole pack")
        (size,) = struct.unpack("<I", pack[-12:-8])
        salt = pack[8:40]
        nonce = bytes(4) + b"\xff" * 8
        try:
            trailer = self.cipher(salt).decrypt(nonce, pack[-12 - size:-12], self.associated(TRAILER, salt))
        except InvalidTag:
            raise Damaged("its trailer does not verify") from None
        self.take_in(digest, salt, trailer[4:])

    def take_in(self, digest, salt, lines):
        present = os.path.exists(self.pack_path(digest))
        at = 40
        for chunk, packing, plain, sealed in LINE.iter_unpack(lines):
            if present or chunk not in self.chunks:
                self.chunks.setdefault(chunk, []).append((digest, salt, at, packing, plain, sealed))
            at += sealed

    def pack_path(self, digest):
        return os.path.join(self.folder, "packs", digest[:2], digest)

    def cipher(self, salt):
        if salt not in self.ciphers:
            if len(self.ciphers) > 1000:
                self.ciphers.clear()
            self.ciphers[salt] = AESGCM(hkdf(self.pack_key, salt, b"mainstay/backup/sealing/v1"))
        return self.ciphers[salt]

    def chunk(self, chunk):
        """The plain bytes of a chunk, from whichever copy is whole."""
        if chunk in self.recent:
            self.recent.move_to_end(chunk)
            return self.recent[chunk]
        reason = f"chunk {chunk.hex()} is in no pack"
        for digest, salt, at, packing, plain, sealed in self.chunks.get(chunk, []):
            try:
                with open(self.pack_path(digest), "rb") as pack:
                    pack.seek(at)
                    body = pack.read(sealed)
                nonce = bytes(4) + struct.pack("<Q", at)
                body = self.cipher(salt).decrypt(nonce, body, self.associated(CHUNK, chunk))
                if packing == 1:
                    body = zstandard.ZstdDecompressor().decompress(body, max_output_size=min(plain, LARGEST_CHUNK))
                if len(body) != plain or blake3.blake3(body, key=self.chunk_id_key).digest() != chunk:
                    raise Damaged("the chunk is another one")
            except (OSError, InvalidTag, zstandard.ZstdError, Damaged, ValueError) as error:
                reason = f"packs/{digest[:2]}/{digest} is damaged at byte {at}: {error or 'it does not verify'}"
                continue
            self.recent[chunk] = body
            if len(self.recent) > 8:
                self.recent.popitem(last=False)
            return body
        raise Damaged(reason)

    def leaves(self, depth, ids):
        """Ids of the chunks that hold a content's bytes."""
        for chunk in ids:
            if depth == 0:
                yield chunk
            else:
                body = self.chunk(chunk)
                yield from self.leaves(depth - 1, [body[i:i + 32] for i in range(0, len(body), 32)])

    def bodies(self, depth, ids, damaged):
        """The chunks of a content; None for one that cannot be read, which is added to `damaged`."""
        for chunk in ids:
            try:
                body = self.chunk(chunk)
            except Damaged as error:
                damaged.append((chunk.hex(), str(error)))
                yield None
                continue
            if depth == 0:
                yield body
            else:
                yield from self.bodies(depth - 1, [body[i:i + 32] for i in range(0, len(body), 32)], damaged)

    def snapshots(self):
        """Every snapshot, oldest first."""
        for path in sorted(self.names("snapshots")):
            name = os.path.basename(path)
            try:
                yield json.loads(self.document(SNAPSHOT, "snapshot", b"MNSTSNP1", name, self.read(path)))
            except Damaged as error:
                print(f"damaged: {path}: {error}", file=sys.stderr)

    def entries(self, snapshot, damaged):
        """The entries of a snapshot in order; what cannot be read is added to `damaged`."""
        listing = snapshot["listing"]
        lost = []
        for body in self.bodies(listing["depth"], [bytes.fromhex(i) for i in listing["ids"]], lost):
            damaged += [("(a part of the list of entries)", reason) for _, reason in lost]
            lost.clear()
            if body is None:
                continue
            at = 0
            while at < len(body):
                (size,) = struct.unpack_from("<I", body, at)
                yield Entry(body[at + 4:at + 4 + size])
                at += 4 + size


class Entry:
    """One record of a listing."""

    def __init__(self, record):
        self.kind, self.flags, length = struct.unpack_from("<BBH", record)
        at = 4 + length
        self.path = record[4:at]
        self.mode, self.uid, self.gid, seconds, nanos, self.size = struct.unpack_from("<IIIqIQ", record, at)
        self.mtime_ns = seconds * 10**9 + nanos
        at += 32
        (length,) = struct.unpack_from("<H", record, at)
        self.identity = record[at + 2:at + 2 + length]
        at += 2 + length
        (length,) = struct.unpack_from("<H", record, at)
        self.link = record[at + 2:at + 2 + length]
        at += 2 + length
        self.depth, count = struct.unpack_from("<BH", record, at)
        at += 3
        self.ids = [record[i:i + 32] for i in range(at, at + 32 * count, 32)]

    def is_plain(self):
        """Whether the path stays below where it is put."""
        return all(part not in (b"", b".", b"..") and b"\0" not in part for part in self.path.split(b"/"))

    def printable(self):
        return self.path.decode("utf-8", "backslashreplace")


def write_file(repository, entry, path):
    """Writes an entry's content; a file that cannot be whole is not left behind."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        total = 0
        for chunk in repository.leaves(entry.depth, entry.ids):
            body = repository.chunk(chunk)
            if entry.flags & 1:
                for at in range(0, len(body), HOLE):
                    if any(body[at:at + HOLE]):
                        os.pwrite(file, body[at:at + HOLE], total + at)
            else:
                view = memoryview(body)
                while view:
                    view = view[os.write(file, view):]
            total += len(body)
        if total != entry.size:
            raise Damaged(f"its chunks have {total} bytes, it had {entry.size}")
        os.ftruncate(file, total)
    except BaseException:
        os.close(file)
        os.unlink(path)
        raise
    os.close(file)


def pieces(repository, entry, damaged):
    """The pieces of a content that can be read; what is damaged is added to `damaged`."""
    piece, wanted = None, 0
    for body in repository.bodies(entry.depth, entry.ids, damaged):
        begins = body is not None and body[:1] == b"\x01"
        if piece is not None and (body is None or begins):
            damaged.append((entry.printable(), "a piece is not whole"))
            piece = None
        if body is None:
            continue
        if begins:
            (wanted,) = struct.unpack_from("<Q", body, 1)
            piece = bytearray(body[9:])
        elif piece is not None:
            piece += body[1:]
        if piece is not None and len(piece) >= wanted:
            yield bytes(piece)
            piece = None
    if piece is not None:
        damaged.append((entry.printable(), "a piece is not whole"))


def write_pieces(repository, entry, path):
    """Writes a content in pieces; where some are lost, the others into a file whose name says so. Returns the damage."""
    damaged = []
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "wb") as out:
        for piece in pieces(repository, entry, damaged):
            out.write(piece)
    if damaged:
        # Never over something that is there.
        os.link(path, path + b".incomplete", follow_symlinks=False)
        os.unlink(path)
    return [(entry.printable(), reason) for _, reason in damaged]


def safe_parent(into, path):
    """Makes the folders above `path`; none of them may be a link."""
    folder = into
    for part in path.split(b"/")[:-1]:
        folder = os.path.join(folder, part)
        if os.path.islink(folder):
            raise Damaged("a folder above it is a link")
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(into, path)


def settle(entry, path):
    """Owner, mode and time."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind != SYMLINK:
        os.chmod(path, entry.mode)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def restore(repository, snapshot, into, only):
    into = os.fsencode(into)
    os.makedirs(into, exist_ok=True)
    only = [os.fsencode(path).strip(b"/") for path in only]
    damaged, folders, later = [], [], []
    done = 0
    for entry in repository.entries(snapshot, damaged):
        if only and not any(entry.path == path or entry.path.startswith(path + b"/") for path in only):
            continue
        try:
            if not entry.is_plain():
                raise Damaged("its path leads elsewhere")
            path = safe_parent(into, entry.path)
            if entry.kind == FILE and entry.identity == PIECES:
                lost = write_pieces(repository, entry, path)
                damaged += lost
                settle(entry, path + b".incomplete" if lost else path)
            elif entry.kind == FILE:
                write_file(repository, entry, path)
                settle(entry, path)
            elif entry.kind == FOLDER:
                if os.path.islink(path):
                    raise Damaged("a link is in its place")
                os.makedirs(path, mode=0o700, exist_ok=True)
                folders.append((entry, path))
            elif entry.kind == SYMLINK:
                os.symlink(entry.link, path)
                settle(entry, path)
            elif entry.kind == HARDLINK:
                later.append((entry, path))
            done += 1
        except (Damaged, OSError) as error:
            damaged.append((entry.printable(), str(error)))
    damaged += link(repository, snapshot, into, later)
    for entry, path in reversed(folders):
        settle(entry, path)
    print(f"{done} entries restored")
    for path, reason in damaged:
        print(f"damaged: {path}: {reason}", file=sys.stderr)
    return 1 if damaged else 0


def link(repository, snapshot, into, later):
    """Makes hard links; where the first name was not asked for, the file itself."""
    damaged, missing = [], {}
    for entry, path in later:
        try:
            os.link(safe_parent(into, entry.link), path, follow_symlinks=False)
        except FileNotFoundError:
            missing.setdefault(entry.link, []).append((entry, path))
        except (Damaged, OSError) as error:
            damaged.append((entry.printable(), str(error)))
    for first in repository.entries(snapshot, damaged) if missing else []:
        for entry, path in missing.pop(first.path, []):
            try:
                write_file(repository, first, path)
                settle(first, path)
            except (Damaged, OSError) as error:
                damaged.append((entry.printable(), str(error)))
    damaged += [(entry.printable(), "its first name could not be restored") for found in missing.values() for entry, _ in found]
    return damaged


def main():
    parser = argparse.ArgumentParser(description="Reads a Mainstay backup repository without Mainstay.")
    parser.add_argument("--key-file", required=True, help="holds the master key that `mainstay key export` printed")
    parser.add_argument("--repository", default=os.path.dirname(os.path.abspath(__file__)))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    files = commands.add_parser("files")
    files.add_argument("snapshot")
    into = commands.add_parser("restore")
    into.add_argument("snapshot")
    into.add_argument("into")
    into.add_argument("path", nargs="*")
    options = parser.parse_args()
    with open(options.key_file, encoding="ascii") as file:
        repository = Repository(options.repository, master_key(file.read()))
    snapshots = list(repository.snapshots())
    if options.command == "list":
        for snapshot in snapshots:
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(snapshot["started"] / 1000))
            counts = snapshot["counts"]
            print(f"{snapshot['name']}  {when}  {snapshot['source']}  {counts['files']} files, {counts['bytes']} bytes")
        return 0
    found = [s for s in snapshots if options.snapshot in (s["name"], "latest")]
    if not found:
        sys.exit(f"there is no snapshot {options.snapshot}")
    if options.command == "restore":
        return restore(repository, found[-1], options.into, options.path)
    damaged = []
    for entry in repository.entries(found[-1], damaged):
        print(f"{'-fdlh'[entry.kind]} {entry.size:>14}  {entry.printable()}")
    for path, reason in damaged:
        print(f"damaged: {path}: {reason}", file=sys.stderr)
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(main())
