#!/usr/bin/env python3
# Compares policies for evicting a datagram when the memory for outer fragments is full, with a simulated clock.
#   tools/measure/floods.py
# A flood sends first fragments of 8 bytes from many sources of the balancer's own /64. Once the flood has filled the
# memory, the balancer sends 200 datagrams of two fragments of 720 bytes, 3 ms apart. The table says how many became whole.
# The last column is shuck's policy; Tests/ForwardingTests/FragmentFloodTests.swift checks the code against it.
import collections
import random

MEMORY, DATAGRAMS, DISTANCE, WINDOW = 4 << 20, 200, 0.003, 8
# Bytes of a cell with its share of the bookkeeping, cells of a small first fragment, of a legitimate first one.
OLD, NEW = (696, 2, 3), (444, 1, 3)
BALANCER = -1


class Memory:
    def __init__(self, policy, layout):
        self.policy, (size, self.small, self.large) = policy, layout
        self.cells = self.free = MEMORY // size
        self.quota = self.cells // 8
        self.held = collections.OrderedDict()          # datagram -> (source, cells), oldest first
        self.of = collections.defaultdict(collections.OrderedDict)
        self.weight = collections.Counter()
        self.list, self.place = [], {}                 # for random choice
        self.random = random.Random(5)

    def remove(self, key):
        source, cells = self.held.pop(key)
        del self.of[source][key]
        if not self.of[source]:
            del self.of[source]
        self.weight[source] -= cells
        self.free += cells
        last, place = self.list.pop(), self.place.pop(key)
        if last != key:
            self.list[place] = last
            self.place[last] = place

    def victim(self):
        if self.policy == "oldest":
            return next(iter(self.held))
        if self.policy == "random":
            return self.random.choice(self.list)
        if self.policy == "largest of 8 random":
            some = [self.random.choice(self.list) for _ in range(8)]
        else:                                          # of the oldest, that whose source holds most
            some = [key for key, _ in zip(self.held, range(WINDOW))]
        return max(some, key=lambda key: self.weight[self.held[key][0]])

    def insert(self, key, source, cells):
        while self.weight[source] + cells > self.quota:
            own = self.of[source]
            random_own = self.policy in ("random", "largest of 8 random")
            self.remove(self.random.choice(list(own)) if random_own else next(iter(own)))
        while self.free < cells:
            self.remove(self.victim())
        self.held[key] = self.of[source][key] = (source, cells)
        self.place[key] = len(self.list)
        self.list.append(key)
        self.weight[source] += cells
        self.free -= cells


def run(policy, layout, sources, rate, gap):
    memory = Memory(policy, layout)
    start = 2 * memory.cells / rate
    events = [(start + n * DISTANCE, 0, n) for n in range(DATAGRAMS)]
    events += [(start + n * DISTANCE + gap, 1, n) for n in range(DATAGRAMS)]
    events.sort(reverse=True)
    whole, flood = 0, 0
    while events:
        while flood / rate < events[-1][0]:
            memory.insert(flood, flood % sources, memory.small)
            flood += 1
        _, is_second, number = events.pop()
        key = ("legitimate", number)
        if not is_second:
            memory.insert(key, BALANCER, memory.large)
        elif key in memory.held:
            memory.remove(key)
            whole += 1
    return whole


def main():
    columns = [("before: largest of 8 random, 512-byte cells", "largest of 8 random", OLD),
               ("largest of 8 random", "largest of 8 random", NEW), ("random", "random", NEW),
               ("oldest", "oldest", NEW), ("of the 8 oldest the largest", "window", NEW)]
    print("| sources | per second | gap, ms |", " | ".join(name for name, _, _ in columns), "|")
    print("| --- " * (3 + len(columns)) + "|")
    cases = [(sources, 30000, gap) for sources in (1, 256, 4096, 60000) for gap in (0.001, 0.01)]
    for sources, rate, gap in cases + [(60000, 300000, 0.01), (256, 1000000, 0.02), (60000, 1000000, 0.02)]:
        row = [str(run(policy, layout, sources, rate, gap)) for _, policy, layout in columns]
        print(f"| {sources:,} | {rate:,} | {gap * 1000:.0f} |", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
