# Compares exact figures with a committed baseline: instructions, system calls, writes and allocations per packet.
import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path

from figures import ROOT
from peers import LAB, VIPS, Problem, Shuck, run

sys.path.insert(0, str(ROOT / "tools/kernel"))
import packets as p

BASELINE = Path(__file__).resolve().parent / "baseline.json"
TOLERANCE = 0.02
FRAMES = 6000
# The claim for the four modes is made with many routes; for the rest they would only make the run longer.
ROUTES, FEW_ROUTES = 100000, 1000
FLOWS = 1024
WAIT = 120   # seconds, for what takes ten under valgrind
BALANCER, NODE = {4: "192.0.2.1", 6: "2001:db8:1::1"}, {4: "192.0.2.2", 6: "2001:db8:1::2"}
CLIENT = {4: "198.51.100.{}", 6: "2001:db8:c::{:x}"}
FAMILIES = {"ipip": (4, 4), "ip6ip": (4, 6), "ipip6": (6, 4), "ip6ip6": (6, 6)}   # outer, inner


def wrap(mode, inner, source=None, target=None, **fields):
    family, within = FAMILIES[mode]
    source, number = source or BALANCER[family], p.IPIP if within == 4 else p.IPV6
    return (p.ipv4 if family == 4 else p.ipv6)(source, target or NODE[family], number, inner, **fields)


def datagram(mode="ipip", number=0, size=36, source=None, flow=0):
    """The inner UDP packet of this number, of 64 bytes in IPv4."""
    family = FAMILIES[mode][1]
    source = source or CLIENT[family].format(64 + flow % 64)
    data = p.udp(source, VIPS[mode], bytes(size), ports=(1024 + flow // 64, 9))
    return p.ipv4(source, VIPS[mode], p.UDP, data, ident=number, flags=2) if family == 4 \
        else p.ipv6(source, VIPS[mode], p.UDP, data)


def flood(mode="ipip", burst=1):
    """Datagrams of 1024 flows, so many of each in a row; the inner identification counts up, as a sender's does."""
    return [wrap(mode, datagram(mode, number=i // (FLOWS * burst) * burst + i % burst, flow=i // burst % FLOWS))
            for i in range(FRAMES)]


def halves(ident):
    """One outer datagram in two fragments."""
    packet, cut = datagram(size=100), 64
    return [wrap("ipip", packet[:cut], ident=ident, flags=1), wrap("ipip", packet[cut:], ident=ident, offset=cut)]


def nest(levels):
    """Tunnels in a tunnel: a packet of so many outer headers."""
    packet = datagram()
    for _ in range(levels):
        packet = wrap("ipip", packet)
    return packet


def opening():
    source = CLIENT[4].format(64)
    segment = p.tcp(source, VIPS["ipip"], b"", flags=0x02, options=bytes([2, 4, 1500 >> 8, 1500 & 255]))
    return wrap("ipip", p.ipv4(source, VIPS["ipip"], p.TCP, segment))


# Each path: its packets, FRAMES of them, and what becomes of them.
PATHS = {
    **{mode: (lambda mode=mode: flood(mode), "injected") for mode in FAMILIES},
    "bursts of 8": (lambda: flood(burst=8), "injected"),
    "bursts of 64": (lambda: flood(burst=64), "injected"),
    "SYN, MSS lowered": (lambda: [opening()] * FRAMES, "injected"),
    "two fragments": (lambda: [f for i in range(FRAMES // 2) for f in halves(i + 1)], "fragments"),
    "remote refused": (lambda: [wrap("ipip", datagram(), source="198.51.100.7")] * FRAMES, "refused"),
    "martian refused": (lambda: [wrap("ipip", datagram(source="127.0.0.1"))] * FRAMES, "refused"),
    # The same figures: what a frame costs must not grow with what lies in it.
    "nest of 2 levels": (lambda: [nest(2)] * FRAMES, "refused"),
    "nest of 60 levels": (lambda: [nest(60)] * FRAMES, "refused"),
    "not ours": (lambda: [wrap("ipip", datagram(), target="192.0.2.77")] * FRAMES, "refused"),
}


def send(rig, packets):
    """One by one with a pause, so that the veth's queue of 256 takes them all; what it lost is sent again."""
    def arrived():
        return int(run(*rig.inside("node", "cat", "/sys/class/net/eth0/statistics/rx_packets")))
    goal = arrived() + len(packets)
    while packets:
        send_once(rig, packets)
        packets = packets[:max(goal - arrived(), 0)]


def send_once(rig, packets):
    macs = bytes.fromhex("020000000202" "020000000201")
    frames = "".join((macs + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet).hex() + "\n"
                     for packet in packets)
    run(*rig.inside("balancer", LAB, "send-raw", "back", "--interval-us", 20), input=frames)


def drained(bench, binary, tool, path, *options, frames=FRAMES, routes=FEW_ROUTES):
    """One worker under a valgrind tool, over so many frames of a path that wait in its ring.

    Returns what the worker counted, and valgrind's report.
    """
    shuck = Shuck(bench.place, "shuck", "", None, bench.work, cpus=min(os.sched_getaffinity(0)))
    shuck.config.write_text(shuck.configuration())
    with open(Path(bench.work) / "report", "w+", encoding="utf-8") as report:   # a pipe would fill up
        process = subprocess.Popen(
            bench.place.on_node("valgrind", f"--tool={tool}", *options, binary, shuck.config, frames, routes),
            stdout=subprocess.PIPE, stderr=report, text=True,
            # Swift seeds its hashes anew each run; two runs must differ by the packets alone.
            env={**os.environ, "SWIFT_DETERMINISTIC_HASHING": "1"})
        try:
            if select.select([process.stdout], [], [], WAIT)[0] and process.stdout.readline() == "ready\n":
                send(bench.rig, PATHS[path][0]()[:frames])
            text, _ = process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            raise Problem(f"worker-bench did not end {WAIT} s after {frames} frames of {path}") from None
        finally:
            process.kill()
            process.wait()
        report.seek(0)
        said = report.read()
    if process.returncode:
        raise Problem(f"worker-bench, {path}: {said}")
    return json.loads(text), said


def check_fate(path, fate, counted):
    expected = {"injected": counted["received"], "refused": 0, "fragments": counted["received"] // 2}[fate]
    if counted["received"] < FRAMES or counted["injected"] != expected:
        raise Problem(f"{path}: not the path that is meant: {counted}")


def instructions(bench, binary, path):
    """Instructions per frame in user space, from frame to verdict and in the whole worker; and writes per packet."""
    fate = PATHS[path][1]
    out = Path(bench.work) / "callgrind"
    # Only inside the worker's loop: what stands before it is start-up.
    counted, _ = drained(bench, binary, "callgrind", path, f"--callgrind-out-file={out}",
                         "--toggle-collect=$s6Daemon6WorkerC3run*",
                         routes=ROUTES if path in FAMILIES else FEW_ROUTES)
    check_fate(path, fate, counted)
    verdict = total = references = 0
    for line in run("callgrind_annotate", "--threshold=100", out).splitlines():
        match = re.match(r"\s*([\d,]+) \(.*?\)\s+(\S.*)", line)
        if not match:
            continue
        count = int(match[1].replace(",", ""))
        if match[2].startswith("PROGRAM TOTALS"):
            total = count
        elif re.search(r"\$s(10Forwarding(?!5Batch|9Coalescer|4Flow)|2IP|7Routing)", match[2]):   # what leaves comes after the verdict
            verdict += count
        elif re.search(r":_?swift_(retain|release|allocObject)", match[2]):
            references += count
    received = counted["received"]
    figures = {"instructions to the verdict": verdict / received, "instructions of the worker": total / received,
               "of them for references": references / received}
    if fate == "injected":
        figures["writes per packet"] = counted["writes"] / counted["injected"]
    return figures


def calls_and_allocations(bench, binary):
    """System calls per packet and allocations: the cost of FRAMES less the cost of a quarter of them."""
    counts = []
    for frames in (FRAMES // 4, FRAMES):
        counted, report = drained(bench, binary, "memcheck", "ipip", "--leak-check=no", "--trace-syscalls=yes",
                                  frames=frames)
        drain = report.rpartition("nanosleep")[2]   # behind the last look at whether all frames have come
        # The vDSO tells the time without a system call, where there is no valgrind.
        calls = re.findall(r"^SYSCALL\[[^]]*\]\(\s*\d+\) (?!sys_clock_gettime)", drain, re.M)
        counts.append((counted["received"], len(calls),
                       int(re.search(r"([\d,]+) allocs", report)[1].replace(",", ""))))
    few, many = counts
    return {"system calls per packet": (many[1] - few[1]) / (many[0] - few[0]), "allocations": many[2] - few[2]}


def run_gates(bench, binary, rewrite):
    """Measures every path, prints it beside the baseline, and returns what lies outside of it."""
    # What the pod answers comes back as an error from where the client is not, seconds later and in a tunnel:
    # frames that nobody meant to count.
    run(*bench.place.in_pod("nft", "table inet quiet { chain out { type filter hook output priority 0; policy drop; }; }"))
    try:
        return measure_paths(bench, binary, rewrite)
    finally:
        run(*bench.place.in_pod("nft", "delete table inet quiet"))


def measure_paths(bench, binary, rewrite):
    copy = Path(bench.work) / "worker-bench"
    run("objcopy", "--strip-debug", binary, copy)  # valgrind 3.19 gives up on its DWARF
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    measured, failures = {}, []
    bench.say(f"{'gate':20} {'figure':28} {'now':>10} {'baseline':>10}")
    for path in PATHS:
        measured[path] = instructions(bench, copy, path)
        if path == "ipip":
            measured[path].update(calls_and_allocations(bench, copy))
        for figure, value in measured[path].items():
            expected = baseline.get(path, {}).get(figure)
            bench.rows.append({"case": "gates", "point": path, "peer": "shuck", "figure": figure, "unit": "",
                               "more_is_better": False, "values": [value], "median": value, "baseline": expected})
            shown = "none" if expected is None else f"{expected:.4g}"
            bench.say(f"{path:20} {figure:28} {value:10.4g} {shown:>10}")
            if expected is None or abs(value - expected) > TOLERANCE * expected + 1e-3:
                failures.append(f"{path}, {figure}: {value:.4g}, the baseline is {shown}")
    if rewrite:
        BASELINE.write_text(json.dumps({path: {k: round(v, 4) for k, v in figures.items()}
                                        for path, figures in measured.items()}, indent=2) + "\n")
        return []
    if failures:
        failures.append("better or meant so: tools/bench --write-baseline gates, and commit tools/measure/baseline.json")
    return failures
