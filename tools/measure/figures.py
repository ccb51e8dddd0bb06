# Reads figures from the host, and decides whether two measurements differ: medians, noise, permutations.
import itertools
import math
import os
import platform
import random
import re
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAIRS_LEAST = 5


class Clock:
    """Busy time of all CPUs since it was made, in seconds.

    From the idle and stolen time in /proc/stat, not from the busy columns: Linux measures idle time
    when a CPU enters and leaves idleness (NO_HZ), while it samples the rest at each tick.
    """

    def __init__(self):
        self.start, self.rest = time.monotonic(), self.not_busy()

    @staticmethod
    def not_busy():
        fields = [int(v) for v in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        return (fields[3] + fields[4] + fields[7]) / os.sysconf("SC_CLK_TCK")

    def busy(self):
        wall = time.monotonic() - self.start
        return max(wall * os.cpu_count() - (self.not_busy() - self.rest), 0)


def busy_share(seconds):
    """The share of all CPUs' time that is not idle now."""
    clock = Clock()
    time.sleep(seconds)
    return clock.busy() / seconds / os.cpu_count()


def process_cpu(pids):
    """CPU time of all threads of these processes in seconds, by the scheduler's own clock."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except (OSError, IndexError):
                pass  # a thread that has just ended
    return total / 1e9


def process_memory(pids):
    """The most that these processes had resident beside packet rings, in MiB."""
    total = 0
    for pid in pids:
        match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        total += int(match[1]) - rings(Path(f"/proc/{pid}/smaps").read_text()) if match else 0
    return total / 1024


def rings(smaps):
    """KiB of packet rings in the text of a smaps: mappings of sockets."""
    total, is_ring = 0, False
    for line in smaps.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_ring = " socket:[" in line
        elif is_ring and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def number(value):
    """At most four digits that say something."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def host_facts():
    def read(path):
        return Path(path).read_text().strip() if Path(path).exists() else "unknown"

    def output(*words):
        try:
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
    cpu = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    changed = output("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no")
    return {"kernel": platform.release(), "cpu": cpu[1] if cpu else platform.machine(), "cpus": os.cpu_count(),
            "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1,
            "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "virtual": "yes" if "hypervisor" in read("/proc/cpuinfo") else "no",
            "load": read("/proc/loadavg").split()[0],
            "commit": output("git", "-C", ROOT, "rev-parse", "--short", "HEAD") + (" and changes" if changed else "")}


def ratios(values, baseline):
    """Round by round; None where the baseline is nothing."""
    return [v / b for v, b in zip(values, baseline)] if all(baseline) else None


def verdict(pair_ratios, control_ratios):
    """Whether two peers differ: "higher", "lower", or why nothing is said.

    A difference is called when every pair points the same way (by chance once in 16 with 5 pairs) and
    the median lies beyond all that the baseline differs from itself, measured twice in each round.
    """
    if pair_ratios is None or min(pair_ratios) <= 0:
        return ""
    if len(pair_ratios) < PAIRS_LEAST:
        return "too few pairs"
    if (min(pair_ratios) > 1) == (max(pair_ratios) > 1):
        noise = max((abs(math.log(r)) for r in control_ratios or []), default=0)
        if abs(math.log(statistics.median(pair_ratios))) > noise:
            return "higher" if pair_ratios[0] > 1 else "lower"
    return "not beyond noise"


def permutation_p(before, after, most=20000):
    """How often a random division of the values into two such groups has means as far apart (two-sided).

    All divisions when they are at most `most`, else as many random ones from a fixed seed.
    """
    values, size = before + after, len(before)
    # Of means, not medians: few values have so few different medians that hardly anything is ever rare.
    observed = abs(statistics.fmean(after) - statistics.fmean(before))
    if math.comb(len(values), size) <= most:
        groups = itertools.combinations(range(len(values)), size)
    else:
        source = random.Random(1)
        groups = (source.sample(range(len(values)), size) for _ in range(most))
    total = as_far = 0
    for group in groups:
        chosen = set(group)
        one = statistics.fmean(values[i] for i in chosen)
        other = statistics.fmean(v for i, v in enumerate(values) if i not in chosen)
        total += 1
        as_far += abs(other - one) >= observed * (1 - 1e-9)
    return as_far / total
