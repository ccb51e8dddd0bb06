// What rtnetlink answers, as bytes: messages of a dump and their attributes. No socket, no trust.

import CLinux
import Glibc
import IP
import Routing

package enum NetlinkAnswer {
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
        var offset = 0
        while offset + headerBytes <= datagram.count {
            let header = datagram.loadUnaligned(fromByteOffset: offset, as: nlmsghdr.self)
            let length = Int(header.nlmsg_len)
            guard length >= headerBytes, offset + length <= datagram.count else { return .more }
            let message = UnsafeRawBufferPointer(rebasing: datagram[offset..<offset + length])
            offset += (length + 3) & ~3
            // The answer to an earlier request, which nobody took.
            guard header.nlmsg_seq == sequence else { continue }
            if header.nlmsg_flags & UInt16(NLM_F_DUMP_INTR) != 0 { isConsistent = false }
            switch Int32(header.nlmsg_type) {
            case NLMSG_DONE: return .done
            case NLMSG_ERROR:
                guard length >= headerBytes + 4 else { return .failed(EBADMSG) }
                let error = message.loadUnaligned(fromByteOffset: headerBytes, as: Int32.self)
                return .failed(0 &- error)
            default: each(message)
            }
        }
        return .more
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
        var lower: Int32 = 0
        var isElsewhere = false
        attributes(message, after: MemoryLayout<ifinfomsg>.size) { type, value in
            switch Int(type) {
            case Int(IFLA_IFNAME):
                link.name = text(value)
            case Int(IFLA_MTU) where value.count >= 4:
                link.mtu = Int(value.loadUnaligned(as: UInt32.self))
            case Int(IFLA_GROUP) where value.count >= 4:
                link.group = value.loadUnaligned(as: UInt32.self)
            case Int(IFLA_MASTER) where value.count >= 4:
                link.master = value.loadUnaligned(as: Int32.self)
                link.state.master = link.master
            case Int(IFLA_OPERSTATE) where value.count >= 1: link.state.operational = value[0]
            case Int(IFLA_CARRIER_CHANGES) where value.count >= 4:
                link.state.carrierChanges = value.loadUnaligned(as: UInt32.self)
            case Int(IFLA_LINK) where value.count >= 4:
                lower = value.loadUnaligned(as: Int32.self)
            // It stands on a link of another namespace, whose index says nothing here.
            case Int(IFLA_LINK_NETNSID): isElsewhere = true
            case Int(IFLA_LINKINFO): information(value, of: &link)
            case Int(IFLA_PROP_LIST):
                attributes(value, from: 0) { type, value in
                    guard Int(type) == Int(IFLA_ALT_IFNAME) else { return }
                    link.otherNames.append(text(value))
                }
            default: break
            }
        }
        if !isElsewhere { link.lower = lower }
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
        attributes(message, after: MemoryLayout<ifaddrmsg>.size) { type, value in
            switch Int(type) {
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
        attributes(message, after: MemoryLayout<ifinfomsg>.size) { type, value in
            guard Int(type) == Int(IFLA_AF_SPEC) else { return }
            attributes(value, from: 0) { family, value in
                attributes(value, from: 0) { type, values in
                    if family == UInt16(AF_INET), Int(type) == Int(IFLA_INET_CONF) {
                        // Counted from 1.
                        facts.forwardsIPv4 = word(values, CLINUX_IPV4_DEVCONF_FORWARDING - 1) == 1
                        facts.reversePath = word(values, CLINUX_IPV4_DEVCONF_RP_FILTER - 1)
                    } else if family == UInt16(AF_INET6), Int(type) == Int(IFLA_INET6_CONF) {
                        facts.hasIPv6 = word(values, CLINUX_DEVCONF_DISABLE_IPV6) == 0
                    }
                }
            }
        }
        return facts
    }

    private static func word(_ bytes: UnsafeRawBufferPointer, _ number: some BinaryInteger) -> Int? {
        let offset = Int(number) * 4
        guard offset + 4 <= bytes.count else { return nil }
        return Int(bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self))
    }

    /// nil when the notice says nothing of a link's state: a bridge's port, or an event of a wireless one.
    package static func linkChange(_ message: UnsafeRawBufferPointer) -> LinkChange? {
        guard let link = link(message) else { return nil }
        if type(of: message).type == Int(RTM_DELLINK) {
            return LinkChange(index: link.index, state: nil)
        }
        guard link.state.operational != nil else { return nil }
        return LinkChange(index: link.index, state: link.state)
    }

    /// Which settings of a link, of all, or of those to come a `RTM_NEWNETCONF` tells of.
    package static func settings(
        _ message: UnsafeRawBufferPointer
    ) -> (forwarding: Bool, reversePath: Bool, linkdown: Bool) {
        var told = (forwarding: false, reversePath: false, linkdown: false)
        guard payload(of: message, as: netconfmsg.self) != nil else { return told }
        attributes(message, after: MemoryLayout<netconfmsg>.size) { type, _ in
            switch Int(type) {
            case Int(NETCONFA_FORWARDING): told.forwarding = true
            case Int(NETCONFA_RP_FILTER): told.reversePath = true
            case Int(NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN): told.linkdown = true
            default: break
            }
        }
        return told
    }

    /// Of `IFLA_LINKINFO`: the kind, a VRF's table, a VLAN's ID.
    private static func information(_ info: UnsafeRawBufferPointer, of link: inout Link) {
        var (table, vlan): (UInt32, UInt16?) = (0, nil)
        attributes(info, from: 0) { type, value in
            switch Int(type) {
            case Int(IFLA_INFO_KIND): link.kind = text(value)
            case Int(IFLA_INFO_DATA):
                attributes(value, from: 0) { type, value in
                    // The same number means another thing in each kind.
                    if Int(type) == Int(IFLA_VRF_TABLE), value.count >= 4 {
                        table = value.loadUnaligned(as: UInt32.self)
                    }
                    if Int(type) == Int(IFLA_VLAN_ID), value.count >= 2 {
                        vlan = value.loadUnaligned(as: UInt16.self)
                    }
                }
            default: break
            }
        }
        if link.kind == "vrf" { link.vrfTable = table }
        if link.kind == "vlan" { link.vlanID = vlan }
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
        attributes(message, after: MemoryLayout<rtmsg>.size) { type, value in
            switch Int(type) {
            case Int(RTA_DST.rawValue): address = Address(bytes: value)
            case Int(RTA_TABLE.rawValue) where value.count >= 4:
                route.entry.table = value.loadUnaligned(as: UInt32.self)
            case Int(RTA_PRIORITY.rawValue) where value.count >= 4:
                route.entry.metric = value.loadUnaligned(as: UInt32.self)
            case Int(RTA_OIF.rawValue) where value.count >= 4:
                route.entry.interfaces.append(value.loadUnaligned(as: Int32.self))
            case Int(RTA_MULTIPATH.rawValue): route.take(nexthops(value))
            case Int(RTA_GATEWAY.rawValue), Int(RTA_VIA.rawValue): gateway = hash(value)
            case Int(RTA_NH_ID.rawValue) where value.count >= 4:
                route.nexthop = value.loadUnaligned(as: UInt32.self)
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
        var hops: [KernelRoute.Hop] = []
        var offset = 0
        while offset + 8 <= bytes.count {
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            guard length >= 8, offset + length <= bytes.count else { break }
            var hop = KernelRoute.Hop(
                interface: bytes.loadUnaligned(fromByteOffset: offset + 4, as: Int32.self),
                isDead: bytes[offset + 2] & UInt8(RTNH_F_DEAD) != 0)
            attributes(UnsafeRawBufferPointer(rebasing: bytes[offset + 8..<offset + length]), from: 0) {
                type, value in
                switch Int(type) {
                case Int(RTA_GATEWAY.rawValue), Int(RTA_VIA.rawValue):
                    hop.gateway = hash(value)
                default: break
                }
            }
            hops.append(hop)
            offset += (length + 3) & ~3
        }
        return hops
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
        attributes(message, after: MemoryLayout<fib_rule_hdr>.size) { type, value in
            switch Int(type) {
            case Int(FRA_DST): rule.to = prefix(value, header.dst_len)
            case Int(FRA_SRC): rule.from = prefix(value, header.src_len)
            case Int(FRA_GOTO): target = word(value)
            case Int(FRA_TABLE): table = word(value)
            default: select(&rule, Int(type), value)
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
        attributes(message, after: MemoryLayout<nhmsg>.size) { type, value in
            switch Int(type) {
            case Int(NHA_ID) where value.count >= 4:
                nexthop.id = value.loadUnaligned(as: UInt32.self)
            case Int(NHA_OIF) where value.count >= 4:
                nexthop.interface = value.loadUnaligned(as: Int32.self)
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

    package static func type(of message: UnsafeRawBufferPointer) -> (type: Int, flags: UInt16) {
        let header = message.loadUnaligned(as: nlmsghdr.self)
        return (Int(header.nlmsg_type), header.nlmsg_flags)
    }

    /// Every message of a datagram of notices.
    package static func notices(
        _ datagram: UnsafeRawBufferPointer, _ each: (UnsafeRawBufferPointer) -> Void
    ) {
        var offset = 0
        while offset + headerBytes <= datagram.count {
            let length = Int(
                datagram.loadUnaligned(fromByteOffset: offset, as: nlmsghdr.self).nlmsg_len)
            guard length >= headerBytes, offset + length <= datagram.count else { return }
            each(UnsafeRawBufferPointer(rebasing: datagram[offset..<offset + length]))
            offset += (length + 3) & ~3
        }
    }

    private static func payload<T: BitwiseCopyable>(
        of message: UnsafeRawBufferPointer, as: T.Type
    ) -> T? {
        guard message.count >= headerBytes + MemoryLayout<T>.size else { return nil }
        return message.loadUnaligned(fromByteOffset: headerBytes, as: T.self)
    }

    private static func attributes(
        _ message: UnsafeRawBufferPointer, after header: Int,
        _ each: (UInt16, UnsafeRawBufferPointer) -> Void
    ) {
        attributes(message, from: headerBytes + ((header + 3) & ~3), each)
    }

    private static func attributes(
        _ message: UnsafeRawBufferPointer, from start: Int,
        _ each: (UInt16, UnsafeRawBufferPointer) -> Void
    ) {
        var offset = start
        while offset + 4 <= message.count {
            let length = Int(message.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            let type = message.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self)
            guard length >= 4, offset + length <= message.count else { return }
            each(
                type & 0x3fff,
                UnsafeRawBufferPointer(rebasing: message[offset + 4..<offset + length]))
            offset += (length + 3) & ~3
        }
    }
}
