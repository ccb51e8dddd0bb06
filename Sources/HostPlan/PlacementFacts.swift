// Interrupts, NUMA nodes and governors that slow a worker, and the remedy.

import Routing

/// What the host says of the CPUs and interrupts that concern the workers.
public struct PlacementFacts: Equatable, Sendable, Codable {
    public var interfaces: [InterfaceHardware] = []
    /// CPUs of each NUMA node.
    public var nodes: [Int: [Int]] = [:]
    /// Frequency governors of the workers' CPUs; a host without frequency scaling has none.
    public var governors: [Int: String] = [:]
    /// Pages of a worker's rings and buffers on another NUMA node than its CPU; empty before it runs, where
    /// the host has one node, or does not tell.
    public var pagesElsewhere: [Int: Int] = [:]

    public init() {}

    /// An interface stands on a device, as on a host that only checks none may.
    public var hasHardware: Bool {
        interfaces.contains { !$0.nodes.isEmpty || !$0.interrupts.isEmpty }
    }

    /// What slows the workers where they stand.
    /// - Parameter cpus: the CPU of each worker.
    public func findings(workers cpus: [Int]) -> [Finding] {
        let all =
            interfaces.flatMap { interface in
                [
                    elsewhere(interface, cpus) ?? farInterrupts(interface, cpus),
                    sharedCPUs(interface, cpus),
                ]
            } + [slowGovernors(cpus)] + pagesElsewhere.sorted { $0.key < $1.key }.map(farPages)
        return all.compactMap(\.self).map { text, remedy in
            Finding(what: .worker, subject: "placement", text: text, remedy: remedy, severity: .advice)
        }
    }

    private typealias Advice = (text: String, remedy: String)

    /// nil where the kernel knows none.
    public func node(ofCPU cpu: Int) -> Int? { nodes(of: [cpu]).first }

    private func nodes(of cpus: some Sequence<Int>) -> [Int] {
        let cpus = Set(cpus)
        return nodes.filter { !cpus.isDisjoint(with: $0.value) }.keys.sorted()
    }

    private func elsewhere(_ interface: InterfaceHardware, _ cpus: [Int]) -> Advice? {
        let near = interface.nodes.flatMap { nodes[$0] ?? [] }
        guard nodes.count > 1, !near.isEmpty, Set(near).isDisjoint(with: cpus) else { return nil }
        return (
            """
            \(interface.name) is on NUMA node \(NumberList.text(interface.nodes)), its workers are \
            on node \(NumberList.text(nodes(of: cpus)))
            """, "set workers.cpus to \"\(NumberList.text(near))\" or some of these"
        )
    }

    private func farInterrupts(_ interface: InterfaceHardware, _ cpus: [Int]) -> Advice? {
        let own = nodes(of: cpus)
        let far = interface.busyInterrupts.filter { !Set(nodes(of: $0.cpus)).isSubset(of: own) }
        guard nodes.count > 1, !own.isEmpty, !far.isEmpty else { return nil }
        let target = own.flatMap { nodes[$0] ?? [] }
        return (
            """
            \(Self.text(far)) of \(interface.name) \(far.count == 1 ? "is" : "are") handled on NUMA \
            node \(NumberList.text(far.flatMap { nodes(of: $0.cpus) })), its workers run on node \
            \(NumberList.text(own))
            """, Self.move(far, to: target)
        )
    }

    private func sharedCPUs(_ interface: InterfaceHardware, _ cpus: [Int]) -> Advice? {
        let shared = interface.busyInterrupts.filter { !Set($0.cpus).isDisjoint(with: cpus) }
        guard !shared.isEmpty else { return nil }
        let common = Set(shared.flatMap(\.cpus)).intersection(cpus)
        let free = nodes(of: cpus).flatMap { nodes[$0] ?? [] }.filter { !cpus.contains($0) }
        let remedy =
            free.isEmpty
            ? "leave \(common.count == 1 ? "it" : "some") out of workers.cpus, and move the interrupts there"
            : Self.move(shared, to: free)
        return (
            """
            \(Self.text(shared)) of \(interface.name) \(shared.count == 1 ? "is" : "are") handled on \
            CPU \(NumberList.text(common)), where \(common.count == 1 ? "a worker runs" : "workers run")
            """, remedy
        )
    }

    private func slowGovernors(_ cpus: [Int]) -> Advice? {
        let slow = governors.filter { cpus.contains($0.key) && $0.value != "performance" }
        guard !slow.isEmpty else { return nil }
        let list = NumberList.text(slow.keys)
        return (
            """
            CPU \(list) of the workers \(slow.count == 1 ? "has" : "have") the governor \
            \(Set(slow.values).sorted().joined(separator: ", ")), which lets the clock fall between \
            bursts
            """, "cpupower -c \(list) frequency-set -g performance"
        )
    }

    private func farPages(_ worker: Int, _ pages: Int) -> Advice? {
        if pages == 0 { return nil }
        return (
            """
            worker \(worker): \(pages) pages of its rings and buffers lie on another NUMA node, for \
            its own had no room when shuck started
            """, "free memory there and restart shuck"
        )
    }

    private static func text(_ interrupts: [InterfaceHardware.Interrupt]) -> String {
        if let only = interrupts.first, interrupts.count == 1 {
            return "interrupt \(only.number)\(only.name.isEmpty ? "" : " (\(only.name))")"
        }
        return "interrupts \(NumberList.text(interrupts.map(\.number)))"
    }

    private static func move(_ interrupts: [InterfaceHardware.Interrupt], to cpus: [Int]) -> String {
        let numbers = interrupts.map { "\($0.number)" }.joined(separator: " ")
        return "for i in \(numbers); do echo \(NumberList.text(cpus)) >/proc/irq/$i/smp_affinity_list; done"
    }
}
