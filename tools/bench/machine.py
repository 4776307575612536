"""What the figures were taken on."""
import os
import pathlib
import platform
import re
import time

from processes import Failed, run


def first_match(pattern, text, default="unknown"):
    found = re.search(pattern, text, re.M)
    return found.group(1).strip() if found else default


def mount_of(directory):
    """Device, file system and options that hold the directory."""
    best = ("?", "", "?", "?")
    path = str(pathlib.Path(directory).resolve())
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        device, where, kind, options = line.split()[:4]
        inside = path == where or path.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best[1]):
            best = (device, where, kind, options)
    return best


def sync_milliseconds(directory, times=200):
    """Median time of an append of 4 KiB and fdatasync."""
    file = pathlib.Path(directory) / "sync-trial"
    taken = []
    fd = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(times):
            start = time.perf_counter()
            os.write(fd, b"x" * 4096)
            os.fdatasync(fd)
            taken.append(time.perf_counter() - start)
    finally:
        os.close(fd)
        file.unlink()
    return 1000 * sorted(taken)[times // 2]


def version(argv, pattern):
    try:
        return first_match(pattern, run(argv, 20))
    except (Failed, OSError):
        return "not installed"


def package(name):
    return version(["dpkg-query", "-W", "-f", "${Version}", name], r"(\S+)")


def describe(bench):
    device, _, kind, options = mount_of(bench.directory)
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    memory = pathlib.Path("/proc/meminfo").read_text()
    release = pathlib.Path("/etc/os-release").read_text()
    commit = version(["git", "-C", str(bench.root), "rev-parse", "--short", "HEAD"], r"(\S+)")
    return {
        "CPU": f"{first_match(r'model name.*: (.*)', cpu)}, {os.cpu_count()} cores"
               + (", virtual" if " hypervisor" in cpu else ""),
        "memory": f"{int(first_match(r'MemTotal: *([0-9]+)', memory, '0')) // 1024} MiB",
        "kernel": platform.release(),
        "system": first_match(r'PRETTY_NAME="(.*)"', release),
        "disk": f"{kind} on {device} ({options}); append of 4 KiB + fdatasync: "
                f"{sync_milliseconds(bench.directory):.3f} ms (median of 200)",
        "load before": " ".join(f"{x:.2f}" for x in os.getloadavg()),
        "fairsale": version([bench.binaries / "fairsaled", "--version"], r"(.*)")
                    + f", commit {commit}",
        "compiler": version(["c++", "--version"], r"(.*)"),
        "RocksDB": package("librocksdb7.8"),
        "Redis": package("redis-server"),
        "nginx": f"{package('nginx')}, lua module {package('libnginx-mod-http-lua')}, "
                 f"lua-nginx-redis {package('lua-nginx-redis')}",
        "PostgreSQL": package("postgresql-15"),
        "wrk": package("wrk"),
    }
