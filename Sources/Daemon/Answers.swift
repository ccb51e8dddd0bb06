// The way back of what probes are answered with: a route for each rewritten address leads to a device
// that a worker reads, and a socket sends each packet on out of the rule's interface.

import Forwarding
import Glibc
import LinuxIO
import Routing
import Settings

/// What the answers need of the host. Copies of a plumbing share it; what goes with the last one
/// is removed from the host.
final class Answers: @unchecked Sendable {
    // @unchecked: device and routes are the control thread's; workers see place and sockets.

    /// Where the routes lead: the first device in the host's own namespace, whichever device the
    /// probes go through. The kernel hands it all that is routed to a rule's address.
    let device: TunDevice
    /// Its place among the configured devices.
    let place: Int
    /// In the order of `Policy.rewrites`; nil: the interface is absent.
    let sockets: [AnswerSocket?]
    private let routes: [Address: HostRoute]

    /// Keeps of `old` what is the same.
    init(
        _ configuration: Configuration, device: TunDevice, place: Int, links: [Link],
        unlike old: Answers?
    ) throws(SystemError) {
        self.device = device
        self.place = place
        var sockets: [AnswerSocket?] = []
        for rule in configuration.inner.rewriteSources {
            guard let link = links.first(where: { $0.name == rule.interface }) else {
                sockets.append(nil)
                continue
            }
            let known = (sockets + (old?.sockets ?? [])).compactMap { $0 }.first {
                $0.interface == link.name && $0.interfaceIndex == link.index
            }
            if let known {
                sockets.append(known)
            } else {
                sockets.append(try AnswerSocket(interface: link.name, index: link.index))
            }
        }
        self.sockets = sockets
        var routes: [Address: HostRoute] = [:]
        for rule in configuration.inner.rewriteSources {
            if let known = old?.routes[rule.to], old?.device === device {
                routes[rule.to] = known
            } else {
                routes[rule.to] = try HostRoute(
                    to: rule.to.bytes, text: rule.to.text, device: device.index)
            }
        }
        self.routes = routes
    }

    /// Routes go when their device is set down, and do not come back with it.
    func restoreRoutes() {
        for route in routes.values { route.restore() }
    }

    static func isAsked(_ configuration: Configuration) -> Bool {
        !configuration.inner.rewriteSources.isEmpty && configuration.mode == .active
    }
}

extension Plumbing {
    /// What a plumbing in the making, of which the receiver is the old one, needs for answers.
    func reconcileAnswers(
        of configuration: Configuration, links: [Link], _ occasion: Occasion,
        into next: inout Plumbing
    ) throws(SystemError) {
        guard Answers.isAsked(configuration),
            let place = configuration.devices.firstIndex(where: { $0.netns == nil }),
            let device = next.devices[configuration.devices[place].name]
        else { return }
        guard Host.hasSysctl("net.ipv6.conf.all.forwarding") else {
            next.fallShort("inner.rewriteSources: this host has no IPv6, so nothing is answered")
            return
        }
        // Before the first answer can come; harmless should this plumbing come to nothing.
        device.setReading(true)
        let old = answers
        try attempt(.answers, occasion, into: &next) { (next) throws(SystemError) in
            next.answers = try Answers(
                configuration, device: device, place: place, links: links, unlike: old)
        }
        if let absence = next.absences[.answers] {
            next.fallShort("inner.rewriteSources: answers do not come back: \(absence.reason)")
        }
    }

    fileprivate mutating func fallShort(_ text: String) {
        degradations.append(
            Degradation(what: .probes, subject: "answers", text: text, isBlocking: false))
    }

    /// Once no worker runs on what was before: narrows what was kept wide for the change.
    func settle(_ configuration: Configuration) {
        for device in devices.values where device !== answers?.device { device.setReading(false) }
        // What the wider filter lets in beside is passed by the judge.
        try? receiveNatives(configuration, beside: nil)
    }

    /// Lets native probes into the rings, of the rules and of those that held before.
    func receiveNatives(
        _ configuration: Configuration, beside old: Configuration?
    ) throws(SystemError) {
        for (name, interface) in interfaces {
            let natives = configuration.natives(interface: name)
            let both = natives.union(old?.natives(interface: name) ?? [])
            guard interface.natives != both else { continue }
            for ring in interface.rings { try ring.startReceiving(natives: Array(both)) }
            interface.natives = both
        }
    }
}

extension Configuration {
    /// Sources of native frames that may be probes, 16 bytes each.
    func natives(interface: String) -> Set<[UInt8]> {
        Set(
            inner.rewriteSources.filter { $0.interface == interface }.map(\.from.address.bytes))
    }
}

/// One worker's reading of the answers' device.
final class AnswerLoop {
    /// Packets that are sent on before frames from the rings have their turn again.
    private static let turn = 64
    private static let bytes = PacketRing.virtioHeaderBytes + 40 + 65_535

    let answers: Answers
    /// This worker's queue.
    let descriptor: Int32
    var isPolled = false
    /// The queue may hold packets.
    var isReadable = false
    /// The device is gone: nothing to wait for before the next assignment.
    private(set) var isClosed = false
    private let buffer: UnsafeMutableRawPointer

    init(_ answers: Answers, worker queue: Descriptor) {
        self.answers = answers
        descriptor = queue.number
        buffer = .allocate(byteCount: Self.bytes, alignment: 16)
    }

    deinit { buffer.deallocate() }

    /// Takes what there is, at most a turn. Plain system calls: on some kernels a read by io_uring
    /// waits where there is nothing, and answers are few.
    /// - Returns: answers that were sent, and those that the kernel did not take.
    func run(_ world: UnsafePointer<WorldView>) -> (sent: UInt64, failed: UInt64) {
        var (sent, failed): (UInt64, UInt64) = (0, 0)
        for _ in 0..<Self.turn {
            let count = read(descriptor, buffer, Self.bytes)
            if count < 0 {
                if errno == EINTR { continue }
                isReadable = false
                isClosed = errno != EAGAIN
                break
            }
            let packet = buffer + PacketRing.virtioHeaderBytes
            let length = count - PacketRing.virtioHeaderBytes
            let header = buffer.loadUnaligned(as: VirtioHeader.self)
            // What was queued before the device was told to finish its packets.
            guard header.flags & VirtioHeader.needsChecksum == 0,
                header.gsoType == VirtioHeader.gsoNone,
                let rule = AnswerRewrite.apply(packet, count: length, world: world)
            else { continue }
            if answers.sockets[rule]?.send(packet, length) ?? false {
                sent += 1
            } else {
                failed += 1
            }
        }
        return (sent, failed)
    }
}
