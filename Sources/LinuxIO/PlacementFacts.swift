// What makes a worker slower than its CPU could be: interrupts, nodes and governors, and how to mend it.

import Glibc

/// What the host says of the CPUs and interrupts that concern the workers.
public struct PlacementFacts: Equatable, Sendable {
    public var interfaces: [InterfaceHardware]
    /// CPUs of each NUMA node.
    public var nodes: [Int: [Int]]
    /// Frequency governors of the workers' CPUs; a host without frequency scaling has none.
    public var governors: [Int: String]

    public init(interfaces: [InterfaceHardware], nodes: [Int: [Int]], governors: [Int: String]) {
        self.interfaces = interfaces
        self.nodes = nodes
        self.governors = governors
    }

    /// Looks at the host as it is now: others move interrupts at any time.
    public static func read(interfaces: [String], workers cpus: [Int]) -> PlacementFacts {
        var governors: [Int: String] = [:]
        for cpu in cpus {
            governors[cpu] = Host.read("/sys/devices/system/cpu/cpu\(cpu)/cpufreq/scaling_governor")
        }
        return PlacementFacts(
            interfaces: interfaces.map(InterfaceHardware.read), nodes: Placement.nodes,
            governors: governors)
    }

    /// - Parameter cpus: the CPU of each worker.
    /// - Returns: a sentence for each thing, with what mends it.
    public func warnings(workers cpus: [Int]) -> [String] {
        interfaces.flatMap { interface in
            let node = elsewhere(interface, cpus).map { [$0] }
            return (node ?? farInterrupts(interface, cpus)) + sharedCPUs(interface, cpus)
        } + slowGovernors(cpus)
    }

    /// nil where the kernel knows none.
    public func node(ofCPU cpu: Int) -> Int? { nodes(of: [cpu]).first }

    private func nodes(of cpus: some Sequence<Int>) -> [Int] {
        let cpus = Set(cpus)
        return nodes.filter { !cpus.isDisjoint(with: $0.value) }.keys.sorted()
    }

    private func elsewhere(_ interface: InterfaceHardware, _ cpus: [Int]) -> String? {
        let near = interface.nodes.flatMap { nodes[$0] ?? [] }
        guard nodes.count > 1, !near.isEmpty, Set(near).isDisjoint(with: cpus) else { return nil }
        return """
            \(interface.name) is on NUMA node \(NumberList.text(interface.nodes)), its workers are \
            on node \(NumberList.text(nodes(of: cpus))): set workers.cpus to "\(NumberList.text(near))" \
            or some of these
            """
    }

    private func farInterrupts(_ interface: InterfaceHardware, _ cpus: [Int]) -> [String] {
        let own = nodes(of: cpus)
        let far = interface.busyInterrupts.filter { !Set(nodes(of: $0.cpus)).isSubset(of: own) }
        guard nodes.count > 1, !own.isEmpty, !far.isEmpty else { return [] }
        let target = own.flatMap { nodes[$0] ?? [] }
        return [
            """
            \(Self.text(far)) of \(interface.name) \(far.count == 1 ? "is" : "are") handled on NUMA \
            node \(NumberList.text(far.flatMap { nodes(of: $0.cpus) })), its workers run on node \
            \(NumberList.text(own)): \(Self.move(far, to: target))
            """
        ]
    }

    private func sharedCPUs(_ interface: InterfaceHardware, _ cpus: [Int]) -> [String] {
        let shared = interface.busyInterrupts.filter { !Set($0.cpus).isDisjoint(with: cpus) }
        guard !shared.isEmpty else { return [] }
        let common = Set(shared.flatMap(\.cpus)).intersection(cpus)
        let free = nodes(of: cpus).flatMap { nodes[$0] ?? [] }.filter { !cpus.contains($0) }
        let mend =
            free.isEmpty
            ? "leave \(common.count == 1 ? "it" : "some") out of workers.cpus, and move the interrupts there"
            : Self.move(shared, to: free)
        return [
            """
            \(Self.text(shared)) of \(interface.name) \(shared.count == 1 ? "is" : "are") handled on \
            CPU \(NumberList.text(common)), where \(common.count == 1 ? "a worker runs" : "workers run"): \
            \(mend)
            """
        ]
    }

    private func slowGovernors(_ cpus: [Int]) -> [String] {
        let slow = governors.filter { cpus.contains($0.key) && $0.value != "performance" }
        guard !slow.isEmpty else { return [] }
        let list = NumberList.text(slow.keys)
        return [
            """
            CPU \(list) of the workers \(slow.count == 1 ? "has" : "have") the governor \
            \(Set(slow.values).sorted().joined(separator: ", ")), which lets the clock fall between \
            bursts: cpupower -c \(list) frequency-set -g performance
            """
        ]
    }

    private static func text(_ interrupts: [Interrupt]) -> String {
        if let only = interrupts.first, interrupts.count == 1 {
            return "interrupt \(only.number)\(only.name.isEmpty ? "" : " (\(only.name))")"
        }
        return "interrupts \(NumberList.text(interrupts.map(\.number)))"
    }

    private static func move(_ interrupts: [Interrupt], to cpus: [Int]) -> String {
        let numbers = interrupts.map { "\($0.number)" }.joined(separator: " ")
        return "for i in \(numbers); do echo \(NumberList.text(cpus)) >/proc/irq/$i/smp_affinity_list; done"
    }
}

extension InterfaceHardware {
    /// Those that make a hundredth of the interface's interrupts or more: a device has others
    /// for its own affairs. Where the kernel does not count for us, all.
    var busyInterrupts: [Interrupt] {
        let all = interrupts.reduce(UInt64(0)) { $0 &+ ($1.count ?? 0) }
        return interrupts.filter { interrupt in
            guard let count = interrupt.count else { return true }
            return count > 0 && count >= all / 100
        }
    }
}
