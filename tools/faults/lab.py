# A rig of namespaces with a shuck on its node, and a numbered stream of packets through it while something is done to it.
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LAB = ROOT / ".build/lab/lab"
RIG = ROOT / "tools/lab/rig"
VIPS = ("203.0.113.0/24", "2001:db8:f::/64")


class Problem(Exception):
    """What ends a run: a sentence."""


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise Problem(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_for(ready, what, seconds=20.0):
    """Returns the seconds until it held."""
    start = time.monotonic()
    while not ready():
        if time.monotonic() > start + seconds:
            raise Problem(f"{what}: not within {seconds} s")
        time.sleep(0.002)
    return time.monotonic() - start


def release_build():
    """The path of a shuck that is built with optimisation."""
    command = ["swift", "build", "-c", "release", "--product", "shuck"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return run(*command[:4], "--show-bin-path", cwd=ROOT).strip() + "/shuck"


class Rig:
    """Client, balancer, node and pod, as tools/lab/rig makes them."""

    def __init__(self, work, offloads="off"):
        self.work, self.name, self.offloads = Path(work), f"chaos{os.getpid()}", offloads

    def __enter__(self):
        run(RIG, "up", self.name, "--offloads", self.offloads)
        return self

    def __exit__(self, *_):
        run(RIG, "down", self.name)

    def namespace(self, place):
        return f"{self.name}-{place}"

    def inside(self, place, *command):
        return ["ip", "netns", "exec", self.namespace(place), *map(str, command)]

    def do(self, place, *command):
        return run(*self.inside(place, *command))

    def ip(self, place, *command):
        return run("ip", "-n", self.namespace(place), *command)

    def batch(self, place, lines):
        return run("ip", "-n", self.namespace(place), "-batch", "-", input=lines)


class Connection(http.client.HTTPConnection):
    """HTTP over the admin socket."""

    def __init__(self, path):
        super().__init__("shuck", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Shuck:
    """One daemon on the node."""

    def __init__(self, rig, binary, more="", devices="", name="shuck", log=None, wrapper=(), manager=None):
        self.rig, self.binary, self.more, self.devices, self.wrapper = rig, binary, more, devices, wrapper
        self.manager = manager
        self.socket = str(rig.work / f"{name}.sock")
        self.config = rig.work / f"{name}.yaml"
        self.log_path = Path(log or rig.work / f"{name}.log")
        self.configure()

    def configure(self, more=""):
        """Writes the configuration, with more keys than it has from the start."""
        prefixes = "\n".join(f'      - {{prefix: "{prefix}"}}' for prefix in VIPS)
        self.config.write_text(f"""interfaces: [eth0]
tunnels:
  - name: lvs
    local: [192.0.2.2, "2001:db8:1::2"]
    remotes: [192.0.2.1, "2001:db8:1::1"]
    destinations:
{self.devices}{prefixes}
admin: {{socket: "{self.socket}"}}
workers: {{cpus: "0"}}
{self.more}
{more}
""")

    def command(self, *options):
        return self.rig.inside("node", *self.wrapper, self.binary, "run", "--config", self.config, *options)

    def start(self, *options):
        with open(self.log_path, "a") as log:
            if self.manager:
                self.process = self.manager.start(self.command(*options), log)
            else:
                self.process = subprocess.Popen(self.command(*options), stdout=log, stderr=log)
        wait_for(self.is_ready, "shuck to be ready")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        self.process.wait()

    def ask(self, method, path):
        """(status, body), or None while nobody answers."""
        connection = Connection(self.socket)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return None
        finally:
            connection.close()

    def is_ready(self):
        if self.process.poll() is not None:
            raise Problem(f"shuck ended with {self.process.returncode}: {self.log()[-500:]}")
        answer = self.ask("GET", "/readyz")
        return answer is not None and answer[0] == 200

    def log(self):
        return self.log_path.read_text(errors="replace")

    def change(self, more=""):
        """Another configuration, in force when this returns."""
        self.configure(more)
        status, text = self.reload()
        if status != 200:
            raise Problem(f"a reload was refused: {text.strip()}")

    def status(self):
        answer = self.ask("GET", "/status")
        if answer is None:
            raise Problem("no answer to GET /status")
        return json.loads(answer[1])

    def packets(self):
        return self.status()["packets"]

    def engine(self):
        """The process that forwards."""
        return self.status()["engineProcessID"]

    def processes(self):
        return [self.process.pid, self.engine()]

    def metric(self, series):
        """The sum of the series that begin so."""
        page = self.ask("GET", "/metrics")[1]
        return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(series))

    def thread(self, name):
        engine = self.engine()
        for task in Path(f"/proc/{engine}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                return int(task.name)
        raise Problem(f"process {engine} has no thread {name}")

    def reload(self):
        answer = self.ask("POST", "/reload")
        if answer is None:
            raise Problem("no answer to a reload")
        return answer


class Manager:
    """What systemd does for a unit with FileDescriptorStoreMax=: it keeps descriptors and hands them to the next process."""

    def __init__(self, work):
        self.path = str(Path(work) / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.store, self.states = {}, []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                text, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 253)
            except OSError:
                return
            words = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
            name = words.get("FDNAME", "stored")
            if words.get("FDSTORE") == "1":
                for descriptor in descriptors:
                    self.store.setdefault(name, []).append(descriptor)
            elif words.get("FDSTOREREMOVE") == "1":
                for descriptor in self.store.pop(name, []):
                    os.close(descriptor)
            else:
                self.states.append(words)
                for descriptor in descriptors:   # BARRIER=1
                    os.close(descriptor)

    def start(self, command, log):
        """Starts a process as the unit's main one."""
        held = [(name, descriptor) for name, all_of in self.store.items() for descriptor in all_of]
        environment = dict(os.environ, NOTIFY_SOCKET=self.path, FDSTORE="1024", LISTEN_FDS=str(len(held)),
                           LISTEN_FDNAMES=":".join(name for name, _ in held))
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 2000) for _, descriptor in held]

        def arrange():
            for number, descriptor in enumerate(high, 3):
                os.dup2(descriptor, number)

        process = subprocess.Popen(
            ["sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh", *map(str, command)], stdout=log, stderr=log,
            env=environment, preexec_fn=arrange, pass_fds=range(3, 3 + len(held)))
        for descriptor in high:
            os.close(descriptor)
        return process

    def close(self):
        self.socket.close()
        for all_of in self.store.values():
            for descriptor in all_of:
                os.close(descriptor)


class Stream:
    """Numbered packets from the balancer to the pod, while the body of a `with` runs; then `result`."""

    def __init__(self, rig, rate, seconds=120, *options, pod="pod"):
        self.rig = rig
        self.command = [str(LAB), "stream", rig.namespace("balancer"), "back", rig.namespace(pod),
                        "--rate", str(rate), "--seconds", str(seconds), *map(str, options)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.head = self.process.stdout.read(4096)   # what it prints before the first packet
        if not self.head:
            raise Problem(self.process.stderr.read().decode().strip())
        time.sleep(0.3)   # a fault in the first moment would hide that nothing came
        return self

    def __exit__(self, kind, *_):
        time.sleep(0.3)
        self.process.send_signal(signal.SIGINT)
        output, errors = self.process.communicate(timeout=60)
        if self.process.returncode and not kind:
            raise Problem(errors.decode().strip())
        if not kind:
            self.result = json.loads(self.head + output)


LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WAIT_ALL = 17, 0x4206, 0x4207, 0x40000000


def ptrace(request, thread):
    if LIBC.ptrace(request, thread, None, None) < 0:
        raise Problem(f"ptrace of {thread}: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def held(thread):
    """A thread of another process that stands still as long as the body of the `with` runs."""
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, WAIT_ALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, thread)


@contextlib.contextmanager
def in_background(command):
    """A process that runs as long as the body of the `with`."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
