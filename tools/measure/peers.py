# The peers that strip the outer header: shuck, programs in the kernel, the kernel's own tunnels, a naive loop.
import json
import os
import subprocess
import time
from pathlib import Path

from figures import ROOT

LAB = ROOT / ".build/lab/lab"
VIPS = {"ipip": "203.0.113.4", "ip6ip": "2001:db8:f::4", "ipip6": "203.0.113.6", "ip6ip6": "2001:db8:f::6"}


def with_children(process):
    children = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [process, *map(int, children.split())]


class Problem(Exception):
    """A problem that ends the bench: a sentence, and the exit code."""

    def __init__(self, text, code=1):
        super().__init__(text)
        self.code = code


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **options).stdout


def wait_for(ready, what, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.02)
    raise Problem(f"{what} is not ready after {seconds} s")


class Place:
    """The host under test: a command's prefix for its namespace, its interface, and the pod behind it."""

    def __init__(self, node, interface, veth, pod, local, remotes, modes=tuple(VIPS)):
        self.node, self.interface, self.veth, self.pod, self.modes = node, interface, veth, pod, modes
        self.local, self.remotes = local, remotes   # outer addresses: ours, and who may encapsulate

    def on_node(self, *command):
        return [*self.node, *[str(c) for c in command]]

    def in_pod(self, *command):
        return ["ip", "netns", "exec", self.pod, *[str(c) for c in command]]


class Peer:
    name = title = ""
    takes_offloads = True    # frames that GRO or TSO made long, and unfinished checksums
    device = "eth0"          # where the pod gets its packets

    def __init__(self, place):
        self.place = place

    def missing(self):
        """Why this host lacks it; None when it is here."""

    def __enter__(self):
        self.start()
        if self.device != "eth0":
            run(*self.place.in_pod(LAB, "sink", "attach", self.device))
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError

    def processes(self):
        return []

    def counts(self):
        """Packets that it took and writes that it made since its start, where it works in user space."""
        return {}


class Program(Peer):
    """A BPF program of the lab on the node's interface."""

    def __init__(self, place, name, title, *options):
        super().__init__(place)
        self.name, self.title, self.options = name, title, options

    def missing(self):
        tried = subprocess.run(self.place.on_node(LAB, "decap", "attach", self.place.interface, *self.options),
                               capture_output=True, text=True)
        self.stop()
        return tried.stderr.strip() if tried.returncode else None

    def start(self):
        run(*self.place.on_node(LAB, "decap", "attach", self.place.interface, *self.options))

    def stop(self):
        run(*self.place.on_node(LAB, "decap", "detach", self.place.interface))


class Kernel(Peer):
    name, title = "kernel", "the kernel's ipip, sit and ip6tnl devices, the kernel routes on"
    links = (("benchipip", "ipip", "4", "any"), ("benchsit", "sit", "4", "ip6ip"), ("benchtnl", "ip6tnl", "6", "any"))

    def missing(self):
        try:
            self.start()
        except subprocess.CalledProcessError as error:
            kind = error.cmd[error.cmd.index("type") + 1]
            return f"{kind}: {error.stderr.strip()} (modprobe ipip sit ip6_tunnel)"
        finally:
            self.stop()

    def start(self):
        for name, kind, family, mode in self.links:
            if not self.place.local.get(family):
                continue
            run(*self.place.on_node("ip", "link", "add", name, "type", kind, "local", self.place.local[family],
                                    "remote", "any", "mode", mode))
            run(*self.place.on_node("ip", "link", "set", name, "up"))

    def stop(self):
        for name, *_ in self.links:
            subprocess.run(self.place.on_node("ip", "link", "delete", name), capture_output=True)


class Naive(Peer):
    name, title = "naive", "a loop of recv on a raw socket and write to a TUN device, the kernel routes on"
    takes_offloads = False

    def start(self):
        self.process = subprocess.Popen(self.place.on_node("taskset", "-c", "0", LAB, "naive", "naive0"),
                                        stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():
            raise Problem("the naive loop did not start")
        run(*self.place.on_node("sh", "-c", "ip address add 127.0.0.43/32 dev naive0 scope host; ip link set naive0 up; "
                                "echo 2 >/proc/sys/net/ipv4/conf/naive0/rp_filter"))

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def processes(self):
        return with_children(self.process.pid)


class Shuck(Peer):
    def __init__(self, place, name, title, binary, work, *, pod=False, coalesce=True, cpus="0", busy_poll="0us", tunnels=1,
                 wrapper=()):
        super().__init__(place)
        self.name, self.title, self.binary = name, title, binary
        self.socket, self.config = f"{work}/shuck.sock", Path(work) / "shuck.yaml"
        self.wrapper = wrapper
        self.pod, self.coalesce, self.cpus, self.busy_poll, self.tunnels = pod, coalesce, cpus, busy_poll, tunnels
        if pod:
            self.device = "shuck0"

    def configuration(self):
        device = f", netns: /run/netns/{self.place.pod}" if self.pod else ""
        # The tunnel that the traffic is in comes last.
        tunnels = [(f"other{i}", f'[10.{192 + i // 250}.{i % 250}.1, "2001:db8:7:{i:x}::1"]')
                   for i in range(self.tunnels - 1)]
        tunnels.append(("lvs", json.dumps(list(self.place.local.values()))))
        return "\n".join([
            f"interfaces: [{self.place.interface}]", "tunnels:",
            *[f'  - {{name: {name}, local: {local}, remotes: {json.dumps(self.place.remotes)}, '
              f'modes: [{", ".join(self.place.modes)}], destinations: '
              '[{prefix: 203.0.113.0/24}, {prefix: "2001:db8:f::/64"}]}' for name, local in tunnels],
            f"devices: [{{name: shuck0{device}}}]",
            f'workers: {{cpus: "{self.cpus}", busyPoll: {self.busy_poll}, coalesce: {"on" if self.coalesce else "off"}}}',
            f"admin: {{socket: {self.socket}}}", "log: {level: error}", ""])

    def get(self, path):
        return subprocess.run(["curl", "-s", "--unix-socket", self.socket, f"http://shuck{path}"],
                              capture_output=True, text=True).stdout

    def start(self):
        self.config.write_text(self.configuration())
        self.process = subprocess.Popen(self.place.on_node(*self.wrapper, self.binary, "run", "--config", self.config))
        wait_for(lambda: self.process.poll() is not None or self.get("/readyz") == "ok\n", "shuck")
        if self.process.poll() is not None:
            raise Problem(f"shuck ended with {self.process.returncode}", 3)

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def processes(self):
        return with_children(self.process.pid)

    def status(self):
        return json.loads(self.get("/status"))

    def counts(self):
        packets = self.status()["packets"]
        fates = sum(packets[k] for k in ("injected", "passed", "held", "dropped", "replied"))
        if packets["received"] != fates:
            raise Problem(f"received {packets['received']} frames, {fates} fates")
        return {"packets": packets["injected"], "writes": packets["writes"], "ring_dropped": packets["ringDropped"]}


def again(peer):
    """The same peer once more: what it differs from itself is the noise."""
    twin = Program(peer.place, peer.name + " again", peer.title, *peer.options)
    return twin


def titles():
    """What each peer is, by its name."""
    return {peer.name: peer.title for peer in everyone(Place([], "", "", "", {}, []), None, "/")}


def everyone(place, binary, work, **how):
    """All peers, the one that the others are compared with first."""
    return [
        Program(place, "tc-bpf", "a BPF program at tc ingress strips, the kernel routes on"),
        Program(place, "tc-bpf-peer", "a BPF program at tc ingress strips, and hands straight to the pod", "--redirect-peer", place.veth),
        Program(place, "xdp", "an XDP program strips, the kernel routes on", "--xdp"),
        Naive(place), Kernel(place),
        Shuck(place, "shuck", "shuck, the kernel routes on", binary, work, **how),
        Shuck(place, "shuck-single", "shuck, packets not joined (`coalesce: off`)", binary, work, coalesce=False, **how),
        Shuck(place, "shuck-plain", "shuck without io_uring, plain writes", binary, work, wrapper=(LAB, "without-io_uring"), **how),
        Shuck(place, "shuck-pod", "shuck, its device inside the pod", binary, work, pod=True, **how),
        Shuck(place, "shuck-pod-single", "shuck, its device inside the pod, packets not joined", binary, work, pod=True, coalesce=False, **how),
    ]
