// Policies, routes and links at random: few addresses, many rules that meet.

import Forwarding
import IP
import Routing

extension Setting {
    public static func random(_ random: inout Random) -> Setting {
        let interfaces = (0...random.below(4)).map {
            Policy.Interface(
                name: "eth\($0)", reversePath: ReversePathMode.allCases[random.below(5)])
        }
        let devices = (0...random.below(3)).map {
            Policy.Device(
                name: "shuck\($0)", mtu: random.pick([60, 90, 200, 576, 1280, 1500]),
                isElsewhere: random.percent(30))
        }
        let tunnels = (0...random.below(4)).map { _ in
            Policy.Tunnel.random(interfaces: interfaces.count, devices: devices.count, &random)
        }
        var policy = Policy(interfaces: interfaces, tunnels: tunnels, devices: devices)
        policy.mssIPv4 = .random(least: 536, &random)
        policy.mssIPv6 = .random(least: 1220, &random)
        policy.ecn = random.percent(70) ? .standard : ECNMode.allCases[random.below(3)]
        policy.dscp = random.percent(70) ? .pipe : .uniform
        policy.ttl = random.percent(70) ? .pipe : .uniform
        policy.dropMartians = random.percent(70)
        if random.percent(30) { policy.denySources = prefixes(.client, hosts: 50, &random) }
        if random.percent(30) { policy.exemptSources = prefixes(.client, hosts: 20, &random) }
        if random.percent(40) {
            policy.rewrites = (0...random.below(3)).map { _ in
                Policy.SourceRewrite(
                    from: random.percent(80)
                        ? Address(high: 0xfe80 << 48, low: UInt64(random.below(4)))
                        : Block.client.address(isIPv4: false, &random),
                    to: Address(high: 0x2a00 << 48, low: UInt64(random.below(4))),
                    interface: random.below(interfaces.count))
            }
        }
        let links = interfaces.enumerated().map {
            InterfaceState(
                index: random.percent(95) ? Int32($0 + 2) : 0,
                mtu: [1500, 1500, 9000, 1400, 576, 65536, 100, 0][random.below(8)],
                reversePath: $1.reversePath)
        }
        var setting = Setting(
            policy: policy, routes: random.percent(60) ? routes(&random) : nil, interfaces: links)
        setting.fragmentTimeout = random.percent(85) ? 30_000_000_000 : nil
        return setting
    }

    private static func prefixes(_ block: Block, hosts: Int, _ random: inout Random) -> [Prefix] {
        (0...random.below(3)).map { _ in
            block.prefix(isIPv4: random.chance(2), hosts: hosts, &random)
        }
    }

    /// Defaults and parts of the clients' block in all three tables.
    private static func routes(_ random: inout Random) -> [RouteEntry] {
        var routes: [RouteEntry] = []
        for prefix in [Prefix.allIPv4, .allIPv6] where random.percent(85) {
            routes.append(.random(prefix, RouteEntry.tableMain, kind: .unicast, &random))
        }
        for _ in 0..<random.below(24) {
            let block = random.percent(75) ? Block.client : Block.allCases[random.below(4)]
            let prefix = block.prefix(isIPv4: random.chance(2), hosts: 30, &random)
            let table =
                random.percent(80)
                ? RouteEntry.tableMain
                : random.percent(70)
                    ? RouteEntry.tableLocal
                    : random.percent(90) ? RouteEntry.tableDefault : 100
            let kind = random.percent(70) ? .unicast : RouteKind(rawValue: UInt8(1 + random.below(9)))!
            var route = RouteEntry.random(prefix, table, kind: kind, &random)
            routes.append(route)
            // A second way there. Of IPv4 a table has one route of each metric to a prefix.
            guard random.chance(4) else { continue }
            route = .random(prefix, table, kind: kind, &random)
            routes.append(route)
        }
        var seen: Set<[UInt64]> = []
        return routes.filter {
            guard $0.prefix.isIPv4 else { return true }
            let key = [
                $0.prefix.address.low, UInt64($0.prefix.length), UInt64($0.table), UInt64($0.metric),
            ]
            return seen.insert(key).inserted
        }
    }
}

extension RouteEntry {
    fileprivate static func random(
        _ prefix: Prefix, _ table: UInt32, kind: RouteKind, _ random: inout Random
    ) -> RouteEntry {
        RouteEntry(
            prefix: prefix, table: table, kind: kind, metric: UInt32(random.below(3)),
            interfaces: (0...random.below(3)).map { _ in Int32(2 + random.below(5)) })
    }
}

extension MSSClamp {
    fileprivate static func random(least: Int, _ random: inout Random) -> MSSClamp {
        switch random.below(4) {
        case 0: .off
        case 1: .fixed(UInt16(least + random.below(900)))
        default: .auto
        }
    }
}

extension Policy.Tunnel {
    fileprivate static func random(
        interfaces: Int, devices: Int, _ random: inout Random
    ) -> Policy.Tunnel {
        let all = Array(0..<interfaces)
        let some = all.filter { _ in random.chance(2) }
        var local: [Prefix] = []
        var remotes: [Prefix] = []
        for isIPv4 in [true, false] where random.percent(92) || (!isIPv4 && local.isEmpty) {
            for _ in 0...random.below(3) {
                local.append(Block.local.prefix(isIPv4: isIPv4, hosts: 90, &random))
            }
            for _ in 0...random.below(3) {
                remotes.append(Block.remote.prefix(isIPv4: isIPv4, hosts: 20, &random))
            }
        }
        let modes = Mode.allCases.filter { _ in random.percent(70) }
        let destinations = random.percent(30) ? 0 : 1 + random.below(10)
        return Policy.Tunnel(
            name: "t", interfaces: some.isEmpty || random.percent(60) ? all : some, local: local,
            remotes: remotes, passOtherRemotes: random.percent(30),
            modes: modes.isEmpty || random.percent(60) ? Set(Mode.allCases) : Set(modes),
            destinations: (0..<destinations).map { _ in .random(devices: devices, &random) })
    }
}

extension Policy.Destination {
    fileprivate static func random(devices: Int, _ random: inout Random) -> Policy.Destination {
        let isIPv4 = random.chance(2)
        let prefix =
            random.percent(15)
            ? isIPv4 ? Prefix.allIPv4 : .allIPv6
            : Block.pod.prefix(isIPv4: isIPv4, hosts: 50, &random)
        var destination = Policy.Destination(prefix: prefix, device: random.below(devices))
        if random.percent(60) {
            destination.protocolNumber = random.pick([6, 6, 6, 17, 17, 1, 58, 132, 33, 136, 50, 60])
            if [6, 17, 132, 33, 136].contains(destination.protocolNumber!), random.percent(70) {
                destination.ports = (0...random.below(3)).map { _ in
                    let first = UInt16(random.below(4) * 20 + 60)
                    return first...(first + UInt16(random.below(3) * 10))
                }
            }
        }
        if random.chance(4) {
            destination.mss =
                random.chance(3)
                ? .off
                : .random(least: isIPv4 ? 536 : 1220, &random)
        }
        return destination
    }
}
