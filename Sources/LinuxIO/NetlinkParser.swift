// What rtnetlink answers, as bytes: messages of a dump and their attributes. No socket, no trust.

import CLinux
import Glibc
import IP
import Routing

package enum NetlinkParser {
    package enum Progress: Equatable {
        case more
        case done
        /// errno.
        case failed(Int32)
    }

    private static let headerBytes = 16

    /// Walks the messages of one datagram; `each` sees those of this dump, header included.
    /// - Parameter isConsistent: set to false when the tables changed under the dump.
    package static func walk(
        _ datagram: UnsafeRawBufferPointer, _ sequence: UInt32, _ isConsistent: inout Bool,
        _ each: (UnsafeRawBufferPointer) -> Void
    ) -> Progress {
        for message in Records<UInt32>(datagram, headerBytes: headerBytes) {
            let header = message.loadUnaligned(as: nlmsghdr.self)
            // The answer to an earlier request, which nobody took.
            guard header.nlmsg_seq == sequence else { continue }
            if header.nlmsg_flags & UInt16(NLM_F_DUMP_INTR) != 0 { isConsistent = false }
            switch Int32(header.nlmsg_type) {
            case NLMSG_DONE: return .done
            case NLMSG_ERROR:
                guard message.count >= headerBytes + 4 else { return .failed(EBADMSG) }
                let error = message.loadUnaligned(fromByteOffset: headerBytes, as: Int32.self)
                return .failed(0 &- error)
            default: each(message)
            }
        }
        return .more
    }

    /// Adds what a datagram of notices tells of.
    static func read(_ datagram: UnsafeRawBufferPointer, into notices: inout KernelNotices) {
        for message in Records<UInt32>(datagram, headerBytes: headerBytes) { take(message, into: &notices) }
    }

    private static func take(_ message: UnsafeRawBufferPointer, into notices: inout KernelNotices) {
        let header = message.loadUnaligned(as: nlmsghdr.self)
        switch Int(header.nlmsg_type) {
        case Int(RTM_NEWLINK), Int(RTM_DELLINK):
            notices.links = true
            if let change = linkChange(message, isGone: Int(header.nlmsg_type) == Int(RTM_DELLINK)) {
                notices.linkChanges.append(change)
            }
        case Int(RTM_NEWNETCONF): takeSettings(message, into: &notices)
        case Int(RTM_NEWADDR): notices.addresses = true
        case Int(RTM_DELADDR): notices.goneAddresses = true
        case Int(RTM_NEWRULE), Int(RTM_DELRULE): notices.rules = true
        case Int(RTM_NEWNEXTHOP), Int(RTM_DELNEXTHOP): notices.nexthops = true
        case Int(RTM_NEWROUTE), Int(RTM_DELROUTE):
            guard let route = route(message) else { return }
            notices.routes.append(
                KernelNotices.RouteChange(
                    route: route, isNew: Int(header.nlmsg_type) == Int(RTM_NEWROUTE),
                    isReplacing: header.nlmsg_flags & UInt16(NLM_F_REPLACE) != 0,
                    isAppended: header.nlmsg_flags & UInt16(NLM_F_APPEND) != 0))
        default: break
        }
    }

    /// nil when the notice says nothing of a link's state: a bridge's port, or an event of a wireless one.
    private static func linkChange(
        _ message: UnsafeRawBufferPointer, isGone: Bool
    ) -> KernelNotices.LinkChange? {
        guard let link = link(message), isGone || link.state.operational != nil else { return nil }
        return KernelNotices.LinkChange(index: link.index, state: isGone ? nil : link.state)
    }

    /// Settings of a link, of all links, or of those to come.
    private static func takeSettings(
        _ message: UnsafeRawBufferPointer, into notices: inout KernelNotices
    ) {
        let told = Set(attributes(of: message, after: netconfmsg.self).map(\.type))
        let forwarding = told.contains(Int(NETCONFA_FORWARDING))
        if forwarding || told.contains(Int(NETCONFA_RP_FILTER)) { notices.settings = true }
        // A link that has just come is told of with all of its settings: it has no routes yet.
        let linkdown = told.contains(Int(NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN))
        if linkdown, !forwarding { notices.linkdownRule = true }
    }

    /// nil when the message is too short to describe a link, or tells of a bridge's port alone.
    package static func link(_ message: UnsafeRawBufferPointer) -> Link? {
        guard let info = payload(of: message, as: ifinfomsg.self),
            info.ifi_family == UInt8(AF_UNSPEC)
        else { return nil }
        var link = Link(
            index: info.ifi_index, name: "", mtu: 0, isUp: info.ifi_flags & UInt32(IFF_UP) != 0,
            hardwareType: info.ifi_type)
        link.state.flags = info.ifi_flags & LinkState.flagsMask
        var isElsewhere = false
        for (type, value) in attributes(of: message, after: ifinfomsg.self) {
            switch type {
            case Int(IFLA_IFNAME): link.name = text(value)
            case Int(IFLA_MTU): link.mtu = Int(word(value))
            case Int(IFLA_GROUP): link.group = word(value)
            case Int(IFLA_MASTER): link.master = Int32(bitPattern: word(value))
            case Int(IFLA_OPERSTATE): link.state.operational = value.first
            case Int(IFLA_CARRIER_CHANGES): link.state.carrierChanges = word(value)
            case Int(IFLA_LINK): link.lower = Int32(bitPattern: word(value))
            // It stands on a link of another namespace, whose index says nothing here.
            case Int(IFLA_LINK_NETNSID): isElsewhere = true
            case Int(IFLA_LINKINFO): takeInformation(value, into: &link)
            case Int(IFLA_PROP_LIST):
                link.otherNames += attributes(value).filter { $0.type == Int(IFLA_ALT_IFNAME) }
                    .map { text($0.value) }
            default: break
            }
        }
        link.state.master = link.master
        if isElsewhere { link.lower = 0 }
        return link
    }

    /// nil when it is another link's, or too short to describe an address.
    package static func address(
        _ message: UnsafeRawBufferPointer, of index: Int32
    ) -> (bytes: [UInt8], length: Int)? {
        guard let header = payload(of: message, as: ifaddrmsg.self),
            header.ifa_index == UInt32(bitPattern: index)
        else { return nil }
        // Of an IPv4 address the other end stands in IFA_ADDRESS; IPv6 may have no IFA_LOCAL.
        var (local, other): ([UInt8]?, [UInt8]?) = (nil, nil)
        for (type, value) in attributes(of: message, after: ifaddrmsg.self) {
            switch type {
            case Int(IFA_LOCAL): local = Array(value)
            case Int(IFA_ADDRESS): other = Array(value)
            default: break
            }
        }
        return (local ?? other).map { ($0, Int(header.ifa_prefixlen)) }
    }

    /// What the kernel holds of a device beside what a `Link` has; its address is another question.
    package static func device(_ message: UnsafeRawBufferPointer) -> DeviceFacts? {
        guard let link = link(message) else { return nil }
        var facts = DeviceFacts(isUp: link.isUp, mtu: link.mtu)
        let families = attributes(of: message, after: ifinfomsg.self)
            .filter { $0.type == Int(IFLA_AF_SPEC) }.flatMap { attributes($0.value) }
        for (family, value) in families {
            for (type, values) in attributes(value) {
                if family == Int(AF_INET), type == Int(IFLA_INET_CONF) {
                    // Counted from 1.
                    facts.forwardsIPv4 = word(values, CLINUX_IPV4_DEVCONF_FORWARDING - 1) == 1
                    facts.reversePath = word(values, CLINUX_IPV4_DEVCONF_RP_FILTER - 1)
                } else if family == Int(AF_INET6), type == Int(IFLA_INET6_CONF) {
                    facts.hasIPv6 = word(values, CLINUX_DEVCONF_DISABLE_IPV6) == 0
                }
            }
        }
        return facts
    }

    /// Of a link: how its XDP program is attached, and its number; nil: it has none.
    package static func xdp(_ message: UnsafeRawBufferPointer) -> (mode: UInt8, program: UInt32)? {
        var (mode, program) = (UInt8(0), UInt32(0))
        let nests = attributes(of: message, after: ifinfomsg.self).filter { $0.type == Int(IFLA_XDP) }
        for (type, value) in nests.flatMap({ attributes($0.value) }) {
            if type == Int(IFLA_XDP_ATTACHED) { mode = value.first ?? 0 }
            if type == Int(IFLA_XDP_PROG_ID) { program = word(value) }
        }
        return mode == 0 ? nil : (mode, program)
    }

    /// The name of a filter of traffic control; nil: the message describes no filter, but its place.
    package static func filter(_ message: UnsafeRawBufferPointer) -> String? {
        guard let header = payload(of: message, as: tcmsg.self), header.tcm_handle != 0 else { return nil }
        var (kind, name) = ("", "")
        for (type, value) in attributes(of: message, after: tcmsg.self) {
            if type == Int(TCA_KIND) { kind = text(value) }
            guard type == Int(TCA_OPTIONS), kind == "bpf" else { continue }
            name = attributes(value).first { $0.type == Int(TCA_BPF_NAME) }.map { text($0.value) } ?? ""
        }
        let preference = header.tcm_info >> 16
        return name.isEmpty ? "\(kind) at preference \(preference)" : name
    }

    private static func word(_ bytes: UnsafeRawBufferPointer, _ number: some BinaryInteger) -> Int? {
        let offset = Int(number) * 4
        guard offset + 4 <= bytes.count else { return nil }
        return Int(bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self))
    }

    /// Of `IFLA_LINKINFO`: the kind, a VRF's table, a VLAN's ID.
    private static func takeInformation(_ info: UnsafeRawBufferPointer, into link: inout Link) {
        var data = UnsafeRawBufferPointer(start: nil, count: 0)
        for (type, value) in attributes(info) {
            if type == Int(IFLA_INFO_KIND) { link.kind = text(value) }
            if type == Int(IFLA_INFO_DATA) { data = value }
        }
        // The same number means another thing in each kind.
        for (type, value) in attributes(data) {
            if link.kind == "vrf", type == Int(IFLA_VRF_TABLE) { link.vrfTable = word(value) }
            if link.kind == "vlan", type == Int(IFLA_VLAN_ID), value.count >= 2 {
                link.vlanID = value.loadUnaligned(as: UInt16.self)
            }
        }
    }

    private static func text(_ value: UnsafeRawBufferPointer) -> String {
        String(decoding: value.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// nil for a cached clone, another family or kind, or a message too short to describe a route.
    package static func route(_ message: UnsafeRawBufferPointer) -> KernelRoute? {
        guard let header = payload(of: message, as: rtmsg.self),
            header.rtm_flags & UInt32(RTM_F_CLONED) == 0,
            header.rtm_family == UInt8(AF_INET) || header.rtm_family == UInt8(AF_INET6),
            let kind = RouteKind(rawValue: header.rtm_type)
        else { return nil }
        let isIPv4 = header.rtm_family == UInt8(AF_INET)
        var route = KernelRoute(
            RouteEntry(
                prefix: isIPv4 ? .allIPv4 : .allIPv6, table: UInt32(header.rtm_table), kind: kind,
                tos: isIPv4 ? header.rtm_tos : 0, interfaces: []))
        var address: Address? = route.entry.prefix.address
        var gateway: UInt32 = 0
        // Also where a linkdown nexthop does not count, by `ignore_routes_with_linkdown` of its link
        // and family (net/ipv4/fib_semantics.c `fib_nexthop_info`).
        route.isDead = header.rtm_flags & UInt32(RTNH_F_DEAD) != 0
        for (type, value) in attributes(of: message, after: rtmsg.self) {
            switch type {
            case Int(RTA_DST.rawValue): address = Address(bytes: value)
            case Int(RTA_TABLE.rawValue) where value.count >= 4: route.entry.table = word(value)
            case Int(RTA_PRIORITY.rawValue): route.entry.metric = word(value)
            case Int(RTA_OIF.rawValue) where value.count >= 4:
                route.entry.interfaces.append(Int32(bitPattern: word(value)))
            case Int(RTA_MULTIPATH.rawValue): route.take(nexthops(value))
            case Int(RTA_GATEWAY.rawValue), Int(RTA_VIA.rawValue): gateway = hash(value)
            case Int(RTA_NH_ID.rawValue): route.nexthop = word(value)
            case Int(RTA_SRC.rawValue): route.isSourceSpecific = true
            default: break
            }
        }
        guard let prefix = address.flatMap({ Prefix($0, length: Int(header.rtm_dst_len)) }),
            prefix.isIPv4 == isIPv4
        else { return nil }
        route.entry.prefix = prefix
        // One of its own, which no list of nexthops has told of.
        if route.entry.gateways.count != route.entry.interfaces.count {
            route.entry.gateways = route.entry.interfaces.map { _ in gateway }
        }
        return route
    }

    /// FNV-1a.
    private static func hash(_ gateway: UnsafeRawBufferPointer) -> UInt32 {
        gateway.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 }
    }

    /// `struct rtnexthop` list: 2 bytes length, flags, hops, 4 bytes ifindex, then attributes.
    private static func nexthops(_ bytes: UnsafeRawBufferPointer) -> [KernelRoute.Hop] {
        Records<UInt16>(bytes, headerBytes: 8).map { record in
            var hop = KernelRoute.Hop(
                interface: record.loadUnaligned(fromByteOffset: 4, as: Int32.self),
                isDead: record[2] & UInt8(RTNH_F_DEAD) != 0)
            for (type, value) in attributes(UnsafeRawBufferPointer(rebasing: record[8...]))
            where type == Int(RTA_GATEWAY.rawValue) || type == Int(RTA_VIA.rawValue) {
                hop.gateway = hash(value)
            }
            return hop
        }
    }

    /// nil for another family than IPv4 and IPv6, an action that no lookup takes, and when it is too
    /// short to describe a rule.
    package static func rule(_ message: UnsafeRawBufferPointer) -> RuleEntry? {
        guard let header = payload(of: message, as: fib_rule_hdr.self),
            header.family == UInt8(AF_INET) || header.family == UInt8(AF_INET6)
        else { return nil }
        var rule = RuleEntry(isIPv4: header.family == UInt8(AF_INET), priority: 0, action: .nop)
        rule.tos = header.tos
        rule.isInverted = header.flags & UInt32(FIB_RULE_INVERT) != 0
        var (table, target) = (UInt32(header.table), UInt32(0))
        for (type, value) in attributes(of: message, after: fib_rule_hdr.self) {
            switch type {
            case Int(FRA_DST): rule.to = prefix(value, header.dst_len)
            case Int(FRA_SRC): rule.from = prefix(value, header.src_len)
            case Int(FRA_GOTO): target = word(value)
            case Int(FRA_TABLE): table = word(value)
            default: select(&rule, type, value)
            }
        }
        switch Int(header.action) {
        case Int(FR_ACT_TO_TBL): rule.action = .lookup(table)
        case Int(FR_ACT_GOTO): rule.action = .goto(target)
        case Int(FR_ACT_NOP): break
        case Int(FR_ACT_BLACKHOLE): rule.action = .refuse(.blackhole)
        case Int(FR_ACT_UNREACHABLE): rule.action = .refuse(.unreachable)
        case Int(FR_ACT_PROHIBIT): rule.action = .refuse(.prohibit)
        default: return nil
        }
        return rule
    }

    private static func prefix(_ bytes: UnsafeRawBufferPointer, _ length: UInt8) -> Prefix? {
        Address(bytes: bytes).flatMap { Prefix($0, length: Int(length)) }
    }

    private static func word(_ value: UnsafeRawBufferPointer) -> UInt32 {
        value.count >= 4 ? value.loadUnaligned(as: UInt32.self) : 0
    }

    private static func range<T: BitwiseCopyable & Comparable>(
        _ value: UnsafeRawBufferPointer
    ) -> ClosedRange<T>? {
        guard value.count >= 2 * MemoryLayout<T>.size else { return nil }
        let low = value.loadUnaligned(as: T.self)
        let high = value.loadUnaligned(fromByteOffset: MemoryLayout<T>.size, as: T.self)
        return low <= high ? low...high : nil
    }

    // Of Linux 6.13 and 6.16; older headers lack them.
    private static let dscpAttribute = 25
    private static let dscpMaskAttribute = 30

    /// Selectors, and what the action leaves out.
    private static func select(_ rule: inout RuleEntry, _ type: Int, _ value: UnsafeRawBufferPointer) {
        switch type {
        case Int(FRA_IIFNAME): rule.inputInterface = text(value)
        case Int(FRA_OIFNAME): rule.outputInterface = text(value)
        case Int(FRA_PRIORITY): rule.priority = word(value)
        case Int(FRA_FWMARK): rule.mark = word(value)
        case Int(FRA_FWMASK): rule.markMask = word(value)
        case Int(FRA_TUN_ID) where value.count >= 8:
            rule.tunnelID = UInt64(bigEndian: value.loadUnaligned(as: UInt64.self))
        case Int(FRA_SUPPRESS_IFGROUP): rule.suppressGroup = word(value) == .max ? nil : word(value)
        case Int(FRA_SUPPRESS_PREFIXLEN): rule.suppressPrefixLength = Int32(bitPattern: word(value))
        case Int(FRA_L3MDEV): rule.isL3mdev = value.first.map { $0 != 0 } ?? false
        case Int(FRA_UID_RANGE): rule.users = range(value)
        case Int(FRA_IP_PROTO): rule.protocolNumber = value.first ?? 0
        case Int(FRA_SPORT_RANGE): rule.sourcePorts = range(value)
        case Int(FRA_DPORT_RANGE): rule.destinationPorts = range(value)
        case dscpAttribute: rule.dscp = value.first ?? 0
        case dscpMaskAttribute: rule.dscpMask = value.first ?? 0
        default: break
        }
    }

    /// A nexthop object. nil when it is too short to describe one.
    package static func nexthop(_ message: UnsafeRawBufferPointer) -> KernelNexthop? {
        guard payload(of: message, as: nhmsg.self) != nil else { return nil }
        var nexthop = KernelNexthop()
        for (type, value) in attributes(of: message, after: nhmsg.self) {
            switch type {
            case Int(NHA_ID): nexthop.id = word(value)
            case Int(NHA_OIF) where value.count >= 4: nexthop.interface = Int32(bitPattern: word(value))
            case Int(NHA_GROUP):
                // struct nexthop_grp: 4 bytes of id, weight, reserved.
                nexthop.members = stride(from: 0, to: value.count & ~7, by: 8).map {
                    value.loadUnaligned(fromByteOffset: $0, as: UInt32.self)
                }
            default: break
            }
        }
        return nexthop
    }

    private static func payload<T: BitwiseCopyable>(
        of message: UnsafeRawBufferPointer, as: T.Type
    ) -> T? {
        guard message.count >= headerBytes + MemoryLayout<T>.size else { return nil }
        return message.loadUnaligned(fromByteOffset: headerBytes, as: T.self)
    }

    private typealias Attributes =
        LazyMapSequence<Records<UInt16>, (type: Int, value: UnsafeRawBufferPointer)>

    /// The attributes of a message, behind the header of its type.
    private static func attributes<Header>(
        of message: UnsafeRawBufferPointer, after: Header.Type
    ) -> Attributes {
        let start = min(headerBytes + ((MemoryLayout<Header>.size + 3) & ~3), message.count)
        return attributes(UnsafeRawBufferPointer(rebasing: message[start...]))
    }

    /// Attributes within a value.
    private static func attributes(_ value: UnsafeRawBufferPointer) -> Attributes {
        Records<UInt16>(value, headerBytes: 4).lazy.map { record in
            let type = Int(record.loadUnaligned(fromByteOffset: 2, as: UInt16.self) & 0x3fff)
            return (type, UnsafeRawBufferPointer(rebasing: record[4...]))
        }
    }

    /// Records one behind the other, each with its length in front, on borders of 4 bytes. One whose length
    /// leads nowhere is the end.
    private struct Records<Length: FixedWidthInteger & BitwiseCopyable>: Sequence, IteratorProtocol {
        private let bytes: UnsafeRawBufferPointer
        private let headerBytes: Int
        private var offset = 0

        init(_ bytes: UnsafeRawBufferPointer, headerBytes: Int) {
            (self.bytes, self.headerBytes) = (bytes, headerBytes)
        }

        mutating func next() -> UnsafeRawBufferPointer? {
            guard offset + headerBytes <= bytes.count else { return nil }
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: Length.self))
            guard length >= headerBytes, offset + length <= bytes.count else { return nil }
            defer { offset += (length + 3) & ~3 }
            return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length])
        }
    }
}
