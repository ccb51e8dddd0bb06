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

/// The descriptors of one configuration. Copies share them; what no copy holds is closed. While
/// an old and a new one both live, both their claims hold.
struct Plumbing {
    struct InterfaceClaim {
        let claim: Claim
        let rules: [ClaimRule]
        /// What was asked for.
        let native: NativeClaimRule?
        let interfaceIndex: Int32
        /// Why native probes are not claimed.
        var failure: String?

        var degradations: [Degradation] {
            failure.map {
                [Degradation(what: .claim, subject: "native probes", text: $0, isBlocking: false)]
            } ?? []
        }
    }

    var interfaces: [String: OpenInterface] = [:]
    var devices: [String: TunDevice] = [:]
    /// What could not be opened.
    var absences: [Part: Absence] = [:]
    /// What each device was last set to.
    var settings: [String: Configuration.Device] = [:]
    /// By interface, where frames are claimed by a program.
    var claims: [String: InterfaceClaim] = [:]
    /// Raw sockets, where frames are claimed by them.
    var socketClaim: Claim?
    var socketAddresses: [[UInt8]] = []
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

    /// Bytes of each ring. By time rather than by bytes: at half a million small packets a
    /// second, 8192 slots hold what comes in 16 ms.
    static let ringBytes = 16 << 20

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
            if let old = interfaces[name], old.link.index == link.index,
                old.rings.count == cpus.count
            {
                next.interfaces[name] = old
                continue
            }
            try attempt(.interface(name), index: link.index, occasion, into: &next) {
                (next) throws(SystemError) in
                next.interfaces[name] = try Self.open(link, cpus: cpus)
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
        try reconcileAnswers(of: configuration, links: links, occasion, into: &next)
        return next
    }

    private static func open(_ link: Link, cpus: [Int]) throws(SystemError) -> OpenInterface {
        // ARPHRD_ETHER and ARPHRD_LOOPBACK: the link layers that begin with an Ethernet header.
        guard link.hardwareType == 1 || link.hardwareType == 772 else {
            throw SystemError(
                "open", link.name, errno: 95 /* EOPNOTSUPP */,
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
        socketClaim = old.socketClaim
        socketAddresses = old.socketAddresses
    }

    func stopReceiving() throws(SystemError) {
        for interface in interfaces.values {
            for ring in interface.rings { try ring.stopReceiving() }
        }
    }

    /// A claim that stays the same is kept; a new one stands beside the old until that goes.
    private mutating func claim(
        _ configuration: Configuration, _ old: Plumbing
    ) throws(SystemError) {
        claims = [:]
        let isOff = configuration.consume == .off || configuration.mode == .shadow
        var isBySocket = configuration.consume == .socket
        let policy = configuration.policy
        for (number, interface) in policy.interfaces.enumerated() where !isOff && !isBySocket {
            guard let open = interfaces[interface.name] else { continue }
            let rules = policy.claims(interface: number).map(ClaimRule.init)
            let native = policy.nativeClaim(interface: number).map(NativeClaimRule.init)
            if let kept = old.claims[interface.name], kept.rules == rules,
                kept.native == native, kept.interfaceIndex == open.link.index
            {
                claims[interface.name] = kept
                degradations += kept.degradations
                continue
            }
            do throws(SystemError) {
                let new = try Self.claim(
                    open.link, rules, native, allowClsact: configuration.consume == .bpf)
                claims[interface.name] = new
                degradations += new.degradations
            } catch {
                guard configuration.consume == .auto else { throw error }
                degradations.append(
                    Degradation(
                        what: .claim, subject: interface.name,
                        text: "consume: raw sockets instead of a program: \(error)",
                        isBlocking: false))
                isBySocket = true
                claims = [:]
            }
        }
        try claimBySockets(
            isOff || !isBySocket ? [] : configuration.tunnels.flatMap(\.local), old)
    }

    /// The verifier may find thousands of destinations too much: then tunnels alone are claimed,
    /// for the kernel refuses to forward a link-local source anyway, if not in silence.
    private static func claim(
        _ link: Link, _ rules: [ClaimRule], _ native: NativeClaimRule?, allowClsact: Bool
    ) throws(SystemError) -> InterfaceClaim {
        func make(_ native: NativeClaimRule?) throws(SystemError) -> Claim {
            try Claim.byProgram(
                rules, native: native, interface: link.name, index: link.index,
                allowClsact: allowClsact)
        }
        var failure: String?
        var claim: Claim
        do throws(SystemError) {
            claim = try make(native)
        } catch {
            guard native != nil else { throw error }
            claim = try make(nil)
            failure = "\(link.name): native probes are answered by an ICMPv6 error, too: \(error)"
        }
        return InterfaceClaim(
            claim: claim, rules: rules, native: native, interfaceIndex: link.index,
            failure: failure)
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

    private mutating func claimBySockets(
        _ local: [Prefix], _ old: Plumbing
    ) throws(SystemError) {
        socketAddresses = Set(local.filter(\.isHost)).map(\.address.bytes).sorted {
            $0.lexicographicallyPrecedes($1)
        }
        for prefix in Set(local) where !prefix.isHost {
            degradations.append(
                Degradation(
                    what: .claim, subject: prefix.text,
                    text: """
                        consume: socket claims single addresses only, and \(prefix.text) is not \
                        one: list its addresses under local
                        """,
                    isBlocking: false))
        }
        if socketAddresses == old.socketAddresses {
            socketClaim = old.socketClaim
        } else {
            socketClaim = socketAddresses.isEmpty ? nil : try Claim.bySockets(socketAddresses)
        }
    }
}

extension NativeClaimRule {
    init(_ claim: Policy.NativeClaim) {
        // IPv4's prefix stands for IPv4-mapped addresses.
        let mapped = ClaimRule.Network(
            bytes: [UInt8](repeating: 0, count: 10) + [255, 255, 0, 0, 0, 0], length: 96)
        self.init(
            sources: claim.sources.map(\.bytes),
            targets: claim.targets.map {
                Target(
                    network: ClaimRule.Network($0.prefix), protocolNumber: $0.protocolNumber,
                    ports: $0.ports)
            },
            excluded: claim.excluded.map { $0.isIPv4 ? mapped : ClaimRule.Network($0) })
    }
}

extension ClaimRule.Network {
    fileprivate init(_ prefix: Prefix) {
        self.init(bytes: prefix.address.bytes, length: prefix.length)
    }
}

extension ClaimRule {
    init(_ claim: Policy.Claim) {
        switch claim.sources {
        case .all:
            self.init(local: Network(claim.local), remotes: nil, excluded: [])
        case .only(let remotes, let excluding):
            self.init(
                local: Network(claim.local), remotes: remotes.map(Network.init),
                excluded: excluding.map(Network.init))
        }
    }
}
