// Which CPUs workers run on when the configuration names none.

/// Chooses CPUs near the interface, and few of them, because a node belongs to its pods.
public enum WorkerChoice {
    /// The most workers that `auto` starts.
    public static let automaticWorkersMax = 4

    /// The allowed CPUs of the nodes of the devices that the interface stands on; all allowed
    /// ones when it stands on none, or when this process may use none of theirs.
    public static func cpus(
        near hardware: InterfaceHardware, nodes: [Int: [Int]], allowed: [Int]
    ) -> [Int] {
        let near = hardware.nodes.flatMap { nodes[$0] ?? [] }
        let both = allowed.filter(near.contains)
        return both.isEmpty ? allowed : both
    }

    /// At most half of the CPUs, as many as the interface has receive queues, and
    /// `automaticWorkersMax`; one in any case. Preferred are CPUs that do not handle the interface's
    /// interrupts, one of each core, and the last: the first have most of a host's other work.
    /// - Parameter queues: nil where they are not known.
    public static func choose(
        from cpus: [Int], queues: Int?, interrupted: Set<Int>, siblings: [Int: [Int]]
    ) -> [Int] {
        let count = max(1, min(automaticWorkersMax, queues ?? cpus.count, cpus.count / 2))
        let order = cpus.sorted { left, right in
            let (isLeft, isRight) = (interrupted.contains(left), interrupted.contains(right))
            return isLeft == isRight ? left > right : isRight
        }
        var chosen: [Int] = []
        for cpu in order where !chosen.contains(where: { siblings[cpu]?.contains($0) ?? false }) {
            chosen.append(cpu)
        }
        chosen += order.filter { !chosen.contains($0) }
        return chosen.prefix(count).sorted()
    }
}
