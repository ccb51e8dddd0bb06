// Policy rules as text.

import Routing
import Settings

extension RuleEntry {
    /// A table as `ip rule` names it.
    public static func name(_ table: UInt32) -> String {
        switch table {
        case RouteEntry.tableLocal: "local"
        case RouteEntry.tableMain: "main"
        case RouteEntry.tableDefault: "default"
        default: "\(table)"
        }
    }

    /// As `ip rule` writes it.
    public var text: String {
        var words = ["\(priority):"]
        if isInverted { words.append("not") }
        words.append("from \(from.map { $0.isHost ? $0.address.text : $0.text } ?? "all")")
        if let to { words.append("to \(to.isHost ? to.address.text : to.text)") }
        if tos != 0 { words.append("tos 0x\(String(tos, radix: 16))") }
        if let dscp { words.append("dscp \(dscp)") }
        if markMask != 0 {
            let mask = markMask == .max ? "" : "/0x\(String(markMask, radix: 16))"
            words.append("fwmark 0x\(String(mark, radix: 16))\(mask)")
        }
        if let inputInterface { words.append("iif \(inputInterface)") }
        if let outputInterface { words.append("oif \(outputInterface)") }
        if isL3mdev { words.append("l3mdev") }
        if let users { words.append("uidrange \(users.lowerBound)-\(users.upperBound)") }
        if protocolNumber != 0 { words.append("ipproto \(protocolNumber)") }
        if let sourcePorts { words.append("sport \(Self.text(sourcePorts))") }
        if let destinationPorts { words.append("dport \(Self.text(destinationPorts))") }
        if tunnelID != 0 { words.append("tun_id \(tunnelID)") }
        switch action {
        case .lookup(let table):
            if !isL3mdev { words.append("lookup \(Self.name(table))") }
        case .goto(let priority): words.append("goto \(priority)")
        case .nop: words.append("nop")
        case .refuse(let kind): words.append("\(kind)")
        }
        if suppressPrefixLength >= 0 {
            words.append("suppress_prefixlength \(suppressPrefixLength)")
        }
        if let suppressGroup { words.append("suppress_ifgroup \(suppressGroup)") }
        return words.joined(separator: " ")
    }

    private static func text(_ ports: ClosedRange<UInt16>) -> String {
        ports.count == 1 ? "\(ports.lowerBound)" : "\(ports.lowerBound)-\(ports.upperBound)"
    }

    /// The command that adds it.
    var addition: String {
        let words = text.drop { $0 != " " }
        return "ip \(isIPv4 ? "" : "-6 ")rule add priority \(priority)\(words)"
    }
}
