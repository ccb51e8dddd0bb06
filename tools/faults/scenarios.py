# The faults of docs/reliability.md: what is done to a running shuck, how often, and what may come of it.
import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from lab import LAB, Manager, Problem, Shuck, Stream, held, in_background, run, wait_for


@dataclasses.dataclass
class Outcome:
    """What one run of a fault did to the stream."""

    sent: int
    lost: int           # between the fault's begin and its repair; of those, `counted` by shuck
    stray: int          # lost at other times
    twice: int
    late: int
    altered: int
    silence_ms: float   # the longest time without a packet
    recovery_ms: float  # from the end of the fault to the last packet that was lost by it, or as measured by the fault
    counted: int
    ring: int           # of those, what the kernel had no slot for
    complaints: list    # what else was not as it should be


AFTER = 1   # seconds behind a fault's end in which a loss is still the fault's


@dataclasses.dataclass
class Trial:
    """One fault in the middle of a stream: CLOCK_MONOTONIC in ns, and what shuck counted."""

    began: int
    ended: int
    recovery: float | None   # seconds, if the fault measured them
    before: dict             # shuck's counts before it
    after: dict | None = None
    counted: int = 0
    ring: int = 0
    complaints: list = dataclasses.field(default_factory=list)
    closed: int | None = None   # until when losses are still its own; None: AFTER its end

    def losses(self, result):
        """The windows of a stream's losses that belong to it, and the seconds of the stream at which it ended."""
        closed = self.closed or self.ended + AFTER * 10**9
        began, ended, closed = ((at - result["start_ns"]) / 1e9 for at in (self.began, self.ended, closed))
        # A loss window begins with the fault or behind it; a frame that was under way belongs to it.
        return [w for w in result["losses"] if w[1] >= began - 0.05 and w[0] <= closed], ended

    def outcome(self, result, others=0):
        """Of a stream that lost `others` packets by other faults."""
        own, ended = self.losses(result)
        lost = sum(window[2] for window in own)
        recovery = self.recovery if self.recovery is not None else max([0.0, *(w[1] - ended for w in own)])
        return Outcome(
            sent=result["sent"], lost=lost, stray=result["lost"] - lost - others, twice=result["twice"],
            late=result["late"], altered=result["altered"], silence_ms=result["longest_gap_ms"],
            recovery_ms=1000 * recovery, counted=self.counted, ring=self.ring, complaints=self.complaints)


class Fault:
    """One row. `inject` is called in the middle of a stream and returns when its cause is gone."""

    name = title = criterion = ""
    runs, short_runs = 10, 1
    lost_most, twice_most, recovery_most_ms = 0, 0, 100.0
    needs_all_counted = False
    more, devices, offloads = "", "", "off"
    wrapper, log = (), None   # of shuck
    is_soaked = True          # process and threads go on, so that a long run can follow what they hold

    def prepare(self, rig):
        """Before shuck starts."""

    def begin(self, rig, shuck):
        """Before the fault: whatever an earlier run of it took away is there again."""

    def inject(self, rig, shuck):
        """The fault; returns seconds of recovery if it measured them itself."""

    def check(self, rig, shuck):
        """After the stream: complaints."""
        return []

    def stream(self, rig, rate):
        return Stream(rig, rate)

    def end(self, rig):
        """After the last run."""

    def shuck(self, rig, binary):
        return Shuck(rig, binary, self.more, self.devices, log=self.log, wrapper=self.wrapper)

    def act(self, rig, shuck):
        """In the middle of a stream."""
        before = shuck.packets()
        began = time.monotonic_ns()
        measured = self.inject(rig, shuck)
        return Trial(began, time.monotonic_ns(), measured, before)

    def conclude(self, rig, shuck, trial):
        """When nothing of the fault is under way any more."""
        trial.complaints = self.check(rig, shuck)
        wait_for(shuck.is_ready, "shuck to be ready again")
        trial.after = shuck.packets()
        refused, trial.ring = (trial.after[key] - trial.before[key] for key in ("dropped", "ringDropped"))
        trial.counted = refused + trial.ring

    def once(self, rig, shuck, rate):
        self.begin(rig, shuck)
        with self.stream(rig, rate) as stream:
            trial = self.act(rig, shuck)
        self.conclude(rig, shuck, trial)
        return trial.outcome(stream.result)

    def judge(self, outcome, is_quiet=True):
        """What of an outcome does not meet the row's criterion. A host with other work may overrun the ring, which is
        counted, and says nothing about times."""
        found = list(outcome.complaints)
        spare = 0 if is_quiet else outcome.ring
        for what, value, most in [
            ("lost", outcome.lost - spare, self.lost_most), ("lost outside the fault", outcome.stray - spare, 0),
            ("twice", outcome.twice, self.twice_most), ("late", outcome.late, 0), ("altered", outcome.altered, 0),
        ]:
            if most is not None and value > most:
                found.append(f"{value} {what}, {most} allowed")
        if is_quiet and self.recovery_most_ms is not None and outcome.recovery_ms > self.recovery_most_ms:
            found.append(f"recovery {outcome.recovery_ms:.0f} ms, {self.recovery_most_ms:.0f} allowed")
        if self.needs_all_counted and outcome.counted != outcome.lost:
            found.append(f"{outcome.lost} lost, shuck counted {outcome.counted}")
        return found


class Reload(Fault):
    name, title, runs = "F3", "reload, two configurations in turn, 100 at a time", 10
    criterion = "0 lost, 0 twice; a bad one is refused and changes nothing"
    count = 100

    def inject(self, rig, shuck):
        for number in range(self.count):
            shuck.change("mss: {ipv4: 1300}" if number % 2 else "reversePath: {mode: feasible}")
        shuck.config.write_text("interfaces: []\n")
        if shuck.reload()[0] != 409:
            raise Problem("a bad configuration was not refused")
        shuck.change()


class Upgrade(Fault):
    name, title, runs = "F4", "the binary upgrades itself (`shuck upgrade`), with a reload before and behind it", 20
    criterion = "0 lost, 0 twice; the process id stays; counters go on"
    recovery_most_ms, is_soaked = None, False

    def inject(self, rig, shuck):
        shuck.change("mss: {ipv4: 1300}")
        before = shuck.status()
        run(shuck.binary, "upgrade", "--socket", shuck.socket)
        after = shuck.status()
        if after["processID"] != before["processID"] or after["handOvers"] != before["handOvers"] + 2:
            raise Problem("another process answers, or none took over")
        if after["packets"]["received"] < before["packets"]["received"]:
            raise Problem("counters went back")
        shuck.change()


class TakeOver(Fault):
    name, title, runs = "F4b", "another shuck takes over (`shuck run --take-over`), with another configuration", 20
    criterion = "0 lost, 0 twice; the old process exits with 0; counters go on"
    recovery_most_ms, is_soaked = None, False

    def inject(self, rig, shuck):
        before = shuck.packets()["received"]
        shuck.configure("reversePath: {mode: feasible}")
        old = shuck.process
        shuck.start("--take-over")
        if old.wait(20):
            raise Problem(f"the old process ended with {old.returncode}")
        wait_for(lambda: "feasible" in (shuck.ask("GET", "/config") or ("", ""))[1], "its own configuration", 5)
        if shuck.packets()["received"] < before:
            raise Problem("counters went back")


class InterfaceDown(Fault):
    name, title, runs = "F5", "the receiving interface goes down for 200 ms and comes up", 100
    criterion = "receives again within 100 ms, same ring"
    short_runs = 2

    def inject(self, rig, shuck):
        rig.ip("node", "link", "set", "eth0", "down")
        time.sleep(0.2)
        rig.ip("node", "link", "set", "eth0", "up")
        # Its IPv6 address and its routes go with it; whoever configures the host brings them back.
        rig.batch("node", ROUTES)
        return wait_for_arrival(shuck)

    lost_most = None


# What `ip link set eth0 down` removes from the rig's node.
ROUTES = """address replace 2001:db8:1::2/64 dev eth0 nodad
neighbour replace 192.0.2.1 lladdr 02:00:00:00:02:01 dev eth0 nud permanent
neighbour replace 2001:db8:1::1 lladdr 02:00:00:00:02:01 dev eth0 nud permanent
route replace default via 192.0.2.1
route replace default via 2001:db8:1::1
"""


def wait_for_arrival(shuck):
    """Seconds until shuck injects again."""
    first = shuck.packets()["injected"]
    return wait_for(lambda: shuck.packets()["injected"] > first, "packets to be injected again", 10)


class InterfaceMadeAgain(Fault):
    name, title, runs = "F6", "the receiving interface is deleted and made again", 20
    criterion = "receives from the new one within 200 ms"
    short_runs, recovery_most_ms, lost_most = 1, 200.0, None

    def inject(self, rig, shuck):
        rig.ip("node", "link", "delete", "eth0")
        time.sleep(0.2)
        rig.ip("node", "link", "add", "eth0", "address", "02:00:00:00:02:02", "type", "veth", "peer", "back",
               "netns", rig.namespace("balancer"), "address", "02:00:00:00:02:01")
        rig.batch("balancer", "link set back up\naddress add 192.0.2.1/24 dev back\n"
                  "address add 2001:db8:1::1/64 dev back nodad\n")
        rig.batch("node", "link set eth0 up\naddress add 192.0.2.2/24 dev eth0\n" + ROUTES)
        return wait_for_arrival(shuck)


class DeviceDown(Fault):
    name, title, runs = "F7", "somebody sets the TUN device down", 20
    criterion = "shuck sets it up again within 100 ms; what it could not inject is counted"
    lost_most, needs_all_counted = None, True

    def inject(self, rig, shuck):
        rig.ip("node", "link", "set", "shuck0", "down")


class DeviceDeleted(Fault):
    name, title, runs = "F8", "somebody deletes the TUN device", 20
    criterion = "made again within 100 ms; what it could not inject is counted"
    lost_most, needs_all_counted = None, True

    def inject(self, rig, shuck):
        rig.ip("node", "link", "delete", "shuck0")


class PodGone(Fault):
    name, title, runs = "F9", "the namespace of another pod with a device is deleted", 20
    criterion = "0 lost to this pod; the namespace is not kept alive; its end noticed within 50 ms"
    recovery_most_ms = 50.0

    @property
    def devices(self):
        return '      - {prefix: 203.0.113.77, device: other0}\n'

    def prepare(self, rig):
        self.path = f"/run/netns/{rig.namespace('other')}"
        self.make(rig)
        self.more = f"devices: [{{name: shuck0}}, {{name: other0, netns: {self.path}, mtu: 1280}}]"

    def make(self, rig):
        if not os.path.exists(self.path):
            run("ip", "netns", "add", rig.namespace("other"))

    def begin(self, rig, shuck):
        self.make(rig)
        wait_for(lambda: self.state(shuck) == "up", "the other pod's device")

    def end(self, rig):
        subprocess.run(["ip", "netns", "delete", rig.namespace("other")], capture_output=True)

    def state(self, shuck):
        return shuck.status()["devices"][1]["state"]

    def inject(self, rig, shuck):
        identity = run("stat", "-Lc", "%i", self.path).strip()
        run("ip", "netns", "delete", rig.namespace("other"))
        seconds = wait_for(lambda: self.state(shuck) != "up", "the end of the other pod's device", 5)
        if any(link.endswith(f"[{identity}]") for process in shuck.processes() for link in namespaces_of(process)):
            raise Problem("a thread of shuck keeps the namespace alive")
        return seconds


def namespaces_of(process):
    text = subprocess.run(f"readlink /proc/{process}/task/*/ns/net", shell=True, capture_output=True, text=True)
    return text.stdout.split()


class RouteStorm(Fault):
    name, title, runs, routes = "F10", "100,000 routes are added and deleted", 5, 100_000
    criterion = "0 lost; the mirror holds what the kernel holds"
    lost_most = 0

    def inject(self, rig, shuck):
        for verb in ("add", "del"):
            rig.batch("node", "".join(
                f"route {verb} 10.{100 + i // 65536}.{i // 256 % 256}.{i % 256}/32 via 10.2.1.9\n"
                for i in range(self.routes)))
        wait_for(lambda: self.count(shuck) < 100, "the mirror to follow", 30)

    def count(self, shuck):
        return shuck.metric('shuck_routes{family="ipv4"}')


class NoticesLost(RouteStorm):
    name, title, runs = "F11", "the engine's control thread is held while 100,000 routes change, so that rtnetlink's buffer overflows", 5
    criterion = "0 lost; the routes are read again and the mirror holds what the kernel holds"

    def inject(self, rig, shuck):
        before = self.resyncs(shuck)
        with held(shuck.engine()):
            rig.batch("node", "".join(f"route add 10.{100 + i // 65536}.{i // 256 % 256}.{i % 256}/32 via 10.2.1.9\n"
                                      for i in range(self.routes)))
        wait_for(lambda: self.count(shuck) > self.routes, "the mirror to follow", 30)
        if self.resyncs(shuck) == before:
            raise Problem("no notice was lost: the test proves nothing")
        rig.batch("node", "".join(f"route del 10.{100 + i // 65536}.{i // 256 % 256}.{i % 256}/32\n"
                                  for i in range(self.routes)))
        wait_for(lambda: self.count(shuck) < 100, "the mirror to follow", 30)

    def resyncs(self, shuck):
        return shuck.metric('shuck_routes_resyncs_total{reason="lost"}')


class NoRing(Fault):
    name, title, runs = "F14", "io_uring is refused (seccomp, EPERM) from the start, 3 s", 10
    criterion = "plain writes, named in status; 0 lost"
    recovery_most_ms, wrapper, is_soaked = None, (LAB, "without-io_uring"), False

    def inject(self, rig, shuck):
        if shuck.status()["engine"] != "plain writes":
            raise Problem("status does not say that there is no io_uring")
        time.sleep(3)


class Stopped(Fault):
    name, title, runs = "F12", "the engine is stopped (SIGSTOP) for 1 s", 10
    criterion = "what the ring could not hold is lost and counted, nothing else; goes on within 10 ms"
    lost_most, needs_all_counted, recovery_most_ms = None, True, 10.0

    def inject(self, rig, shuck):
        engine = shuck.engine()
        os.kill(engine, signal.SIGSTOP)
        time.sleep(1)
        os.kill(engine, signal.SIGCONT)


class WorkerHeld(Fault):
    name, title, runs = "F26", "a worker is held (as by a debugger) for 2 s", 10
    criterion = "status names it; what the ring could not hold is lost and counted, nothing else"
    lost_most, needs_all_counted, recovery_most_ms = None, True, 10.0

    def inject(self, rig, shuck):
        with held(shuck.thread("shuck-worker-0")):
            wait_for(lambda: shuck.ask("GET", "/healthz")[0] == 503, "its mention", 4)
            time.sleep(0.5)


class LittleMemory(Fault):
    name, title, runs = "F15", "its memory is limited to what it uses and 1 MiB more, 3 s", 10
    criterion = "0 lost, no end"
    recovery_most_ms = None

    def prepare(self, rig):
        self.group = Path("/sys/fs/cgroup/memory") / rig.name
        if not self.group.parent.exists():
            raise Problem("not tried: this host has no memory controller of cgroup v1 at /sys/fs/cgroup/memory")
        self.group.mkdir()

    def begin(self, rig, shuck):
        for process in shuck.processes():
            (self.group / "cgroup.procs").write_text(str(process))

    def inject(self, rig, shuck):
        used = int((self.group / "memory.usage_in_bytes").read_text())
        (self.group / "memory.limit_in_bytes").write_text(str(used + (1 << 20)))
        time.sleep(3)
        (self.group / "memory.limit_in_bytes").write_text("-1")

    def end(self, rig):
        self.group.rmdir()


class Contention(Fault):
    name, title, runs = "F16", "two busy processes beside it for 2 s", 10
    criterion = "what the ring could not hold is lost and counted, nothing else"
    lost_most, needs_all_counted, recovery_most_ms = None, True, None

    def inject(self, rig, shuck):
        with in_background(["sh", "-c", "while :; do :; done"]), in_background(["sh", "-c", "while :; do :; done"]):
            time.sleep(2)


class Malformed(Fault):
    name, title, runs = "F18", "malformed and random frames beside the stream, 3 s", 10
    criterion = "0 lost of the stream; no end"
    recovery_most_ms, lost_most = None, 0

    def inject(self, rig, shuck):
        chance = random.Random(time.monotonic_ns())
        frames = []
        for _ in range(2000):
            body = bytearray(chance.randbytes(chance.randrange(0, 120)))
            head = bytes.fromhex("45000054000000004004b692c0000201c0000202")
            frame = bytearray(bytes.fromhex("0200000002020200000002010800") + head + body)
            for _ in range(chance.randrange(4)):
                frame[chance.randrange(14, len(frame))] ^= 1 << chance.randrange(8)
            frames.append(frame.hex())
        for _ in range(5):
            subprocess.run(rig.inside("balancer", LAB, "send-raw", "back"), input="\n".join(frames) + "\n",
                           text=True, check=True, capture_output=True)
            time.sleep(0.2)


class FragmentFlood(Fault):
    name, title, runs = "F19", "30,000 first fragments of other datagrams within 1 s", 10
    criterion = "0 lost of the stream"
    recovery_most_ms = None

    def inject(self, rig, shuck):
        frames = []
        for number in range(30_000):
            packet = bytearray(bytes.fromhex("45000054000020004004000000000000c0000202"))
            packet[4:6] = (number & 0xffff).to_bytes(2, "big")
            packet[12:16] = bytes([192, 0, 2, 1])
            packet[10:12] = checksum(packet)
            frames.append("0200000002020200000002010800" + packet.hex() + "00" * 64)
        subprocess.run(rig.inside("balancer", LAB, "send-raw", "back"), input="\n".join(frames) + "\n",
                       text=True, check=True, capture_output=True)


def checksum(header):
    total = sum(int.from_bytes(header[i:i + 2], "big") for i in range(0, len(header), 2))
    total = (total & 0xffff) + (total >> 16)
    return (~(total + (total >> 16)) & 0xffff).to_bytes(2, "big")


class ErrorStorm(PodGone):
    name, title, runs = "F20", "20,000 packets that are too big for the pod behind another device", 10
    criterion = "at most icmp.burst + icmp.ratePerSecond ICMP errors; 0 lost of the stream"
    recovery_most_ms = None
    seconds = 2

    def prepare(self, rig):
        super().prepare(rig)
        self.more = f"devices: [{{name: shuck0}}, {{name: other0, netns: {self.path}, mtu: 1280}}]"

    def inject(self, rig, shuck):
        inner = bytearray(bytes.fromhex("4500057800004000401100006336640201020304")) + bytes(1380)
        inner[12:20] = bytes([198, 51, 100, 2, 203, 0, 113, 77])
        inner[10:12] = checksum(inner[:20])
        outer = bytearray(bytes.fromhex("4500058c000040004004000000000000c0000202"))
        outer[12:16] = bytes([192, 0, 2, 1])
        outer[10:12] = checksum(outer)
        before, start = shuck.packets()["replied"], time.monotonic()
        subprocess.run(rig.inside("balancer", LAB, "send-raw", "back", "--repeat", "20000", "--hex",
                                  ("0200000002020200000002010800" + (outer + inner).hex())),
                       check=True, capture_output=True)
        time.sleep(0.2)
        errors, most = shuck.packets()["replied"] - before, 50 + 100 * (time.monotonic() - start + 1)
        if not 0 < errors <= most:
            raise Problem(f"{errors} ICMP errors, {most:.0f} allowed")


class BadConfigurations(Fault):
    name, title, runs = "F21", "200 damaged configurations, each with a reload", 2
    criterion = "each refused with its place, or as good as the one before; 0 lost, nothing touched"
    recovery_most_ms = None

    def inject(self, rig, shuck):
        good, chance = shuck.config.read_text(), random.Random(21)
        for number in range(200):
            text = list(good)
            for _ in range(chance.randrange(1, 4)):
                text[chance.randrange(len(text))] = chance.choice("\0\t{}[]:,-!&*%@`'\"\\ 0aZ\n")
            # A damaged tunnel may be valid and refuse all traffic, so only what comes before it is damaged.
            text = "".join(text[:len("interfaces: [eth0]")]) + "\nwrong: " + str(number) + good[len("interfaces: [eth0]"):]
            shuck.config.write_text(text)
            status, body = shuck.reload()
            if status != 409 or f"{shuck.config}:" not in body:
                raise Problem(f"configuration {number}: {status} {body[:200]}")
        shuck.config.write_text(good)
        if shuck.reload()[0] != 200:
            raise Problem("the good configuration was refused")


class SecondInstance(Fault):
    name, title, runs = "F22", "a second shuck starts with the same configuration", 10
    criterion = "it ends with exit code 3 and names the first's process; 0 lost, 0 twice"
    recovery_most_ms = None

    def inject(self, rig, shuck):
        second = subprocess.run(shuck.command(), capture_output=True, text=True)
        if second.returncode != 3 or str(shuck.process.pid) not in second.stderr:
            raise Problem(f"the second ended with {second.returncode}: {second.stderr[:300]}")


class SettingChanged(Fault):
    name, title, runs = "F23", "somebody sets rp_filter of the device to strict", 20
    criterion = "set right within 100 ms"
    lost_most = None

    def inject(self, rig, shuck):
        rig.do("node", "sysctl", "-qw", "net.ipv4.conf.shuck0.rp_filter=1")


class NotForUs(Fault):
    name, title, runs = "F24", "frames for other hosts, with VLAN tags and of other protocols beside the stream", 10
    criterion = "none injected; 0 lost, 0 twice of the stream"
    recovery_most_ms = None

    def inject(self, rig, shuck):
        inner = "45000054000000004004b692c0000201c0000202" + "45000040000040004011" + "00" * 60
        frames = ["0200000009990200000002010800" + inner, "02000000020202000000020181000005" + "0800" + inner,
                  "0200000002020200000002010806" + "00" * 46]
        before = shuck.packets()["received"] - shuck.packets()["passed"]
        subprocess.run(rig.inside("balancer", LAB, "send-raw", "back"), input="\n".join(frames * 2000) + "\n",
                       text=True, check=True, capture_output=True)
        self.before = before


class FullLog(Fault):
    name, title, runs = "L1", "the disk with the log fills up while the configuration is loaded again and again; then it has room", 3
    criterion = "0 lost, no end; lines that could not be written are counted, later ones are written"
    recovery_most_ms = None

    def prepare(self, rig):
        self.disk = rig.work / "disk"
        self.disk.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=8m", "shuck-log", self.disk)
        self.log = self.disk / "shuck.log"

    def end(self, rig):
        run("umount", self.disk)

    def inject(self, rig, shuck):
        self.dropped = shuck.metric("shuck_log_lines_dropped_total")
        with self.full():
            for number in range(200):   # what is left of the log's last page takes the first lines
                rig.ip("node", "link", "set", "cali0", "mtu", 1400 + number % 60)
                shuck.reload()
                if number > 20 and shuck.metric("shuck_log_lines_dropped_total") > self.dropped:
                    break
            else:
                raise Problem("no line of the log was lost and counted")
        rig.ip("node", "link", "set", "cali0", "mtu", 1460)
        self.size = self.log.stat().st_size

    @contextlib.contextmanager
    def full(self):
        filler = self.disk / "filler"
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(64))
        try:
            yield
        finally:
            filler.unlink()

    def check(self, rig, shuck):
        shuck.reload()
        wait_for(lambda: self.log.stat().st_size > self.size, "lines to be written again", 10)
        return []


class ClockJumps(Fault):
    name, title, runs = "F17", "the wall clock, as shuck sees it, jumps a year ahead, two years back, and to the right time", 10
    criterion = "0 lost; a reload is answered after each jump"
    recovery_most_ms = None
    year = 365 * 86400

    def prepare(self, rig):
        self.offset = rig.work / "clock"
        self.offset.write_bytes(bytes(8))
        self.wrapper = ("env", f"LD_PRELOAD={LAB.parent / 'clock.so'}", f"SHUCK_CLOCK_OFFSET={self.offset}")

    def inject(self, rig, shuck):
        for seconds in (self.year, -self.year, 0):
            with open(self.offset, "r+b") as file:
                file.write(struct.pack("=q", seconds))
            started = shuck.metric("process_start_time_seconds")
            if shuck.reload()[0] != 200:
                raise Problem("a reload was refused")
            at = shuck.metric("shuck_config_last_reload_success_timestamp_seconds")
            if abs(at - time.time() - seconds) > 60:
                raise Problem(f"the clock did not jump: reload at {at}, start at {started}")
            time.sleep(0.5)


class SlowReaders(Fault):
    name, title, runs = "L2", "60 clients of the admin socket that send half a request, or take no answer, for 5 s", 10
    criterion = "0 lost; others are answered within 1 s"
    recovery_most_ms = None

    def inject(self, rig, shuck):
        with contextlib.ExitStack() as stack:
            for number in range(60):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(shuck.socket)
                client.send(b"GET /metrics HTTP/1.1\r\nHost: shuck\r\n" + (b"\r\n" if number % 2 else b""))
            end = time.monotonic() + 5
            while time.monotonic() < end:
                start = time.monotonic()
                if shuck.ask("GET", "/readyz")[0] != 200 or time.monotonic() > start + 1:
                    raise Problem(f"an answer after {time.monotonic() - start:.1f} s")
                time.sleep(0.1)


class Flapping(InterfaceDown):
    name, title, runs = "L3", "the receiving interface goes down and comes up 20 times within 2 s", 10
    criterion = "receives again within 100 ms, same ring"
    short_runs = 1

    def inject(self, rig, shuck):
        for _ in range(20):
            rig.ip("node", "link", "set", "eth0", "down")
            time.sleep(0.05)
            rig.ip("node", "link", "set", "eth0", "up")
            rig.batch("node", ROUTES)
            time.sleep(0.05)
        return wait_for_arrival(shuck)


class EngineKilled(Fault):
    name, title, runs = "F1", "the engine is killed (SIGKILL)", 100
    criterion = "0 lost; at most the batch under way twice, and counted; the next engine forwards within 50 ms; counters go on"
    twice_most, recovery_most_ms, short_runs, is_soaked = 64, 50.0, 3, False
    def inject(self, rig, shuck):
        status = shuck.status()
        before, repeated = status["packets"]["received"], shuck.metric("shuck_repeated_packets_total")
        began = time.monotonic()
        os.kill(status["engineProcessID"], signal.SIGKILL)

        def again():
            answer = shuck.ask("GET", "/status")
            return answer and answer[0] == 200 and json.loads(answer[1])["engineRestarts"] > status["engineRestarts"]
        wait_for(again, "the next engine", 10)
        self.answered = time.monotonic() - began
        self.repeated = shuck.metric("shuck_repeated_packets_total") - repeated
        if shuck.packets()["received"] < before:
            raise Problem("counters went back")

    def once(self, rig, shuck, rate):
        outcome = super().once(rig, shuck, rate)
        if outcome.twice > self.repeated:
            outcome.complaints.append(f"{outcome.twice} twice, shuck counted {self.repeated:.0f}")
        # What nobody forwarded meanwhile came late, not never.
        outcome.recovery_ms = outcome.silence_ms
        return outcome


class Killed(Fault):
    name, title, runs = "F2", "the supervisor is killed (SIGKILL), and the engine ends with it; the service manager, which holds its descriptors, starts the next one", 100
    criterion = "0 lost; at most the batch under way twice, and counted; counters go on"
    recovery_most_ms, twice_most, short_runs, is_soaked = None, 64, 2, False

    def shuck(self, rig, binary):
        self.manager = Manager(rig.work)
        return Shuck(rig, binary, self.more, self.devices, manager=self.manager)

    def end_process(self, process):
        process.kill()

    def inject(self, rig, shuck):
        before, repeated = shuck.packets()["received"], shuck.metric("shuck_repeated_packets_total")
        # The configuration in force counts, not one on disk that is refused.
        shuck.config.write_text("interfaces: []\n")
        self.end_process(shuck.process)
        shuck.process.wait()
        self.began = time.monotonic()
        shuck.start()
        self.repeated = shuck.metric("shuck_repeated_packets_total") - repeated
        if shuck.packets()["received"] < before:
            raise Problem("counters went back")
        seconds = time.monotonic() - self.began
        shuck.change()
        return seconds

    def once(self, rig, shuck, rate):
        outcome = super().once(rig, shuck, rate)
        if outcome.twice > self.repeated:
            outcome.complaints.append(f"{outcome.twice} twice, shuck counted {self.repeated:.0f}")
        return outcome

    def end(self, rig):
        self.manager.close()


class Restarted(Killed):
    name, title, runs = "F2b", "the service manager restarts it (SIGTERM, then start), and holds its descriptors meanwhile", 20
    criterion, twice_most = "0 lost, 0 twice; counters go on", 0

    def end_process(self, process):
        process.terminate()


class StoreDamaged(Killed):
    name, title, runs = "F2c", "as F2, but what the service manager kept cannot be read", 10
    criterion, lost_most, twice_most = "all is opened anew, and the log says why", None, 0

    def end_process(self, process):
        super().end_process(process)
        name = next(name for name in self.manager.store if name.startswith("document"))
        os.truncate(f"/proc/self/fd/{self.manager.store[name][0]}", 100)

    def inject(self, rig, shuck):
        self.end_process(shuck.process)
        shuck.process.wait()
        shuck.start()
        self.repeated = 0
        if "is of no use" not in shuck.log():
            raise Problem("the log does not say that it could not be read")


FAULTS = [EngineKilled(), Killed(), Restarted(), StoreDamaged(), Reload(), Upgrade(), TakeOver(), InterfaceDown(), InterfaceMadeAgain(),
          DeviceDown(), DeviceDeleted(), PodGone(), RouteStorm(), NoticesLost(), Stopped(), NoRing(), LittleMemory(), Contention(), Malformed(), FragmentFlood(), ErrorStorm(),
          BadConfigurations(), SecondInstance(), SettingChanged(), NotForUs(), WorkerHeld(), ClockJumps(), FullLog(), SlowReaders(),
          Flapping()]

# Rows that nothing of this is done for yet, and why.
UNTRIED = [
    ("F13", "the TUN refuses writes (EAGAIN, ENOMEM, a short write)", "no host makes them on demand; `RingTests` and `BatchTests` give the results by hand"),
]
