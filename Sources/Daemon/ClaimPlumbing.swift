// How the kernel is kept from answering for frames that are ours: by a program for each interface, or
// by raw sockets, and what these cannot claim.

import Forwarding
import LinuxIO
import Routing
import Settings

extension Plumbing {
    /// A claim that stays the same is kept; a new one stands beside the old until that goes.
    mutating func claim(_ configuration: Configuration, _ old: Plumbing) throws(SystemError) {
        claims = [:]
        socketInterfaces = []
        let isOff = configuration.consume == .off || configuration.mode == .shadow
        let policy = configuration.policy
        for (number, interface) in policy.interfaces.enumerated() where !isOff {
            if configuration.consume == .socket {
                socketInterfaces.append(number)
                continue
            }
            guard let open = interfaces[interface.name] else { continue }
            let tables = ClaimTables(policy.claims(interface: number))
            if let kept = old.claims[interface.name], kept.tables == tables,
                kept.interfaceIndex == open.link.index
            {
                claims[interface.name] = kept
                continue
            }
            do throws(SystemError) {
                let claim = try Claim.byProgram(
                    tables, interface: open.link.name, index: open.link.index,
                    allowClsact: configuration.consume == .bpf)
                claims[interface.name] = InterfaceClaim(
                    claim: claim, tables: tables, interfaceIndex: open.link.index)
            } catch {
                guard configuration.consume == .auto else { throw error }
                socketInterfaces.append(number)
                // A fallback for want of descriptors or memory is no choice for good.
                if error.mayPass {
                    let part = Part.claim(interface.name)
                    absences[part] = Absence(
                        error, index: open.link.index, after: old.absences[part],
                        now: Host.monotonicNanoseconds())
                }
                degradations.append(
                    Degradation(
                        what: .claim, subject: interface.name,
                        text: """
                            \(interface.name) is claimed by raw sockets instead of a program: \(error)
                            """,
                        isBlocking: false))
            }
        }
        try claimBySockets(policy, old)
        if policy.rewrites.contains(where: { socketInterfaces.contains($0.interface) }) {
            degradations.append(
                Degradation(
                    what: .probes, subject: "claim",
                    text: """
                        raw sockets claim no native probes: beside their answer the kernel sends \
                        an ICMPv6 error (beyond scope of source address); set consume: bpf
                        """,
                    isBlocking: false))
        }
    }

    /// Refuses `consume: socket` where raw sockets could not claim all that it asks for.
    /// - Parameter world: the next one.
    static func checkClaim(_ configuration: Configuration, _ world: World) throws {
        guard configuration.consume == .socket, configuration.mode == .active else { return }
        var asked = Plumbing()
        asked.socketInterfaces = Array(configuration.interfaces.indices)
        let gaps = asked.claimGaps(world)
        guard !gaps.isEmpty else { return }
        throw HostProblem(description: gaps.map(\.text).joined(separator: "; "))
    }

    private mutating func claimBySockets(
        _ policy: Policy, _ old: Plumbing
    ) throws(SystemError) {
        let local = socketTunnels(policy).flatMap(\.tunnel.local)
        socketAddresses = Set(local.filter(\.isHost)).map(\.address.bytes).sorted {
            $0.lexicographicallyPrecedes($1)
        }
        if socketAddresses == old.socketAddresses {
            socketClaim = old.socketClaim
        } else {
            socketClaim = socketAddresses.isEmpty ? nil : try Claim.bySockets(socketAddresses)
        }
    }

    /// Tunnels that raw sockets claim, each with its interfaces that they claim for.
    private func socketTunnels(_ policy: Policy) -> [(tunnel: Policy.Tunnel, interfaces: [Int])] {
        policy.tunnels.compactMap { tunnel in
            let interfaces = tunnel.interfaces.filter(socketInterfaces.contains)
            return interfaces.isEmpty ? nil : (tunnel, interfaces)
        }
    }

    /// What raw sockets are to claim and cannot: frames to these addresses do not end in this
    /// host's IP stack, so the kernel forwards them, too, and those that come back are injected
    /// once more.
    /// - Parameter world: what workers run on, or will.
    func claimGaps(_ world: World) -> [Degradation] {
        var gaps: [Prefix: String] = [:]
        for (tunnel, interfaces) in socketTunnels(world.policy.policy) {
            for prefix in tunnel.local where gaps[prefix] == nil {
                if !prefix.isHost {
                    gaps[prefix] = """
                        raw sockets claim single addresses, and local \(prefix.text) is none: \
                        list its addresses, or set consume: bpf
                        """
                } else if interfaces.contains(where: { !world.isOwn(prefix.address, interface: $0) }) {
                    gaps[prefix] = """
                        raw sockets cannot claim local \(prefix.address.text), because it is no \
                        address of this host and the kernel forwards its frames: ip address add \
                        \(prefix.text) dev lo, or set consume: bpf
                        """
                }
            }
        }
        return gaps.sorted { $0.key.text < $1.key.text }.map {
            Degradation(what: .claim, subject: $0.key.text, text: $0.value, isBlocking: true)
        }
    }
}

extension ClaimTables.Network {
    fileprivate init(_ prefix: Prefix) {
        self.init(bytes: prefix.address.bytes, length: prefix.length)
    }
}

extension ClaimTables {
    init(_ claims: Policy.Claims) {
        self.init(
            locals: claims.locals.map {
                Local(network: Network($0.prefix), remotes: $0.remotes)
            },
            remotes: claims.remotes.map { $0.map(Network.init) },
            endpoints: claims.endpoints.map(\.bytes), native: claims.native.map(Native.init))
    }
}

extension ClaimTables.Native {
    fileprivate init(_ claims: Policy.NativeClaims) {
        // IPv4's prefix stands for IPv4-mapped addresses.
        let mapped = ClaimTables.Network(
            bytes: [UInt8](repeating: 0, count: 10) + [255, 255, 0, 0, 0, 0], length: 96)
        self.init(
            sources: claims.sources.map(\.bytes),
            targets: claims.targets.map { target in
                let ports: Ports =
                    switch target.ports {
                    case .never: .never
                    case .any: .any
                    case .set(let index): .set(index)
                    }
                return Target(
                    network: target.prefix.isIPv4 ? mapped : ClaimTables.Network(target.prefix),
                    protocolNumber: target.protocolNumber, ports: ports)
            },
            portSets: claims.portSets)
    }
}
