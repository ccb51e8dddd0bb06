// Reads which CPUs this host has for workers.

import HostPlan
import LinuxIO
import Routing
import Settings

extension Configuration {
    /// The CPU of each worker. `auto` is some of those that the first interface's hardware is nearest
    /// to now; an interface that is absent is near to all.
    func workerCPUs() throws -> [Int] {
        guard let asked = workers.cpus else {
            let cpus = Placement.automaticCPUs(InterfaceHardware.read(interfaces[0]))
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
}

extension Placement {
    /// CPUs for workers where nobody names them.
    fileprivate static func automaticCPUs(_ hardware: InterfaceHardware) -> [Int] {
        let near = WorkerChoice.cpus(near: hardware, nodes: nodes, allowed: allowedCPUs())
        var siblings: [Int: [Int]] = [:]
        for cpu in near {
            let path = "/sys/devices/system/cpu/cpu\(cpu)/topology/thread_siblings_list"
            siblings[cpu] = Host.read(path).flatMap(NumberList.parse)
        }
        return WorkerChoice.choose(
            from: near, queues: hardware.receiveQueues,
            interrupted: Set(hardware.busyInterrupts.flatMap(\.cpus)), siblings: siblings)
    }
}
