// Routes, nexthop objects and links from files of `ip -j`, as the daemon would read them from the kernel.

import Daemon
import Foundation
import IP
import LinuxIO
import Routing
import Settings

/// Numbers for interface names, the same in every file: the host need not have them.
struct InterfaceNumbers {
    private var numbers: [String: Int32] = [:]

    init(_ names: [String]) {
        for name in names { _ = number(name) }
    }

    /// From 1, as the kernel counts.
    mutating func number(_ name: String) -> Int32 {
        if let known = numbers[name] { return known }
        let new = Int32(numbers.count + 1)
        numbers[name] = new
        return new
    }
}

/// An address of a family that is not the route's: `via inet6 …`.
private struct Via: Decodable {
    var host: String?
}

/// One object of `ip -j nexthop`, or what `ip -j -d route` says of one.
private struct NexthopObject: Decodable {
    struct Member: Decodable {
        var id: UInt32
    }
    var id: UInt32
    var dev: String?
    var gateway: String?
    var group: [Member]?
}

/// One object of `ip -j link`; with `-d` also of a VRF its table.
private struct LinkObject: Decodable {
    struct Info: Decodable {
        struct Details: Decodable {
            var table: NumberOrName?
        }
        var kind: String?
        var details: Details?

        private enum CodingKeys: String, CodingKey {
            case kind = "info_kind"
            case details = "info_data"
        }
    }
    var ifindex: Int32
    var ifname: String
    var group: NumberOrName?
    var master: String?
    var linkinfo: Info?

    var vrfTable: NumberOrName? {
        linkinfo?.kind == "vrf" ? linkinfo?.details?.table : nil
    }
}

/// One object of `ip -j route`: of its keys those that the reverse path depends on.
private struct RouteObject: Decodable {
    struct Hop: Decodable {
        var dev: String?
        var gateway: String?
        var via: Via?
        var flags: [String]?
    }
    var dst: String
    var type: String?
    var dev: String?
    var gateway: String?
    var prefsrc: String?
    var nexthops: [Hop]?
    var nhid: UInt32?
    // swift-format-ignore: AlwaysUseLowerCamelCase
    var nh_info: NexthopObject?
    var from: String?
    var flags: [String]?
    var table: NumberOrName?
    var metric: UInt32?
    /// `0x10`; only written when there is one.
    var tos: String?
    /// RFC 4191 preference: the kernel gives one to each IPv6 route and to no other.
    var pref: String?

    /// What `default` is the default of; nil where this object does not say.
    var isIPv6: Bool? {
        if dst != "default" { return dst.contains(":") }
        if let address = gateway ?? prefsrc ?? nexthops?.lazy.compactMap(\.gateway).first {
            return address.contains(":")
        }
        return pref == nil ? nil : true
    }
}

/// What the files hold: each object is of one of these kinds.
private enum HostObject: Decodable {
    case route(RouteObject)
    case nexthop(NexthopObject)
    case link(LinkObject)

    private enum Key: String, CodingKey {
        case dst, id, ifname
    }

    init(from decoder: any Decoder) throws {
        let keys = try decoder.container(keyedBy: Key.self)
        if keys.contains(.ifname) {
            self = .link(try LinkObject(from: decoder))
        } else if keys.contains(.id), !keys.contains(.dst) {
            self = .nexthop(try NexthopObject(from: decoder))
        } else {
            self = .route(try RouteObject(from: decoder))
        }
    }
}

/// What files tell of a host, as the daemon would have it from the kernel.
struct HostFacts {
    private(set) var entries: [RouteEntry] = []
    /// By the numbers of `InterfaceNumbers`.
    private(set) var groups: [Int32: UInt32] = [:]
    private(set) var vrfs: [UInt32] = []
    /// Tables of the VRFs that interfaces are in, by name.
    private(set) var vrfOfInterface: [String: UInt32] = [:]
    /// Names by the host's own numbers.
    private(set) var names: [Int32: String] = [:]
    /// What is missing, or is not taken into account.
    private(set) var notes: [String] = []

    private var nexthops: [UInt32: KernelNexthop] = [:]
    private var routes: [KernelRoute] = []

    init(
        _ paths: [String], _ interfaces: inout InterfaceNumbers, _ tables: inout TableNumbers
    ) throws(Failure) {
        var links: [LinkObject] = []
        for path in paths { try load(path, &links, &interfaces, &tables) }
        let known = KernelNexthop.interfaces(nexthops)
        entries = routes.compactMap { $0.found(known) }
        take(links, &interfaces, &tables)
        noteRoutes()
    }

    private mutating func noteRoutes() {
        let unknown = routes.filter {
            $0.nexthop != 0 && $0.entry.interfaces.isEmpty && $0.entry.kind == .unicast
                && isUnknown($0.nexthop)
        }
        if let first = unknown.first {
            notes.append(
                """
                \(unknown.count) routes use nexthop objects that no file holds, as nhid \
                \(first.nexthop), and lead nowhere here: add the output of `ip -j nexthop` to --routes
                """)
        }
        let bySource = routes.count { $0.isSourceSpecific }
        if bySource > 0 {
            notes.append(
                "\(bySource) IPv6 routes with a source prefix are not followed, as by the daemon")
        }
    }

    private func isUnknown(_ id: UInt32) -> Bool {
        guard let object = nexthops[id] else { return true }
        return object.members.contains { nexthops[$0] == nil }
    }

    private mutating func take(
        _ links: [LinkObject], _ interfaces: inout InterfaceNumbers, _ tables: inout TableNumbers
    ) {
        var tableOfVRF: [String: UInt32] = [:]
        for link in links {
            names[link.ifindex] = link.ifname
            let group = link.group?.text ?? "default"
            groups[interfaces.number(link.ifname)] = group == "default" ? 0 : UInt32(group) ?? 0
            if let table = link.vrfTable { tableOfVRF[link.ifname] = tables.number(table.text) }
        }
        for link in links {
            if let table = link.master.flatMap({ tableOfVRF[$0] }) { vrfOfInterface[link.ifname] = table }
        }
        vrfs = tableOfVRF.values.sorted()
    }

    private mutating func load(
        _ path: String, _ links: inout [LinkObject], _ interfaces: inout InterfaceNumbers,
        _ tables: inout TableNumbers
    ) throws(Failure) {
        let data = try RouteFile.contents(path)
        let objects: [HostObject]
        do {
            objects = try JSONDecoder().decode([HostObject].self, from: data)
        } catch {
            throw Failure(
                message: """
                    \(path) is not what `ip -j route show table all` prints: \
                    \(RouteFile.reason(error, "route"))
                    """)
        }
        // A default that says nothing else is IPv4's where others have a preference, and else of
        // the family of the rest; `ip route` without a family is IPv4's.
        let routes = objects.compactMap { object -> RouteObject? in
            if case .route(let route) = object { route } else { nil }
        }
        let families = routes.compactMap(\.isIPv6)
        let isIPv6 =
            !families.isEmpty && families.allSatisfy { $0 }
            && !routes.contains { $0.pref != nil }
        for (index, object) in objects.enumerated() {
            switch object {
            case .link(let link): links.append(link)
            case .nexthop(let nexthop): take(nexthop, &interfaces)
            case .route(let route):
                if let info = route.nh_info, nexthops[info.id] == nil { take(info, &interfaces) }
                guard let prefix = RouteFile.prefix(route, defaultIsIPv6: isIPv6) else {
                    if route.dst.lowercased().hasPrefix("::ffff:") { continue }
                    throw Failure(
                        message: "\(path): route \(index): \"\(route.dst)\" is not a destination")
                }
                take(route, prefix, &interfaces, &tables)
            }
        }
    }

    private mutating func take(_ object: NexthopObject, _ interfaces: inout InterfaceNumbers) {
        var nexthop = KernelNexthop()
        nexthop.id = object.id
        nexthop.interface = object.dev.map { interfaces.number($0) }
        nexthop.members = (object.group ?? []).map(\.id)
        nexthops[object.id] = nexthop
    }

    private mutating func take(
        _ object: RouteObject, _ prefix: Prefix, _ interfaces: inout InterfaceNumbers,
        _ tables: inout TableNumbers
    ) {
        guard let kind = RouteFile.kind(object.type) else { return }
        var route = KernelRoute(
            RouteEntry(
                prefix: prefix, table: object.table.map { tables.number($0.text) } ?? RouteEntry.tableMain,
                kind: kind, metric: object.metric ?? 0, tos: prefix.isIPv4 ? RouteFile.tos(object.tos) : 0,
                interfaces: object.dev.map { [interfaces.number($0)] } ?? []))
        route.isDead = object.flags?.contains("dead") ?? false
        route.isSourceSpecific = object.from != nil
        route.nexthop = object.nhid ?? 0
        if let hops = object.nexthops, !hops.isEmpty {
            route.take(
                hops.compactMap { hop in
                    hop.dev.map {
                        KernelRoute.Hop(
                            interface: interfaces.number($0),
                            isDead: hop.flags?.contains("dead") ?? false)
                    }
                })
        }
        routes.append(route)
    }
}

enum RouteFile {
    /// Also of a pipe, as the shell makes one of `<(ip -j route)`.
    static func contents(_ path: String) throws(Failure) -> Data {
        guard let file = fopen(path, "re") else {
            throw Failure(message: "\(path) cannot be read: \(systemMessage())")
        }
        defer { fclose(file) }
        var data = Data()
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = fread(&chunk, 1, chunk.count, file)
            if count == 0 { break }
            data.append(contentsOf: chunk[..<count])
        }
        guard ferror(file) == 0 else {
            throw Failure(message: "\(path) cannot be read: \(systemMessage())")
        }
        return data
    }

    fileprivate static func prefix(_ object: RouteObject, defaultIsIPv6: Bool) -> Prefix? {
        if object.dst != "default" { return Prefix(object.dst) }
        return object.isIPv6 ?? defaultIsIPv6 ? .allIPv6 : .allIPv4
    }

    /// nil for kinds that the kernel never answers a lookup with, as `nat`.
    static func kind(_ type: String?) -> RouteKind? {
        switch type {
        case nil, "unicast": .unicast
        case "local": .local
        case "broadcast": .broadcast
        case "anycast": .anycast
        case "multicast": .multicast
        case "blackhole": .blackhole
        case "unreachable": .unreachable
        case "prohibit": .prohibit
        case "throw": .throw
        default: nil
        }
    }

    /// A name is that of a TOS other than 0, and which does not matter.
    static func tos(_ text: String?) -> UInt8 {
        guard let text else { return 0 }
        let digits = text.hasPrefix("0x") ? text.dropFirst(2) : text[...]
        return UInt8(digits, radix: 16) ?? 1
    }

    /// - Parameter object: what the elements of the file are.
    static func reason(_ error: any Error, _ object: String) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        switch error {
        case .keyNotFound(let key, let context):
            return "\(place(context, object)) has no \"\(key.stringValue)\""
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "\(place(context, object)): \(context.debugDescription)"
        case .dataCorrupted(let context): return context.debugDescription
        @unknown default: return "\(error)"
        }
    }

    private static func place(
        _ context: DecodingError.Context, _ object: String
    ) -> String {
        let path = context.codingPath.map { key in
            key.intValue.map { "\(object) \($0)" } ?? "\"\(key.stringValue)\""
        }
        return path.isEmpty ? "the whole" : path.joined(separator: ", ")
    }
}
