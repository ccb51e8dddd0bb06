// What opens: rings, TUN devices and claims, compared with what a configuration and the links ask for.
// Privileged; runs on the control thread only. Workers are handed what it holds.

import Forwarding
import Glibc
import LinuxIO
import Routing
import Settings

/// A configured interface that is there: its rings, one a worker.
final class OpenInterface {
    let link: Link
    let rings: [PacketRing]
    /// Sources of native probes that the rings let in.
    var natives: Set<[UInt8]> = []

    init(link: Link, rings: [PacketRing]) {
        self.link = link
        self.rings = rings
    }
}

extension OpenInterface {
    /// Where the kernel lets fewer bytes of large frames wait than a ring is meant to have.
    var shortQueue: Degradation? {
        guard let ring = rings.first, ring.queueBytes < ring.byteCount else { return nil }
        return Degradation(
            what: .host, subject: "net.core.rmem_max",
            text: """
                \(link.name): of frames larger than a slot, which GRO makes, only \
                \(ring.queueBytes >> 10) KiB may wait and the rest is lost: \
                sysctl -w net.core.rmem_max=\(ring.byteCount)
                """,
            isBlocking: false)
    }
}

/// The descriptors of one configuration. Copies share them; what no copy holds is closed. While
/// an old and a new one both live, both their claims hold.
struct Plumbing {
    struct InterfaceClaim {
        let claim: Claim
        let tables: ClaimTables
        let interfaceIndex: Int32
    }

    var interfaces: [String: OpenInterface] = [:]
    /// What keeps a second shuck off the interfaces, by ifindex.
    var guards: [Int32: InterfaceGuard] = [:]
    var devices: [String: TunDevice] = [:]
    /// What could not be opened.
    var absences: [Part: Absence] = [:]
    /// What each device was last set to.
    var settings: [String: Configuration.Device] = [:]
    /// By interface, where frames are claimed by a program.
    var claims: [String: InterfaceClaim] = [:]
    /// Raw sockets, where frames are claimed by them; indices into the policy's interfaces.
    var socketInterfaces: [Int] = []
    var socketClaim: Claim?
    var socketAddresses: [[UInt8]] = []
    /// What they cannot claim, by the routes of now.
    var claimGaps: [Degradation] = []
    /// For the ICMP errors of devices in other namespaces.
    var replies: Replies?
    /// For the answers to rewritten probes.
    var answers: Answers?
    /// Where `mss.replies` asks for one, and the chains that it was last given.
    var replyTable: FilterTable?
    var replyChains = ""
    /// Why the table does not have the chains that it should have.
    var replyFailure: String?
    /// What could not be had as asked.
    var degradations: [Degradation] = []

    /// Bytes that all rings share, and bounds of each. A ring is sized by time: at half a million
    /// small packets a second, the 8192 slots of 16 MiB hold what comes in 16 ms, the 512 of 1 MiB
    /// what comes in one.
    static let ringBudget = 256 << 20
    static let ringBytesMin = 1 << 20
    static let ringBytesMax = 16 << 20

    /// Bytes of each of so many rings: an equal share of the budget within the bounds, and a power
    /// of two, as the worker's index into the slots needs.
    static func ringBytes(rings: Int) -> Int {
        var bytes = ringBytesMax
        while bytes > ringBytesMin && bytes * rings > ringBudget { bytes /= 2 }
        return bytes
    }

    /// What this configuration needs on these links: keeps what fits, opens what is new.
    /// Changes nothing that the receiver's old copy uses.
    /// - Throws: what the occasion does not let pass.
    func reconciled(
        with configuration: Configuration, links: [Link], cpus: [Int], _ occasion: Occasion
    ) throws(SystemError) -> Plumbing {
        var next = Plumbing()
        try reconcileDevices(
            of: configuration, links: links, workers: cpus.count, occasion, into: &next)
        if configuration.devices.contains(where: { $0.netns != nil }) {
            let isSame = replies?.settings == configuration.icmp
            next.replies = try isSame ? replies : Replies(configuration.icmp)
        }
        for name in configuration.interfaces {
            guard let link = links.first(where: { $0.name == name }) else { continue }
            // A shadow injects nothing: it may stand beside another one.
            let isAlone = configuration.mode == .active
            let held = isAlone ? guards[link.index] : nil
            let kept = interfaces[name].flatMap {
                $0.link.index == link.index && $0.rings.count == cpus.count ? $0 : nil
            }
            if let kept, held != nil || !isAlone {
                next.interfaces[name] = kept
                next.guards[link.index] = held
                continue
            }
            let rings = cpus.count * configuration.interfaces.count
            try attempt(.interface(name), index: link.index, occasion, into: &next) {
                (next) throws(SystemError) in
                var mine = held
                if isAlone, mine == nil {
                    mine = try InterfaceGuard(
                        interface: name, index: link.index, holder: Host.identity())
                }
                if let kept {
                    next.interfaces[name] = kept
                } else {
                    next.interfaces[name] = try Self.open(
                        link, cpus: cpus, ringBytes: Self.ringBytes(rings: rings))
                }
                next.guards[link.index] = mine
            }
        }
        try next.refuseStartWithNothing(occasion)
        next.degradations = configuration.devices.compactMap { device in
            guard let tun = next.devices[device.name], !tun.offloads.contains(.tcp) else { return nil }
            return Degradation(
                what: .offload, subject: device.name,
                text: "\(device.name): the kernel takes no TCP segments from it; large packets fail",
                isBlocking: false)
        }
        next.degradations += next.interfaces.values.compactMap(\.shortQueue)
        try reconcileAnswers(of: configuration, links: links, occasion, into: &next)
        return next
    }

    private static func open(
        _ link: Link, cpus: [Int], ringBytes: Int
    ) throws(SystemError) -> OpenInterface {
        // ARPHRD_ETHER and ARPHRD_LOOPBACK: the link layers that begin with an Ethernet header.
        guard link.hardwareType == 1 || link.hardwareType == 772 else {
            throw SystemError(
                "open", link.name, errno: EOPNOTSUPP,
                mend: "it is no Ethernet device; name the device below it under interfaces")
        }
        let fanout = cpus.count > 1 ? FanoutGroup() : nil
        var slotSize = 2048
        // Link-layer header, virtio_net_hdr, slot header and address: below 128 bytes.
        while slotSize < min(link.mtu + 128, 16_384) { slotSize *= 2 }
        var rings: [PacketRing] = []
        for cpu in cpus {
            rings.append(
                try Placement.withMemory(onNodeOf: cpu) { () throws(SystemError) in
                    try PacketRing(
                        interface: link.name, index: link.index, slotSize: slotSize,
                        slotCount: ringBytes / slotSize, fanout: fanout)
                })
        }
        return OpenInterface(link: link, rings: rings)
    }

    /// Lets frames into the rings that are not in `old`, then claims what the configuration
    /// claims: from then on the kernel is silent.
    /// - Parameter before: what the workers still run on.
    mutating func startReceiving(
        _ configuration: Configuration, unlike old: Plumbing, before: Configuration? = nil,
        _ occasion: Occasion
    ) throws(SystemError) {
        for (name, interface) in interfaces where old.interfaces[name] !== interface {
            try old.attempt(
                .interface(name), index: interface.link.index, occasion, into: &self
            ) { (next) throws(SystemError) in
                // Until all of it receives it is not there.
                next.interfaces[name] = nil
                let natives = configuration.natives(interface: name)
                for ring in interface.rings { try ring.startReceiving(natives: Array(natives)) }
                interface.natives = natives
                next.interfaces[name] = interface
            }
        }
        try receiveNatives(configuration, beside: before)
        // Whoever asks for a claim that cannot be had is to hear of it before anything runs.
        let strict = occasion == .start ? .reload : occasion
        try old.attempt(.claims, strict, into: &self) { (next) throws(SystemError) in
            try next.claim(configuration, old)
        }
        if absences[.claims] != nil { keepClaims(of: old) }
    }

    /// Other claims could not be had: those that are there hold on.
    private mutating func keepClaims(of old: Plumbing) {
        for (name, claim) in old.claims where interfaces[name]?.link.index == claim.interfaceIndex {
            claims[name] = claims[name] ?? claim
        }
        socketInterfaces = old.socketInterfaces
        socketClaim = old.socketClaim
        socketAddresses = old.socketAddresses
    }

    func stopReceiving() throws(SystemError) {
        for interface in interfaces.values {
            for ring in interface.rings { try ring.stopReceiving() }
        }
    }

    /// Clamps what pods answer, where the configuration asks for it. A table that is there gets
    /// other chains; the last step before a switch, for it changes what the old one holds too.
    /// - Parameter links: `auto` follows their MTU.
    mutating func clampReplies(
        _ configuration: Configuration, links: [Link], unlike old: Plumbing
    ) throws(SystemError) {
        replyTable = nil
        replyChains = ""
        replyFailure = nil
        guard configuration.mss.replies == .nft, configuration.mode == .active else { return }
        let chains = ReplyRules.chains(configuration) { name in
            links.first { $0.name == name }?.mtu
        }
        if let table = old.replyTable {
            if chains != old.replyChains || old.replyFailure != nil {
                try table.replace(chains: chains)
            }
            replyTable = table
        } else {
            // Not named after a device: during a hand-over two processes have the same one.
            replyTable = try FilterTable(name: "shuck-\(getpid())", chains: chains)
        }
        replyChains = chains
    }
}
