// Policy rules from files of `ip -j rule`, as the daemon would read them from the kernel.

import Foundation
import IP
import Routing
import Settings

/// Numbers for the names of routing tables, the same in every file: the host need not have them.
struct TableNumbers {
    private var numbers: [String: UInt32] = [
        "local": RouteEntry.tableLocal, "main": RouteEntry.tableMain,
        "default": RouteEntry.tableDefault, "unspec": 0,
    ]

    /// iproute2 writes a name of /etc/iproute2/rt_tables where it knows one, and else the number.
    mutating func number(_ text: String) -> UInt32 {
        if let number = UInt32(text) ?? numbers[text] { return number }
        // Far from what people choose, and from the kernel's own.
        let new = 0xff00_0000 | UInt32(truncatingIfNeeded: numbers.count)
        numbers[text] = new
        return new
    }
}

/// A number, or a text that may be one: iproute2 writes both.
enum NumberOrName: Decodable {
    case number(UInt64)
    case name(String)

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let number = try? value.decode(UInt64.self) {
            self = .number(number)
        } else {
            self = .name(try value.decode(String.self))
        }
    }

    var text: String {
        switch self {
        case .number(let number): "\(number)"
        case .name(let name): name
        }
    }

    /// Also of `0x1f`.
    var number: UInt64? {
        switch self {
        case .number(let number): number
        case .name(let name):
            name.hasPrefix("0x") ? UInt64(name.dropFirst(2), radix: 16) : UInt64(name)
        }
    }
}

/// One object of `ip -j rule`. Words without a value, as `not`, have the value null.
private struct RuleObject: Decodable {
    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Everything that decides, and what says nothing of the match.
    private static let known: Set<String> = [
        "priority", "src", "srclen", "dst", "dstlen", "tos", "dscp", "fwmark", "fwmask", "iif", "oif",
        "uid_start", "uid_end", "ipproto", "sport", "sport_start", "sport_end", "dport",
        "dport_start", "dport_end", "tun_id", "l3mdev", "table", "suppress_prefixlen",
        "suppress_ifgroup", "not", "goto", "nop", "action", "iif_detached", "oif_detached",
        "unresolved", "protocol", "to", "flags",
    ]

    var values: [String: NumberOrName] = [:]
    var words: Set<String> = []

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        for key in container.allKeys {
            guard Self.known.contains(key.stringValue) else {
                throw DecodingError.dataCorruptedError(
                    forKey: key, in: container,
                    debugDescription: "the selector \"\(key.stringValue)\" is not known")
            }
            words.insert(key.stringValue)
            if key.stringValue == "flags" { continue }
            if try container.decodeNil(forKey: key) { continue }
            values[key.stringValue] = try container.decode(NumberOrName.self, forKey: key)
        }
    }

    /// The family that its addresses are of.
    var isIPv6: Bool? {
        let address = [values["src"], values["dst"]].compactMap { $0?.text }
            .first { $0.contains(":") || $0.contains(".") }
        return address.map { $0.contains(":") }
    }
}

enum RuleFile {
    /// The rules of one file, all of one family.
    static func load(
        _ path: String, _ tables: inout TableNumbers
    ) throws(Failure) -> (isIPv4: Bool, rules: [RuleEntry]) {
        let objects: [RuleObject]
        do {
            objects = try JSONDecoder().decode(
                [RuleObject].self, from: try RouteFile.contents(path))
        } catch let error as Failure {
            throw error
        } catch {
            throw Failure(
                message: """
                    \(path) is not what `ip -j rule` prints: \(RouteFile.reason(error, "rule"))
                    """)
        }
        // Nothing else tells an IPv6 list from an IPv4 one: only IPv4 has a table `default`.
        let isIPv4 =
            objects.lazy.compactMap(\.isIPv6).first.map { !$0 }
            ?? objects.contains { ["default", "253"].contains($0.values["table"]?.text) }
        var rules: [RuleEntry] = []
        for (index, object) in objects.enumerated() {
            do throws(Failure) {
                rules.append(try rule(object, isIPv4: isIPv4, &tables))
            } catch {
                throw Failure(message: "\(path): rule \(index): \(error.message)")
            }
        }
        return (isIPv4, rules)
    }

    private static func rule(
        _ object: RuleObject, isIPv4: Bool, _ tables: inout TableNumbers
    ) throws(Failure) -> RuleEntry {
        var rule = RuleEntry(
            isIPv4: isIPv4, priority: try number(object, "priority") ?? 0,
            action: try action(object, &tables))
        rule.isInverted = object.words.contains("not")
        rule.isL3mdev = object.words.contains("l3mdev")
        rule.from = try prefix(object, "src", isIPv4: isIPv4)
        rule.to = try prefix(object, "dst", isIPv4: isIPv4)
        rule.inputInterface = object.values["iif"]?.text
        rule.outputInterface = object.values["oif"]?.text
        rule.tos = try object.values["tos"].map { value throws(Failure) in try field(value) } ?? 0
        rule.dscp = try object.values["dscp"].map { value throws(Failure) in
            // A number is the six bits alone.
            if let number = value.number, number < 64 { return UInt8(number) }
            return try field(value) >> 2
        }
        rule.mark = try number(object, "fwmark") ?? 0
        rule.markMask = try number(object, "fwmask") ?? (object.values["fwmark"] == nil ? 0 : .max)
        rule.tunnelID = try number(object, "tun_id") ?? 0
        rule.protocolNumber =
            try object.values["ipproto"].map { value throws(Failure) in
                try protocolNumber(value)
            } ?? 0
        rule.sourcePorts = try range(object, "sport")
        rule.destinationPorts = try range(object, "dport")
        if let low: UInt32 = try number(object, "uid_start"),
            let high: UInt32 = try number(object, "uid_end"), low <= high
        {
            rule.users = low...high
        }
        rule.suppressPrefixLength = try number(object, "suppress_prefixlen") ?? -1
        if let group = object.values["suppress_ifgroup"] {
            rule.suppressGroup =
                group.text == "default"
                ? 0 : try number(object, "suppress_ifgroup")
        }
        return rule
    }

    private static func action(
        _ object: RuleObject, _ tables: inout TableNumbers
    ) throws(Failure) -> RuleEntry.Action {
        if object.words.contains("nop") { return .nop }
        if let target: UInt32 = try number(object, "goto") { return .goto(target) }
        switch object.values["action"]?.text {
        case nil: break
        case "blackhole": return .refuse(.blackhole)
        case "unreachable": return .refuse(.unreachable)
        case "prohibit": return .refuse(.prohibit)
        case let other?: throw Failure(message: "the action \"\(other)\" is not known")
        }
        return .lookup(object.values["table"].map { tables.number($0.text) } ?? 0)
    }

    private static func number<T: FixedWidthInteger>(
        _ object: RuleObject, _ key: String
    ) throws(Failure) -> T? {
        guard let value = object.values[key] else { return nil }
        guard let number = value.number.flatMap({ T(exactly: $0) }) else {
            throw Failure(
                message: "\"\(key)\" is \"\(value.text)\", not a number: `ip -N -j rule` prints them")
        }
        return number
    }

    private static func range(
        _ object: RuleObject, _ key: String
    ) throws(Failure) -> ClosedRange<UInt16>? {
        if let one: UInt16 = try number(object, key) { return one...one }
        guard let low: UInt16 = try number(object, key + "_start"),
            let high: UInt16 = try number(object, key + "_end"), low <= high
        else { return nil }
        return low...high
    }

    private static func prefix(
        _ object: RuleObject, _ key: String, isIPv4: Bool
    ) throws(Failure) -> Prefix? {
        guard let text = object.values[key]?.text, text != "all" else { return nil }
        let length: Int = try number(object, key + "len") ?? (isIPv4 ? 32 : 128)
        guard let prefix = Prefix("\(text)/\(length)"), prefix.isIPv4 == isIPv4 else {
            throw Failure(message: "\"\(text)/\(length)\" is not a prefix of the file's family")
        }
        return prefix
    }

    /// A DS field: its number, or a name of RFC 2474, 2597, 3246, 5865 and 8622.
    private static func field(_ value: NumberOrName) throws(Failure) -> UInt8 {
        if let number = value.number.flatMap({ UInt8(exactly: $0) }) { return number }
        let digits = value.text.dropFirst(2).compactMap {
            $0.wholeNumberValue.flatMap(UInt8.init(exactly:))
        }
        switch (value.text.prefix(2).uppercased(), digits.count, value.text) {
        case ("CS", 1, _) where digits[0] < 8: return digits[0] << 5
        case ("AF", 2, _) where (1...4).contains(digits[0]) && (1...3).contains(digits[1]):
            return digits[0] << 5 | digits[1] << 3
        case (_, _, "EF"): return 0xb8
        case (_, _, "VOICE-ADMIT"): return 0xb0
        case (_, _, "LE"): return 4
        default:
            throw Failure(
                message: "the TOS \"\(value.text)\" is not known: `ip -N -j rule` prints numbers")
        }
    }

    /// The names of IANA's list that such rules are about.
    private static let protocols: [String: UInt8] = [
        "icmp": ProtocolNumber.icmp, "igmp": ProtocolNumber.igmp, "ipencap": ProtocolNumber.ipv4,
        "tcp": ProtocolNumber.tcp, "udp": ProtocolNumber.udp, "dccp": ProtocolNumber.dccp,
        "ipv6": ProtocolNumber.ipv6, "gre": ProtocolNumber.gre, "esp": ProtocolNumber.esp,
        "ah": ProtocolNumber.authentication, "ipv6-icmp": ProtocolNumber.icmpv6,
        "ospf": ProtocolNumber.ospf, "sctp": ProtocolNumber.sctp, "udplite": ProtocolNumber.udplite,
    ]

    private static func protocolNumber(_ value: NumberOrName) throws(Failure) -> UInt8 {
        let text = value.text.hasPrefix("ipproto-") ? String(value.text.dropFirst(8)) : value.text
        if let number = protocols[text] ?? UInt8(text) { return number }
        throw Failure(
            message: "the protocol \"\(text)\" is not known: `ip -N -j rule` prints numbers")
    }
}
