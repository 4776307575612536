"""Starting, watching and ending the processes of a benchmark; each is known by its pid."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A measurement that cannot be trusted or made; the message says why."""


def free_ports(n):
    """Each another one."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def free_port():
    return free_ports(1)[0]


def run(argv, timeout, **options):
    """Runs to the end; what it printed. Fails when it does."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[0]} took longer than {timeout:.0f} s") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, argv))[:200]} failed: {(done.stderr or done.stdout)[-800:]}")
    return done.stdout


class CpuShare:
    """A control group that gets so much of one core, in turns of 20 ms. Of version 1 or 2; wants root."""

    def __init__(self, share, pid):
        root, quota = pathlib.Path("/sys/fs/cgroup"), round(share * 20_000)
        one = (root / "cpu/cpu.cfs_quota_us").exists()
        self.group = root / ("cpu" if one else "") / f"fairsale-bench-{pid}"
        try:
            if not one:
                (root / "cgroup.subtree_control").write_text("+cpu")
            self.group.mkdir()
            if one:
                (self.group / "cpu.cfs_period_us").write_text("20000")
                (self.group / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (self.group / "cpu.max").write_text(f"{quota} 20000")
            (self.group / "cgroup.procs").write_text(str(pid))
        except OSError as e:
            self.remove()
            raise Failed(f"a share of a core cannot be given: {e}") from None

    def remove(self):
        with contextlib.suppress(OSError):
            self.group.rmdir()


class Process:
    """A server of ours. It also ends when this process does. It gets `share` of a core, if that is
    given."""

    def __init__(self, argv, log, user=None, share=None):
        wrapped = ["setpriv", "--pdeathsig", "TERM"]
        if user:
            wrapped += ["--reuid", user, "--regid", user, "--init-groups"]
        self.log = log
        with open(log, "ab") as out:
            self.child = subprocess.Popen([*wrapped, *argv], stdout=out, stderr=out,
                                          stdin=subprocess.DEVNULL, start_new_session=True)
        self.share = None
        if share:
            try:
                self.share = CpuShare(share, self.pid)
            except Failed:
                self.stop()
                raise

    @property
    def pid(self):
        return self.child.pid

    def wait_until(self, ready, what, timeout=30):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.child.poll() is not None:
                break
            if ready():
                return
            time.sleep(0.01)
        with open(self.log, errors="replace") as f:
            tail = f.read()[-800:]
        raise Failed(f"{what} did not start: {tail}")

    def stop(self, how=signal.SIGTERM, timeout=60):
        if self.child.poll() is not None:
            return
        os.kill(self.pid, how)
        try:
            self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)  # its own session, which we began
            self.child.wait()
        if self.share:
            self.share.remove()

    def pids(self):
        """This process and its children."""
        found = [self.pid]
        for name in os.listdir("/proc"):
            if name.isdigit():
                fields = stat_of(int(name))
                if fields and int(fields[1]) == self.pid:
                    found.append(int(name))
        return found

    def cpu_seconds(self):
        """Of this process and its children, those that have ended included."""
        ended = stat_of(self.pid)
        return (sum(cpu_of(pid) for pid in self.pids()) +
                (int(ended[13]) + int(ended[14])) / TICKS if ended else 0.0)

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def stat_of(pid):
    """The fields of /proc/PID/stat from the state on, or None."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def cpu_of(pid):
    fields = stat_of(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False
