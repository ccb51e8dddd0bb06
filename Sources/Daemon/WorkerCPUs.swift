// Which CPUs workers run on, and what of this host would slow them there.

import LinuxIO
import Settings

extension Configuration {
    /// The CPU of each worker. `auto` is some of those that the first interface's hardware is nearest
    /// to now; an interface that is absent is near to all.
    func workerCPUs() throws -> [Int] {
        guard let asked = workers.cpus else {
            let cpus = Placement.automaticCPUs(forInterface: interfaces[0])
            guard !cpus.isEmpty else {
                throw HostProblem(
                    description: """
                        workers.cpus: auto: the kernel does not say which CPUs this process may use \
                        (sched_getaffinity): list them
                        """)
            }
            return cpus
        }
        let allowed = Placement.allowedCPUs()
        if let missing = asked.first(where: { !allowed.contains($0) }) {
            throw HostProblem(
                description: """
                    workers.cpus: this process may not run on CPU \(missing); it may on \
                    \(NumberList.text(allowed))
                    """)
        }
        return asked
    }

    /// What of this host is in the way: tunnels of the kernel's.
    public func overlayWarnings() -> [String] {
        overlays((try? NetlinkSocket().links()) ?? []).map(\.description)
    }

    /// What of this host would slow the workers: interrupts, NUMA nodes, governors, each with what
    /// mends it. None where an interface stands on no hardware, as on a host that only checks.
    public func placementWarnings() -> [String] {
        guard let cpus = try? workerCPUs() else { return [] }
        let facts = PlacementFacts.read(interfaces: interfaces, workers: cpus)
        let hasHardware = facts.interfaces.contains { !$0.nodes.isEmpty || !$0.interrupts.isEmpty }
        return hasHardware ? facts.warnings(workers: cpus) : []
    }
}
