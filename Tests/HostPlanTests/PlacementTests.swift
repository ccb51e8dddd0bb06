// Which CPUs workers get, and what slows them there.

import HostPlan
import Testing

@Suite struct PlacementTests {
    // MARK: workers by default

    private func chosen(
        _ cpus: Int, queues: Int? = nil, interrupted: Set<Int> = [], siblings: [Int: [Int]] = [:]
    ) -> [Int] {
        WorkerChoice.choose(
            from: Array(0..<cpus), queues: queues, interrupted: interrupted, siblings: siblings)
    }

    @Test func workersTakeHalfOfTheCPUsAtMost() {
        #expect((1...9).map { chosen($0).count } == [1, 1, 1, 2, 2, 3, 3, 4, 4])
        #expect(chosen(128).count == 4)
        #expect(chosen(128) == [124, 125, 126, 127])
        #expect(chosen(1) == [0])
    }

    @Test func workersAreNoMoreThanReceiveQueues() {
        #expect(chosen(128, queues: 1) == [127])
        #expect(chosen(128, queues: 3) == [125, 126, 127])
        #expect(chosen(128, queues: 64).count == 4)
        #expect(chosen(8, queues: 0) == [7])
    }

    @Test func workersKeepOffInterruptsAndShareNoCore() {
        #expect(chosen(8, interrupted: [4, 5, 6, 7]) == [0, 1, 2, 3])
        #expect(chosen(8, interrupted: Set(0..<8)) == [4, 5, 6, 7])
        #expect(chosen(8, interrupted: [7]) == [3, 4, 5, 6])
        // Threads of a core side by side, and half of the CPUs apart.
        let beside = Dictionary(uniqueKeysWithValues: (0..<8).map { ($0, [$0 & ~1, $0 | 1]) })
        #expect(chosen(8, siblings: beside) == [1, 3, 5, 7])
        let apart = Dictionary(uniqueKeysWithValues: (0..<8).map { ($0, [$0 % 4, $0 % 4 + 4]) })
        #expect(chosen(8, siblings: apart) == [4, 5, 6, 7])
        // Fewer cores than workers.
        #expect(
            WorkerChoice.choose(
                from: Array(0..<8), queues: nil, interrupted: [],
                siblings: Dictionary(uniqueKeysWithValues: (0..<8).map { ($0, [$0 & 1, $0]) })
            ).count == 4)
    }

    // MARK: what follows

    private func interrupt(_ number: Int, _ cpus: [Int], count: UInt64? = 1000) -> InterfaceHardware.Interrupt
    {
        var interrupt = InterfaceHardware.Interrupt(number)
        (interrupt.name, interrupt.count, interrupt.cpus) = ("eth0-TxRx-\(number)", count, cpus)
        return interrupt
    }

    private func facts(
        _ interrupts: [InterfaceHardware.Interrupt], node: [Int] = [1], governors: [Int: String] = [:],
        nodes: [Int: [Int]] = [0: [0, 1], 1: [2, 3]]
    ) -> PlacementFacts {
        var hardware = InterfaceHardware("eth0")
        (hardware.nodes, hardware.interrupts) = (node, interrupts)
        var facts = PlacementFacts()
        (facts.interfaces, facts.nodes, facts.governors) = ([hardware], nodes, governors)
        return facts
    }

    @Test func allIsWell() {
        #expect(facts([interrupt(27, [2])]).warnings(workers: [3]) == [])
        // A veth on a host whose governor is right.
        #expect(facts([], node: [], governors: [0: "performance"]).warnings(workers: [0, 1]) == [])
        // No node is told, and there is but one.
        #expect(facts([interrupt(27, [1])], node: [], nodes: [:]).warnings(workers: [0]) == [])
    }

    @Test func interruptsOnAnotherNode() {
        let warnings = facts([interrupt(27, [0]), interrupt(28, [1]), interrupt(29, [2])])
            .warnings(workers: [3])
        #expect(
            warnings == [
                """
                interrupts 27-28 of eth0 are handled on NUMA node 0, its workers run on node 1: \
                for i in 27 28; do echo 2-3 >/proc/irq/$i/smp_affinity_list; done
                """
            ])
        // With workers on both nodes each is near to one of them.
        #expect(facts([interrupt(27, [0])]).warnings(workers: [1, 3]) == [])
    }

    @Test func aCPUSharedWithAnInterrupt() {
        #expect(
            facts([interrupt(27, [2])]).warnings(workers: [2]) == [
                """
                interrupt 27 (eth0-TxRx-27) of eth0 is handled on CPU 2, where a worker runs: \
                for i in 27; do echo 3 >/proc/irq/$i/smp_affinity_list; done
                """
            ])
        #expect(
            facts([interrupt(27, [2]), interrupt(28, [3])]).warnings(workers: [2, 3]) == [
                """
                interrupts 27-28 of eth0 are handled on CPU 2-3, where workers run: \
                leave some out of workers.cpus, and move the interrupts there
                """
            ])
    }

    @Test func interruptsForItsOwnAffairsDoNotCount() {
        let busy = interrupt(27, [2], count: 100_000)
        #expect(facts([busy, interrupt(26, [0], count: 999)]).warnings(workers: [3]) == [])
        #expect(facts([busy, interrupt(26, [0], count: 2000)]).warnings(workers: [3]).count == 1)
        // Nothing came yet.
        #expect(facts([interrupt(26, [0], count: 0)]).warnings(workers: [3]) == [])
        // /proc/interrupts is hidden from us.
        #expect(facts([interrupt(26, [0], count: nil)]).warnings(workers: [3]).count == 1)
    }

    @Test func workersOnAnotherNodeThanTheInterface() {
        // Then it is the workers that should move, not the interrupts.
        #expect(
            facts([interrupt(27, [2])]).warnings(workers: [0, 1]) == [
                """
                eth0 is on NUMA node 1, its workers are on node 0: set workers.cpus to "2-3" or some \
                of these
                """
            ])
    }

    @Test func aGovernor() {
        let governors = [2: "schedutil", 3: "schedutil", 0: "powersave"]
        #expect(
            facts([], governors: governors).warnings(workers: [2, 3]) == [
                """
                CPU 2-3 of the workers have the governor schedutil, which lets the clock fall \
                between bursts: cpupower -c 2-3 frequency-set -g performance
                """
            ])
        #expect(facts([], governors: [3: "performance"]).warnings(workers: [3]) == [])
    }

    @Test func pagesOnAnotherNode() {
        var facts = facts([])
        facts.pagesElsewhere = [1: 0, 0: 3]
        #expect(
            facts.warnings(workers: [2, 3]) == [
                """
                worker 0: 3 pages of its rings and buffers lie on another NUMA node, for its own had no room \
                when shuck started: free memory there and restart shuck
                """
            ])
    }

    @Test func ofTheNearCPUsTheAllowedOnes() {
        var hardware = InterfaceHardware("eth0")
        let nodes = [0: [0, 1], 1: [2, 3]]
        #expect(WorkerChoice.cpus(near: hardware, nodes: nodes, allowed: [0, 2]) == [0, 2])
        hardware.nodes = [1]
        #expect(WorkerChoice.cpus(near: hardware, nodes: nodes, allowed: [0, 2]) == [2])
        // A cpuset on the other node: those that there are.
        #expect(WorkerChoice.cpus(near: hardware, nodes: nodes, allowed: [0, 1]) == [0, 1])
    }
}

extension PlacementFacts {
    fileprivate func warnings(workers cpus: [Int]) -> [String] {
        findings(workers: cpus).map(\.description)
    }
}
