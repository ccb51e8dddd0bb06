// Runs a worker over frames that already wait in its ring, on the calling thread: for counting what
// a packet costs in user space, where a second thread or a sleep would blur the count.

import Forwarding
import Foundation
import HostPlan
import IP
import LinuxIO
import Routing

package enum WorkerBench {
    /// Opens what `run` would with one worker, lets frames in, waits until `frames` of them lie in
    /// the first interface's ring, and works them off.
    /// - Returns: frames received, packets injected, and the writes that took.
    package static func drain(
        configurationPath path: String, frames: Int, extraRoutes: Int
    ) throws -> (received: UInt64, injected: UInt64, writes: UInt64) {
        let (loaded, problems) = ConfigurationFiles.load(path)
        guard let configuration = loaded else {
            throw HostProblem(description: problems.map(\.description).joined(separator: "\n"))
        }
        let netlink = try NetlinkSocket()
        let cpu = Placement.allowedCPUs()[0]
        var plumbing = Plumbing()
        let facts = HostFacts.read(for: configuration, cpus: [cpu], links: try netlink.links())
        _ = try plumbing.reach(configuration, facts, .start, [.prepare, .share])
        let routes = try netlink.routes().compactMap { $0.found([:]) } + synthetic(extraRoutes)
        let links = try netlink.links()
        let world = ForwardingTables(
            policy: PolicyTables(configuration.policy), routes: RouteTable(routes),
            interfaces: Engine.states(configuration, links))
        guard let ring = plumbing.interface(configuration.interfaces[0])?.rings[0] else {
            throw HostProblem(description: "interface \(configuration.interfaces[0]) is absent")
        }
        _ = try plumbing.reach(configuration, facts, .start)
        let ready = Array("ready\n".utf8)
        guard write(STDOUT_FILENO, ready, ready.count) == ready.count else {
            throw SystemError("write", "standard output", errno: errno)
        }
        while ring.slots.slot(at: frames - 1) == nil { Host.pause(milliseconds: 5) }
        try plumbing.stopReceiving()
        let counters = try CounterBlock(shape: CounterBlock.Shape(configuration.policy), cpu: cpu)
        let assignment = Assignment(
            configuration, plumbing, worker: 0, generation: 1, world: world, counters: counters,
            examples: try DropExamples(cpu: cpu), ending: .drained)
        let mailbox = try Mailbox()
        mailbox.post(assignment)
        let worker = try Worker(
            mailbox: mailbox, memory: Worker.makeMemory(worker: 0, cpu: cpu),
            copies: Worker.makeCopies(cpu: cpu), usesRing: true)
        try worker.run()
        let values = counters.read()
        return (values[.received], values[.injected], values[.writes])
    }

    /// Unicast routes through interface 1 that no test address falls into: 11.0.0.0/8 in /24s.
    private static func synthetic(_ count: Int) -> [RouteEntry] {
        (0..<count).map { number in
            let address = Address(ipv4: 0x0b00_0000 &+ UInt32(number) << 8)
            return RouteEntry(
                prefix: Prefix(address, length: 24)!, table: RouteEntry.tableMain, interfaces: [1])
        }
    }
}
