# The cases: their traffic and their figures.
import contextlib
import ipaddress
import json
import os
import subprocess
import time
from dataclasses import dataclass, field

from figures import Clock, process_cpu, process_memory
from peers import LAB, VIPS, Problem, run

# Figure: unit, and whether more is better.
FIGURES = {
    "delivered_mpps": ("Mpps", True), "loss_free_mpps": ("Mpps", True), "mbit_per_s": ("Mbit/s", True),
    "host_cpu_ns": ("ns per packet", False), "worker_cpu_ns": ("ns per packet", False),
    "writes_per_packet": ("", False), "memory_mib": ("MiB", False), "idle_cpu": ("% of a core", False),
    "median_us": ("µs", False), "p99_us": ("µs", False), "p999_us": ("µs", False),
}
BASELINE = "tc-bpf"
QUICK_PEERS = ["tc-bpf", "shuck", "shuck-single", "shuck-pod"]


@dataclass
class Point:
    """One row group of the table."""
    case: str
    name: str
    measure: object                       # (bench, peer) -> figures
    peers: tuple = None                   # None: all
    how: dict = field(default_factory=dict)       # what shuck is configured with
    around: object = None                 # a context that the node must be in: (bench) -> context manager
    quick: bool = False


class Rig:
    """The lab's namespaces on one machine: generator, node and pod."""

    def __init__(self, name, place):
        self.name, self.place, self.cpu = name, place, os.cpu_count() - 1

    def inside(self, where, *command):
        return ["ip", "netns", "exec", f"{self.name}-{where}", *[str(c) for c in command]]

    def generator(self, seconds, mode="ipip", size=64, flows=1024, burst=1, rate="max"):
        return self.inside(
            "balancer", LAB, "generate", "back", "--mode", mode, "--size", size, "--flows", flows, "--burst", burst,
            "--rate", rate, "--seconds", seconds, "--cpu", self.cpu)

    def generate(self, seconds, **traffic):
        return json.loads(run(*self.generator(seconds, **traffic)))


def delivered(place, peer):
    """What the pod got; that it is altered, doubled or reordered ends the bench."""
    sink = json.loads(run(*place.in_pod(LAB, "sink", "read", peer.device)))
    if sink["out_of_order"] or sink["duplicates"] or sink["wrong_length"] or sink["unknown_flow"]:
        raise Problem(f"{peer.name} altered the traffic: {sink}")
    return sink["packets"]


def flooded(place, peer, generate):
    """Sends once through a running peer: the figures, and what was sent and delivered."""
    run(*place.in_pod(LAB, "sink", "reset", peer.device))
    before, cpu, clock = peer.counts(), process_cpu(peer.processes()), Clock()
    sent = generate()
    time.sleep(0.2)   # what is on its way arrives
    busy, worker = clock.busy() - sent["waited_seconds"], process_cpu(peer.processes()) - cpu
    packets, after = delivered(place, peer), peer.counts()
    figures = {"delivered_mpps": packets / sent["seconds"] / 1e6, "host_cpu_ns": busy * 1e9 / max(packets, 1)}
    if peer.processes():
        figures["worker_cpu_ns"] = worker * 1e9 / max(packets, 1)
    if after:
        figures["writes_per_packet"] = (after["writes"] - before["writes"]) / max(after["packets"] - before["packets"], 1)
    return figures, sent, packets


def flood(memory=False, **traffic):
    def measure(bench, peer):
        with peer:
            figures = flooded(bench.place, peer, lambda: bench.rig.generate(bench.seconds, **traffic))[0]
            if memory and peer.processes():
                figures["memory_mib"] = process_memory(peer.processes())
            return figures
    return measure


def loss_free(bench, peer):
    """RFC 2544 section 26.1: the highest rate at which all that was sent arrives, to within 2 %.

    Trials are as long as --seconds, not the 60 s that the RFC asks for.
    """
    with peer:
        figures, sent, _ = flooded(bench.place, peer, lambda: bench.rig.generate(bench.seconds))
        good, best, bad = 0.0, 0.0, 1.1 * max(figures["delivered_mpps"], 0.01)
        while bad - good > 0.02 * bad and bad > 0.002:
            rate = (good + bad) / 2
            _, sent, packets = flooded(bench.place, peer,
                                       lambda: bench.rig.generate(bench.seconds, rate=int(rate * 1e6)))
            # To start and to end takes the generator some 20 ms, which short trials show.
            if packets == sent["sent"] and sent["pps"] >= 0.9e6 * rate:
                good, best = rate, sent["pps"] / 1e6
            else:
                bad = rate
        return {"loss_free_mpps": best}


def bulk(bench, peer):
    with peer:
        result = json.loads(run(*bench.rig.inside(
            "client", LAB, "push", VIPS["ipip"], 80, "--size", "1G" if bench.seconds < 1 else "4G", "--no-digest")))
        return {"mbit_per_s": result["mbit_per_s"]}


@contextlib.contextmanager
def beside(bench, traffic):
    """The generator's traffic meanwhile, for no longer than it is wanted."""
    if not traffic:
        yield
        return
    with subprocess.Popen(bench.rig.generator(60, **traffic), stdout=subprocess.DEVNULL) as process:
        try:
            time.sleep(0.3)   # until it has begun
            yield
        finally:
            process.terminate()


def latency(cpu, **traffic):
    """Requests at 4,000 per second, one at a time; the requests behind a late answer count from their due time."""
    def measure(bench, peer):
        with peer, beside(bench, traffic):
            result = json.loads(run(*bench.rig.inside(
                "client", "taskset", "-c", cpu, LAB, "pingpong", VIPS["ipip"], 7, "--rate", 4000,
                "--count", int(4000 * bench.seconds))))
            if result["lost"]:
                raise Problem(f"{peer.name} lost {result['lost']} answers")
            bench.distributions.setdefault((bench.point.name, peer.name), []).append(result["percentiles"])
            return {key: result[key] for key in ("median_us", "p99_us", "p999_us")}
    return measure


def idle(bench, peer):
    with peer:
        time.sleep(1)
        cpu, seconds = process_cpu(peer.processes()), 4
        time.sleep(seconds)
        cpu = process_cpu(peer.processes()) - cpu
        return {"idle_cpu": 100 * cpu / seconds, "memory_mib": process_memory(peer.processes())}


@contextlib.contextmanager
def serving(bench, *command):
    """A server of the lab in the pod."""
    server = subprocess.Popen(bench.place.in_pod(*command), stdout=subprocess.PIPE, text=True)
    try:
        if not server.stdout.readline():
            raise Problem(f"{command[-3]} did not start")
        yield
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def routes(bench, count):
    """So many IPv4 routes on the node, /24 to /32 in 11.0.0.0/8 and up, all back to the balancer."""
    def batch(verb):
        base = int(ipaddress.ip_address("11.0.0.0"))
        return "".join(f"route {verb} {ipaddress.ip_address(base + i * 256)}/{24 + i % 9} via 192.0.2.1\n"
                       for i in range(count))
    run("ip", "-n", f"{bench.rig.name}-node", "-batch", "-", input=batch("add"))
    try:
        yield
    finally:
        run("ip", "-n", f"{bench.rig.name}-node", "-batch", "-", input=batch("delete"))


def count_name(count):
    return f"{count // 1000000} M" if count >= 1000000 else f"{count // 1000} k"


def points():
    last = os.cpu_count() - 1
    def echo(bench, cpu=last):
        return serving(bench, "taskset", "-c", cpu, LAB, "echo", "--port", 7)
    joined = ("tc-bpf", "xdp", "naive", "kernel", "shuck", "shuck-single", "shuck-pod", "shuck-pod-single")
    short = ("tc-bpf", "xdp", "naive", "kernel", "shuck", "shuck-pod")
    listed = [
        Point("small", "small, 300 kpps offered", flood(rate=300000), quick=True),
        Point("small", "small, saturated", flood(), quick=True),
        *[Point("sizes", f"{size} bytes", flood(size=size), short) for size in (64, 512, 1400)],
        *[Point("flows", f"flows {flows}", flood(flows=flows), short) for flows in (1, 64, 1024, 65536)],
        *[Point("bursts", f"bursts of {burst}, {rate} kpps offered", flood(burst=burst, rate=rate * 1000), joined,
                quick=(burst, rate) == (8, 900)) for burst, rate in ((8, 300), (64, 300), (1, 900), (8, 900), (64, 900))],
        Point("imix", "IMIX 64:576:1400 7:4:1", flood(size="imix"), joined),
        *[Point("modes", mode, flood(mode=mode), short) for mode in VIPS],
        Point("bulk", "one TCP stream", bulk, quick=True, around=lambda b: serving(b, LAB, "serve", "--port", 80)),
        # Interrupt, worker and pod share a core; or a spinning worker has its own core.
        Point("latency", "round trip, one CPU, busyPoll 0us", latency(last), quick=True, how={"cpus": last}, around=echo),
        *[Point("latency", f"round trip, another CPU, busyPoll {wait}", latency(last), ("tc-bpf", "shuck", "shuck-pod"),
                how={"busy_poll": wait}, around=echo) for wait in ("50us", "1ms")],
        # The cost of moderation for a lone packet. The generator has its own CPU.
        Point("latency", "round trip beside bursts of 64, 100 kpps", latency(0, burst=64, rate=100000),
              ("tc-bpf", "shuck", "shuck-pod"), how={"cpus": 0}, around=lambda b: echo(b, 0)),
        Point("lossfree", "loss-free rate (RFC 2544)", loss_free, ("tc-bpf", "xdp", "naive", "shuck", "shuck-pod")),
        *[Point("routes", f"{count_name(count)} routes", flood(memory=True), ("tc-bpf", "kernel", "shuck"),
                around=lambda b, n=count: routes(b, n)) for count in (1000, 100000, 1000000)],
        *[Point("tunnels", f"tunnels {count}", flood(memory=True), ("tc-bpf", "shuck"), how={"tunnels": count})
          for count in (1, 16, 256)],
        *[Point("workers", f"workers {count}", flood(), ("tc-bpf", "shuck", "shuck-pod"),
                how={"cpus": "0" if count == 1 else "0-1"}) for count in (1, 2)],
        Point("idle", "idle", idle, ("naive", "shuck", "shuck-pod")),
    ]
    return listed


def cases():
    return list(dict.fromkeys(point.case for point in points()))
