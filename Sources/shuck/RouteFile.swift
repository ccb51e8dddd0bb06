// Routes from files of `ip -j route show table all`, as the daemon would read them from the kernel.

import Foundation
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

/// One object of `ip -j route`: of its keys those that the reverse path depends on.
private struct RouteObject: Decodable {
    struct Hop: Decodable {
        var dev: String?
        var gateway: String?
    }
    var dst: String
    var type: String?
    var dev: String?
    var gateway: String?
    var prefsrc: String?
    var nexthops: [Hop]?
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

enum RouteFile {
    static func load(
        _ path: String, _ interfaces: inout InterfaceNumbers, _ tables: inout TableNumbers
    ) throws(Failure) -> [RouteEntry] {
        let data = try contents(path)
        let objects: [RouteObject]
        do {
            objects = try JSONDecoder().decode([RouteObject].self, from: data)
        } catch {
            throw Failure(
                message: """
                    \(path) is not what `ip -j route show table all` prints: \(reason(error, "route"))
                    """)
        }
        // A default that says nothing else is of the family of the rest; `ip route` without
        // a family is IPv4's.
        let families = objects.compactMap(\.isIPv6)
        let isIPv6 = !families.isEmpty && families.allSatisfy { $0 }
        var entries: [RouteEntry] = []
        for (index, object) in objects.enumerated() {
            guard let prefix = prefix(object, defaultIsIPv6: isIPv6) else {
                if object.dst.lowercased().hasPrefix("::ffff:") { continue }
                throw Failure(
                    message: "\(path): route \(index): \"\(object.dst)\" is not a destination")
            }
            guard let kind = kind(object.type) else { continue }
            let names = [object.dev].compactMap { $0 } + (object.nexthops ?? []).compactMap(\.dev)
            entries.append(
                RouteEntry(
                    prefix: prefix,
                    table: object.table.map { tables.number($0.text) } ?? RouteEntry.tableMain,
                    kind: kind, metric: object.metric ?? 0, tos: tos(object.tos),
                    interfaces: names.map { interfaces.number($0) }))
        }
        return entries
    }

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

    private static func prefix(_ object: RouteObject, defaultIsIPv6: Bool) -> Prefix? {
        if object.dst != "default" { return Prefix(object.dst) }
        return object.isIPv6 ?? defaultIsIPv6 ? .allIPv6 : .allIPv4
    }

    /// nil for kinds that the kernel never answers a lookup with, as `nat`.
    private static func kind(_ type: String?) -> RouteKind? {
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
    private static func tos(_ text: String?) -> UInt8 {
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
