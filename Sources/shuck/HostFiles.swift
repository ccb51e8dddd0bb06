// Routes, nexthop objects, links and policy rules from files of `ip -j`: what the daemon reads from the
// kernel, so that a replay needs no host. RuleFiles.swift reads the rules.

import IP
import Routing

struct HostFiles {
    private(set) var routes: [RouteEntry] = []
    /// By whether they are IPv4's; a family without a file has the kernel's default rules.
    var rules: [Bool: [RuleEntry]] = [:]
    /// Device groups, by the numbers of `interface`.
    private(set) var groups: [Int32: UInt32] = [:]
    /// Tables of the VRFs, and those of the VRFs that interfaces are in.
    private(set) var vrfs: [UInt32] = []
    private(set) var vrfOfInterface: [String: UInt32] = [:]
    /// Interface names by the host's own numbers; empty when no file tells of links.
    private(set) var names: [Int32: String] = [:]
    /// What is missing, or does not count.
    var notes: [String] = []

    // Numbers for names, the same in every file. This host need not have them.
    private var interfaces: [String: Int32] = [:]
    private var tables: [String: UInt32] = [
        "local": RouteEntry.tableLocal, "main": RouteEntry.tableMain,
        "default": RouteEntry.tableDefault, "unspec": 0,
    ]
    private var nexthops: [UInt32: KernelNexthop] = [:]
    private var kernelRoutes: [KernelRoute] = []
    private var links: [IPObject] = []

    init(routes paths: [String], rules rulePaths: [String], interfaces: [String]) throws(Failure) {
        for name in interfaces { _ = interface(name) }
        for path in paths { try loadRoutes(path) }
        let known = KernelNexthop.interfaces(nexthops)
        routes = kernelRoutes.compactMap { $0.found(known) }
        addLinks()
        noteRoutes()
        for path in rulePaths { try loadRules(path) }
        if !rulePaths.isEmpty { noteRules() }
    }

    /// From 1, as the kernel counts.
    mutating func interface(_ name: String) -> Int32 {
        if let known = interfaces[name] { return known }
        let new = Int32(interfaces.count + 1)
        interfaces[name] = new
        return new
    }

    /// iproute2 writes a name of /etc/iproute2/rt_tables where it knows one, else the number.
    mutating func table(_ text: String) -> UInt32 {
        if let number = UInt32(text) ?? tables[text] { return number }
        // Far from the numbers that people choose, and from the kernel's own.
        let new = 0xff00_0000 | UInt32(truncatingIfNeeded: tables.count)
        tables[text] = new
        return new
    }
}

// MARK: - Routes, nexthop objects and links

extension HostFiles {
    private mutating func loadRoutes(_ path: String) throws(Failure) {
        let objects = try IPObject.read(path, command: "ip -j route show table all")
        // A default route that does not show its family is IPv4's where other routes have a preference,
        // else of the other routes' family; `ip route` without a family prints IPv4's.
        let families = objects.compactMap(\.isIPv6Route)
        let isIPv6 = !families.isEmpty && !families.contains(false) && !objects.contains { $0.has("pref") }
        try objects.each("route", in: path) { object throws(Failure) in
            if let name = object.text("ifname") {
                names[try object.number("ifindex") ?? 0] = name
                links.append(object)
            } else if object.has("id"), !object.has("dst") {
                try add(nexthop: object)
            } else {
                try add(route: object, defaultIsIPv6: isIPv6)
            }
        }
    }

    private mutating func add(nexthop object: IPObject) throws(Failure) {
        var nexthop = KernelNexthop()
        nexthop.id = try object.number("id") ?? 0
        nexthop.interface = object.text("dev").map { interface($0) }
        for member in object.objects("group") { nexthop.members.append(try member.number("id") ?? 0) }
        nexthops[nexthop.id] = nexthop
    }

    private mutating func add(route object: IPObject, defaultIsIPv6: Bool) throws(Failure) {
        if let info = object.objects("nh_info").first, let id: UInt32 = try info.number("id"),
            nexthops[id] == nil
        {
            try add(nexthop: info)
        }
        guard let destination = object.text("dst") else { throw Failure(message: "it has no \"dst\"") }
        let isIPv6 = object.isIPv6Route ?? defaultIsIPv6
        let all: Prefix? = destination == "default" ? isIPv6 ? .allIPv6 : .allIPv4 : nil
        guard let prefix = all ?? Prefix(destination) else {
            // No header carries an IPv4-mapped address.
            if destination.lowercased().hasPrefix("::ffff:") { return }
            throw Failure(message: "\"\(destination)\" is not a destination")
        }
        guard let kind = Self.kinds[object.text("type") ?? "unicast"] else { return }
        // A name stands for a TOS other than 0; it does not matter for which.
        let tos: UInt8 = object.has("tos") ? (try? object.number("tos")) ?? 1 : 0
        var route = KernelRoute(
            RouteEntry(
                prefix: prefix, table: object.text("table").map { table($0) } ?? RouteEntry.tableMain,
                kind: kind, metric: try object.number("metric") ?? 0, tos: prefix.isIPv4 ? tos : 0,
                interfaces: object.text("dev").map { [interface($0)] } ?? []))
        route.isDead = object.words("flags").contains("dead")
        route.isSourceSpecific = object.has("from")
        route.nexthop = try object.number("nhid") ?? 0
        let hops = object.objects("nexthops")
        if !hops.isEmpty {
            route.take(
                hops.compactMap { hop in
                    hop.text("dev").map {
                        KernelRoute.Hop(
                            interface: interface($0), isDead: hop.words("flags").contains("dead"))
                    }
                })
        }
        kernelRoutes.append(route)
    }

    /// Without the kinds that the kernel never answers a lookup with, as `nat`.
    private static let kinds: [String: RouteKind] = [
        "unicast": .unicast, "local": .local, "broadcast": .broadcast, "anycast": .anycast,
        "multicast": .multicast, "blackhole": .blackhole, "unreachable": .unreachable,
        "prohibit": .prohibit, "throw": .throw,
    ]

    private mutating func addLinks() {
        var tableOfVRF: [String: UInt32] = [:]
        for link in links {
            guard let name = link.text("ifname") else { continue }
            groups[interface(name)] = link.text("group").flatMap { UInt32($0) } ?? 0
            let details = link.objects("linkinfo").first
            guard details?.text("info_kind") == "vrf" else { continue }
            tableOfVRF[name] = details?.objects("info_data").first?.text("table").map { table($0) }
        }
        for link in links {
            if let name = link.text("ifname"), let master = link.text("master") {
                vrfOfInterface[name] = tableOfVRF[master]
            }
        }
        vrfs = tableOfVRF.values.sorted()
    }

    private mutating func noteRoutes() {
        let unknown = kernelRoutes.filter { route in
            let isKnown = nexthops[route.nexthop]?.members.allSatisfy { nexthops[$0] != nil } ?? false
            return route.nexthop != 0 && route.entry.interfaces.isEmpty && route.entry.kind == .unicast
                && !isKnown
        }
        if let first = unknown.first {
            notes.append(
                """
                \(unknown.count) routes use nexthop objects that no file holds, as nhid \
                \(first.nexthop), and lead nowhere here: add the output of `ip -j nexthop` to --routes
                """)
        }
        let bySource = kernelRoutes.count { $0.isSourceSpecific }
        if bySource > 0 {
            notes.append(
                "\(bySource) IPv6 routes with a source prefix are not followed, as by the daemon")
        }
    }
}

extension IPObject {
    /// Whether a route is IPv6's; nil for other objects, and for a default route that does not show it.
    fileprivate var isIPv6Route: Bool? {
        guard let destination = text("dst") else { return nil }
        if destination != "default" { return destination.contains(":") }
        let addresses = [text("gateway"), text("prefsrc")] + objects("nexthops").map { $0.text("gateway") }
        if let address = addresses.lazy.compactMap({ $0 }).first { return address.contains(":") }
        // RFC 4191: the kernel gives a preference to each IPv6 route and to no other.
        return has("pref") ? true : nil
    }
}
