#!/usr/bin/env python3
"""Checks a docker-archive of the image against what is promised of it: inspect.py ARCHIVE. Prints what is in it."""

import hashlib
import json
import sys
import tarfile

# Everything in the image that is no folder: path, mode, owner.
FILES = {
    "usr/bin/mainstay": (0o755, 0),
    "etc/passwd": (0o644, 0),
    "etc/group": (0o644, 0),
}
FOLDERS = {"tmp": (0o1777, 0), "data": (0o700, 65532)}
PORTS = {f"{port}/tcp" for port in (80, 443, 6379, 8000, 9000)}
LABELS = ("title", "description", "licenses", "version", "revision")


def check(what, found, wanted):
    if found != wanted:
        sys.exit(f"inspect.py: {what} is {found!r}, should be {wanted!r}")


def main():
    archive = tarfile.open(sys.argv[1])
    (manifest,) = json.load(archive.extractfile("manifest.json"))
    check("the tag", manifest["RepoTags"], ["localhost/mainstay:latest"])
    image = json.load(archive.extractfile(manifest["Config"]))
    config = image["config"]
    check("the system", image["os"], "linux")
    check("the user", config["User"], "65532:65532")
    check("the entry point", config["Entrypoint"], ["/usr/bin/mainstay"])
    check("the command", config["Cmd"], ["serve"])
    check("the volumes", set(config["Volumes"]), {"/data"})
    check("the ports", set(config["ExposedPorts"]), PORTS)
    check("the stop signal", config["StopSignal"], "SIGTERM")
    check("the health check", config["Healthcheck"]["Test"], ["CMD", "/usr/bin/mainstay", "healthcheck"])
    labels = config["Labels"]
    check("labels that are missing", [name for name in LABELS if not labels.get(f"org.opencontainers.image.{name}")], [])
    environment = dict(line.split("=", 1) for line in config["Env"])
    check("the data folder", environment["MAINSTAY_DATA"], "/data")
    # Every door is reached from a neighbour container.
    narrow = {name: text for name, text in environment.items() if "__" in name and not text.startswith("0.0.0.0:")}
    check("doors that do not listen everywhere", narrow, {})

    files, folders, size = {}, {}, 0
    check("the layers' number", len(manifest["Layers"]), len(image["rootfs"]["diff_ids"]))
    for layer, digest in zip(manifest["Layers"], image["rootfs"]["diff_ids"]):
        data = archive.extractfile(layer).read()
        check(f"the digest of {layer}", "sha256:" + hashlib.sha256(data).hexdigest(), digest)
        for entry in tarfile.open(fileobj=archive.extractfile(layer)):
            path = entry.name.strip("./")
            if entry.isdir():
                folders[path] = (entry.mode & 0o7777, entry.uid)
            else:
                check(f"the kind of {path}", entry.type, tarfile.REGTYPE)
                files[path] = (entry.mode & 0o7777, entry.uid)
                size += entry.size
    check("the files", files, FILES)
    for path, wanted in FOLDERS.items():
        check(f"/{path}", folders.get(path), wanted)
    print(f"{len(files)} files, {size} bytes; user {config['User']}, {len(PORTS)} ports, health check, volume, labels")


if __name__ == "__main__":
    main()
