// Part of HostFiles (HostFiles.swift): policy rules from files of `ip -j rule`.

import IP
import Routing
import Settings

extension HostFiles {
    /// Loads the rules of a file, all of one family.
    mutating func loadRules(_ path: String) throws(Failure) {
        let objects = try IPObject.read(path, command: "ip -j rule")
        // Addresses show the family; without them only the table `default` does, which is IPv4's.
        let address = objects.lazy.flatMap { [$0.text("src"), $0.text("dst")] }.compactMap { $0 }
            .first { $0.contains(":") || $0.contains(".") }
        let isIPv4 =
            address.map { !$0.contains(":") }
            ?? objects.contains { ["default", "253"].contains($0.text("table")) }
        var list: [RuleEntry] = []
        try objects.each("rule", in: path) { object throws(Failure) in
            list.append(try rule(object, isIPv4: isIPv4))
        }
        guard rules.updateValue(list, forKey: isIPv4) == nil else {
            throw Failure(message: "\(path) is a second list of \(isIPv4 ? "IPv4" : "IPv6") rules")
        }
    }

    mutating func noteRules() {
        let loaded = rules.values.joined()
        let remedy = "add the output of `ip -j -d link` to --routes"
        if names.isEmpty, loaded.contains(where: \.isL3mdev) {
            notes.append("l3mdev rules match nothing: no file tells of VRFs; \(remedy)")
        }
        if names.isEmpty, loaded.contains(where: { $0.suppressGroup != nil }) {
            notes.append(
                "suppress_ifgroup: no file tells of groups, so every interface is in group 0; \(remedy)")
        }
        for isIPv4 in [true, false] where rules[isIPv4] == nil {
            notes.append("--rules hold none of \(isIPv4 ? "IPv4" : "IPv6"): the kernel's own are taken")
        }
    }

    private mutating func rule(_ object: IPObject, isIPv4: Bool) throws(Failure) -> RuleEntry {
        if let key = object.keys.sorted().first(where: { !Self.known.contains($0) }) {
            throw Failure(message: "the selector \"\(key)\" is not known")
        }
        var rule = RuleEntry(
            isIPv4: isIPv4, priority: try object.number("priority") ?? 0, action: try action(object))
        rule.isInverted = object.has("not")
        rule.isL3mdev = object.has("l3mdev")
        rule.from = try prefix(object, "src", isIPv4: isIPv4)
        rule.to = try prefix(object, "dst", isIPv4: isIPv4)
        rule.inputInterface = object.text("iif")
        rule.outputInterface = object.text("oif")
        rule.tos = try trafficClass(object, "tos") ?? 0
        rule.dscp = try trafficClass(object, "dscp", shift: 2)
        rule.mark = try object.number("fwmark") ?? 0
        rule.markMask = try object.number("fwmask") ?? (object.has("fwmark") ? .max : 0)
        rule.tunnelID = try object.number("tun_id") ?? 0
        rule.protocolNumber = try protocolNumber(object) ?? 0
        rule.sourcePorts = try range(object, "sport")
        rule.destinationPorts = try range(object, "dport")
        rule.users = try range(object, "uid")
        rule.suppressPrefixLength = try object.number("suppress_prefixlen") ?? -1
        rule.suppressGroup =
            object.text("suppress_ifgroup") == "default" ? 0 : try object.number("suppress_ifgroup")
        return rule
    }

    /// Keys that decide, and those that say nothing of the match.
    private static let known: Set<String> = [
        "priority", "src", "srclen", "dst", "dstlen", "tos", "dscp", "fwmark", "fwmask", "iif", "oif",
        "uid_start", "uid_end", "ipproto", "sport", "sport_start", "sport_end", "dport",
        "dport_start", "dport_end", "tun_id", "l3mdev", "table", "suppress_prefixlen",
        "suppress_ifgroup", "not", "goto", "nop", "action", "iif_detached", "oif_detached",
        "unresolved", "protocol", "to", "flags",
    ]

    private mutating func action(_ object: IPObject) throws(Failure) -> RuleEntry.Action {
        if object.has("nop") { return .nop }
        if let target: UInt32 = try object.number("goto") { return .goto(target) }
        switch object.text("action") {
        case nil: return .lookup(object.text("table").map { table($0) } ?? 0)
        case "blackhole": return .refuse(.blackhole)
        case "unreachable": return .refuse(.unreachable)
        case "prohibit": return .refuse(.prohibit)
        case let other?: throw Failure(message: "the action \"\(other)\" is not known")
        }
    }

    /// A single number, or two bounds.
    private func range<Number: FixedWidthInteger>(
        _ object: IPObject, _ key: String
    ) throws(Failure) -> ClosedRange<Number>? {
        if let one: Number = try object.number(key) { return one...one }
        guard let low: Number = try object.number(key + "_start"),
            let high: Number = try object.number(key + "_end"), low <= high
        else { return nil }
        return low...high
    }

    private func prefix(
        _ object: IPObject, _ key: String, isIPv4: Bool
    ) throws(Failure) -> Prefix? {
        guard let text = object.text(key), text != "all" else { return nil }
        let length: Int = try object.number(key + "len") ?? (isIPv4 ? 32 : 128)
        guard let prefix = Prefix("\(text)/\(length)"), prefix.isIPv4 == isIPv4 else {
            throw Failure(message: "\"\(text)/\(length)\" is not a prefix of the file's family")
        }
        return prefix
    }

    /// A DS field (RFC 2474), whose upper six bits are the DSCP: a number as it stands, or a name.
    private func trafficClass(
        _ object: IPObject, _ key: String, shift: UInt8 = 0
    ) throws(Failure) -> UInt8? {
        guard let text = object.text(key) else { return nil }
        if let number: UInt8 = try? object.number(key) { return number }
        guard let value = Self.trafficClasses[text.uppercased()] else {
            throw Failure(message: "the TOS \"\(text)\" is not known: `ip -N -j rule` prints numbers")
        }
        return value >> shift
    }

    /// Names of RFC 2474, 2597, 3246, 5865 and 8622, with the DSCP in its place.
    private static let trafficClasses: [String: UInt8] = [
        "CS0": 0x00, "CS1": 0x20, "CS2": 0x40, "CS3": 0x60, "CS4": 0x80, "CS5": 0xa0, "CS6": 0xc0,
        "CS7": 0xe0, "AF11": 0x28, "AF12": 0x30, "AF13": 0x38, "AF21": 0x48, "AF22": 0x50, "AF23": 0x58,
        "AF31": 0x68, "AF32": 0x70, "AF33": 0x78, "AF41": 0x88, "AF42": 0x90, "AF43": 0x98, "EF": 0xb8,
        "VOICE-ADMIT": 0xb0, "LE": 0x04,
    ]

    private func protocolNumber(_ object: IPObject) throws(Failure) -> UInt8? {
        guard let value = object.text("ipproto") else { return nil }
        let text = value.hasPrefix("ipproto-") ? String(value.dropFirst(8)) : value
        // Names of /etc/protocols that are not those of a configuration.
        let name = ["ipencap": "ipip", "ipv6-icmp": "icmpv6"][text] ?? text
        guard let number = ProtocolNumber.number(named: name) else {
            throw Failure(
                message: "the protocol \"\(text)\" is not known: `ip -N -j rule` prints numbers")
        }
        return number
    }
}
