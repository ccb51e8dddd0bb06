// The configurations and routes of a world: RandomPolicy, RandomRoutes.

import Forwarding
import IP
import Model
import Routing

enum RandomPolicy {
    /// Policies that the world reloads between, all with the same interfaces and devices.
    static func several(_ random: inout RandomStream) -> [Policy] {
        let isLoose = random.percent(60)
        let interfaces = (0..<(1 + random.below(4))).map {
            Policy.Interface(
                name: "eth\($0)",
                reversePath: isLoose ? .loose : random.pick([.strict, .strict, .feasible, .off]))
        }
        let devices = (0..<(1 + random.below(3))).map {
            Policy.Device(
                name: "shuck\($0)", mtu: random.pick([1500, 1280, 600]), isElsewhere: random.percent(40))
        }
        var policy = Policy(
            interfaces: interfaces, tunnels: [tunnel(&random, interfaces, devices)], devices: devices)
        policy.mssIPv4 = random.pick([.auto, .off, .fixed(1200)])
        policy.mssIPv6 = random.pick([.auto, .off, .fixed(1220)])
        policy.ecn = random.pick([.standard, .standard, .copy, .pipe])
        policy.dscp = random.percent(80) ? .pipe : .uniform
        policy.ttl = random.percent(80) ? .pipe : .uniform
        return [policy] + (0..<2).map { _ in changed(policy, &random) }
    }

    private static func tunnel(
        _ random: inout RandomStream, _ interfaces: [Policy.Interface], _ devices: [Policy.Device]
    ) -> Policy.Tunnel {
        let both = [true, false]
        let local = (0..<3).flatMap { host in
            both.map { Prefix(host: Address(bytes: Blocks.local($0, host))!) }
        }
        let remotes = [0, 32].flatMap { host in
            both.map { Prefix(Address(bytes: Blocks.remote($0, host))!, length: $0 ? 27 : 123)! }
        }
        let destinations =
            random.percent(15)
            ? []
            : (0..<8).flatMap { host in
                both.compactMap { isIPv4 -> Policy.Destination? in
                    guard random.percent(90) else { return nil }
                    return Policy.Destination(
                        prefix: Prefix(host: Address(bytes: Blocks.pod(isIPv4, host))!),
                        protocolNumber: random.percent(80) ? nil : random.pick([6, 17]),
                        device: random.below(devices.count), mss: random.percent(80) ? nil : .off)
                }
            }
        return Policy.Tunnel(
            name: "t", interfaces: Array(interfaces.indices), local: local, remotes: remotes,
            passOtherRemotes: random.percent(20), destinations: destinations)
    }

    /// One difference, as an operator makes it.
    private static func changed(_ policy: Policy, _ random: inout RandomStream) -> Policy {
        var new = policy
        switch random.below(7) {
        case 0: new.ecn = new.ecn == .pipe ? .standard : .pipe
        case 1: new.ttl = new.ttl == .pipe ? .uniform : .pipe
        case 2: new.tunnels[0].modes.remove(Mode.allCases[random.below(4)])
        case 3:
            new.denySources = [true, false].map {
                Prefix(host: Address(bytes: Blocks.client($0, random.below(16)))!)
            }
        case 4 where !new.tunnels[0].destinations.isEmpty:
            for place in new.tunnels[0].destinations.indices where random.chance(2) {
                new.tunnels[0].destinations[place].device = random.below(policy.devices.count)
            }
        case 5 where !new.tunnels[0].destinations.isEmpty:
            new.tunnels[0].destinations.remove(at: random.below(new.tunnels[0].destinations.count))
        default: (new.mssIPv4, new.mssIPv6) = (.fixed(600), .fixed(1300))
        }
        return new
    }
}

/// The host's routes: at most one to a prefix, so that the model needs no order.
struct RandomRoutes {
    private(set) var entries: [RouteEntry] = []
    private let interfaces: Int

    init(_ random: inout RandomStream, interfaces: Int) {
        self.interfaces = interfaces
        for prefix in [Prefix.allIPv4, .allIPv6] where random.percent(90) {
            entries.append(entry(prefix, &random))
        }
        for _ in 0..<random.below(8) {
            let new = entry(prefix(&random), &random)
            if !entries.contains(where: { $0.prefix == new.prefix }) { entries.append(new) }
        }
    }

    private func entry(_ prefix: Prefix, _ random: inout RandomStream) -> RouteEntry {
        RouteEntry(
            prefix: prefix, table: RouteEntry.tableMain, kind: random.percent(95) ? .unicast : .blackhole,
            interfaces: (0...random.below(2)).map { _ in
                Int32(2 + random.below(random.percent(15) ? interfaces + 1 : interfaces))
            })
    }

    private func prefix(_ random: inout RandomStream) -> Prefix {
        let isIPv4 = random.chance(2)
        let full = isIPv4 ? 32 : 128
        return Prefix(
            Address(bytes: Blocks.client(isIPv4, random.below(16)))!, length: full - random.below(6))!
    }

    /// A route that comes, goes or changes.
    /// - Parameter steps: gets the routes after each change of the mirror.
    /// - Returns: false when the mirror is not sure to be the kernel's any more.
    mutating func change(
        _ mirror: RouteMirror, _ random: inout RandomStream, _ steps: inout [[RouteEntry]]
    ) -> Bool {
        let known = random.chance(2) && !entries.isEmpty ? random.pick(entries).prefix : prefix(&random)
        let old = entries.firstIndex { $0.prefix == known }
        var isSure = true
        if let old {
            isSure = mirror.remove(entries[old])
            entries.remove(at: old)
            steps.append(entries)
            if random.chance(2) { return isSure }
        }
        let new = entry(known, &random)
        entries.append(new)
        steps.append(entries)
        return mirror.insert(new, .last) && isSure
    }
}
