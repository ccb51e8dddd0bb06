# The long run: the order of its faults, what it samples, and when that is a finding.
import collections
import dataclasses
import os
import random
import statistics
import time
from pathlib import Path

from lab import Problem, wait_for

TURN_S = 10.0          # from one fault to the next, at least
QUIET_S = 5.0          # without a fault before each
TURNS_PER_STREAM = 6   # a finding is known at the end of its stream
SETTLE_S = 5.0         # within which descriptors and threads are as before
STARVED_MS = 50.0      # of waiting for a CPU during a fault: the host had other work, so times say nothing
GROWTH_KIB = 1024      # of the resident memory, from the first third behind the warm-up to the last


class Finding(Problem):
    """What the run exists to find: it ends it."""


def turn(seed, number, faults):
    """The fault of a turn: each round does every fault once, in an order of its own."""
    rounds, place = divmod(number, len(faults))
    order = list(faults)
    random.Random(f"{seed}/{rounds}").shuffle(order)
    return order[place]


@dataclasses.dataclass
class Sample:
    """What a process holds."""

    seconds: float
    resident: int     # KiB
    descriptors: int
    threads: int


def status_of(process, key):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise Problem(f"process {process} has no {key}")


def sample(processes, seconds):
    def total(key):
        return sum(status_of(process, key) for process in processes)
    return Sample(round(seconds, 1), total("VmRSS"), sum(held(processes).values()), total("Threads"))


def held(processes):
    """Their descriptors, by kind or path."""
    kinds = collections.Counter()
    for process in processes:
        for entry in os.scandir(f"/proc/{process}/fd"):
            try:
                kinds[os.readlink(entry.path).split(":[")[0]] += 1
            except FileNotFoundError:
                pass   # closed meanwhile
    return kinds


def names(processes):
    threads = collections.Counter()
    for process in processes:
        for task in Path(f"/proc/{process}/task").iterdir():
            try:
                threads[(task / "comm").read_text().strip()] += 1
            except OSError:
                pass   # ended meanwhile
    return threads


class Resources:
    """The descriptors and threads that a daemon has had since its start."""

    def __init__(self, processes):
        self.processes = processes
        self.first = held(processes), names(processes)

    def settle(self, what):
        """Waits until they are as at the start; a finding if they are not."""
        def is_settled():
            return (held(self.processes), names(self.processes)) == self.first
        try:
            wait_for(is_settled, "", SETTLE_S)
        except Problem:
            now = held(self.processes), names(self.processes)
            more = [dict(now[i] - self.first[i]) for i in (0, 1)]
            less = [dict(self.first[i] - now[i]) for i in (0, 1)]
            raise Finding(f"{SETTLE_S:.0f} s after {what}: descriptors more {more[0]}, less {less[0]}; "
                          f"threads more {more[1]}, less {less[1]}") from None


def waited_ms(task):
    """How long a thread, by its folder in /proc, has waited for a CPU."""
    return int((task / "schedstat").read_text().split()[1]) / 1e6


@dataclasses.dataclass
class Mark:
    """A moment between a time without a fault and a fault."""

    seconds: float
    ring: int         # packets that the ring had no slot for, so far
    waited_ms: float  # for a CPU, by the worker so far


def starved(before, after, rate):
    """Packets that the ring had no slot for between two marks for want of a CPU, which a host with other work did not give:
    no more than came while the worker waited for it."""
    return min(after.ring - before.ring, int(rate * (after.waited_ms - before.waited_ms) / 1000))


def growth(samples, warm):
    """KiB of resident memory from the first third of the samples behind the warm-up to the last, by their medians, and
    KiB per hour (the median of the slopes between each two); None of too few."""
    rest = samples[warm:]
    third = len(rest) // 3
    if third < 3:
        return None
    ends = [statistics.median(s.resident for s in part) for part in (rest[:third], rest[-third:])]
    slopes = [3600 * (b.resident - a.resident) / (b.seconds - a.seconds)
              for i, a in enumerate(rest) for b in rest[i + 1:] if b.seconds > a.seconds]
    return ends[1] - ends[0], statistics.median(slopes)


def judge_stream(result, trials, excused):
    """The packets that a stream lost by faults, at other times, and of these for want of a CPU; and findings: nothing
    else is lost outside of faults, and nothing ever comes twice, late or altered."""
    own = [window for trial in trials for window in trial.losses(result)[0]]
    others = [window for window in result["losses"] if window not in own]
    lost = sum(window[2] for window in own)
    stray = result["lost"] - lost
    found = [f"{result[what]} {what}" for what in ("twice", "late", "altered") if result[what]]
    if stray > excused:
        times = [[(at - result["start_ns"]) / 1e9 for at in (trial.began, trial.ended)] for trial in trials]
        found.append(f"{stray} lost outside of the faults, at most {excused} of them for want of a CPU; "
                     f"seconds and packets of the losses: {others}; seconds of the faults: {times}")
    return lost, stray, min(stray, excused), found
