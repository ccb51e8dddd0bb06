// rtnetlink over libmnl: requests with an answer, dumps of links, rules and routes, and change notices.

import CLinux
import Glibc
import Routing

/// Builds one netlink message in its own buffer.
struct NetlinkMessage {
    private let buffer: UnsafeMutableRawPointer
    private(set) var header: UnsafeMutablePointer<nlmsghdr>

    init(buffer: UnsafeMutableRawPointer) {
        self.buffer = buffer
        header = mnl_nlmsg_put_header(buffer)
    }

    mutating func begin(type: Int, flags: UInt16) {
        header = mnl_nlmsg_put_header(buffer)
        header.pointee.nlmsg_type = UInt16(type)
        header.pointee.nlmsg_flags = UInt16(NLM_F_REQUEST) | flags
    }

    private func extra<T>(_: T.Type) -> UnsafeMutablePointer<T> {
        mnl_nlmsg_put_extra_header(header, MemoryLayout<T>.size)!
            .assumingMemoryBound(to: T.self)
    }

    func linkHeader(index: Int32, up: Bool) {
        let link = extra(ifinfomsg.self)
        link.pointee.ifi_family = UInt8(AF_UNSPEC)
        link.pointee.ifi_index = index
        if up {
            link.pointee.ifi_flags = UInt32(IFF_UP)
            link.pointee.ifi_change = UInt32(IFF_UP)
        }
    }

    func addressHeader(index: Int32, family: Int32, prefixLength: Int) {
        let address = extra(ifaddrmsg.self)
        address.pointee.ifa_family = UInt8(family)
        address.pointee.ifa_prefixlen = UInt8(prefixLength)
        address.pointee.ifa_scope = UInt8(RT_SCOPE_HOST.rawValue)
        address.pointee.ifa_index = UInt32(index)
    }

    /// A question for addresses; the kernel refuses one with anything else in it.
    func addressQuestion(index: Int32, family: Int32) {
        let address = extra(ifaddrmsg.self)
        address.pointee.ifa_family = UInt8(family)
        address.pointee.ifa_index = UInt32(index)
    }

    func routeHeader(family: Int32) {
        let route = extra(rtmsg.self)
        route.pointee.rtm_family = UInt8(family)
    }

    /// Of a route to one IPv6 address of the main table, through a device.
    func hostRouteHeader() {
        let route = extra(rtmsg.self)
        route.pointee.rtm_family = UInt8(AF_INET6)
        route.pointee.rtm_dst_len = 128
        route.pointee.rtm_table = UInt8(RT_TABLE_MAIN.rawValue)
        route.pointee.rtm_protocol = UInt8(RTPROT_STATIC)
        route.pointee.rtm_scope = UInt8(RT_SCOPE_UNIVERSE.rawValue)
        route.pointee.rtm_type = UInt8(RTN_UNICAST)
    }

    func ruleHeader(family: Int32) { extra(fib_rule_hdr.self).pointee.family = UInt8(family) }

    func nexthopHeader() { extra(nhmsg.self).pointee.nh_family = UInt8(AF_UNSPEC) }

    func trafficHeader(index: Int32, parent: UInt32, handle: UInt32, info: UInt32) {
        let traffic = extra(tcmsg.self)
        traffic.pointee.tcm_family = UInt8(AF_UNSPEC)
        traffic.pointee.tcm_ifindex = index
        traffic.pointee.tcm_parent = parent
        traffic.pointee.tcm_handle = handle
        traffic.pointee.tcm_info = info
    }

    func attribute(_ type: some BinaryInteger, _ value: UInt32) {
        mnl_attr_put_u32(header, UInt16(type), value)
    }

    func attribute(_ type: some BinaryInteger, _ bytes: [UInt8]) {
        mnl_attr_put(header, UInt16(type), bytes.count, bytes)
    }

    func attribute(_ type: some BinaryInteger, text: String) {
        mnl_attr_put_strz(header, UInt16(type), text)
    }

    func nest(_ type: some BinaryInteger, _ body: (NetlinkMessage) -> Void) {
        let start = mnl_attr_nest_start(header, UInt16(type))!
        body(self)
        mnl_attr_nest_end(header, start)
    }
}

public final class NetlinkSocket {
    private let socket: OpaquePointer
    private let buffer: UnsafeMutableRawPointer
    private static let bufferBytes = 64 << 10
    /// The largest request.
    private static let messageBytes = 4096
    private var sequence: UInt32 = 0
    /// A request ended half-way: what the kernel still answers to it is not the next one's answer.
    private var isOutOfStep = false

    /// A socket that hears of every change of links, addresses, settings, rules, nexthops and routes.
    /// - Parameter bufferBytes: what may wait; the kernel doubles it.
    public static func notices(bufferBytes: Int = 16 << 20) throws(SystemError) -> NetlinkSocket {
        try NetlinkSocket(
            bufferBytes: bufferBytes,
            groups: [
                RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR,
                RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP,
                RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF,
            ])
    }

    /// A socket of requests.
    public convenience init() throws(SystemError) { try self.init(groups: []) }

    private init(
        bufferBytes: Int = 16 << 20, groups: [rtnetlink_groups]
    ) throws(SystemError) {
        guard let opened = mnl_socket_open2(NETLINK_ROUTE, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw SystemError("socket(AF_NETLINK)", "rtnetlink", errno: errno)
        }
        socket = opened
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 16)
        guard mnl_socket_bind(opened, 0, MNL_SOCKET_AUTOPID) == 0 else {
            throw SystemError("bind(AF_NETLINK)", "rtnetlink", errno: errno)
        }
        // A storm of routes overruns the default buffer: 16 MiB hold a million of them.
        var bytes = Int32(clamping: bufferBytes)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, socklen_t(4))
        for group in groups {
            var number = Int32(group.rawValue)
            try check("setsockopt(NETLINK_ADD_MEMBERSHIP)", "rtnetlink") {
                mnl_socket_setsockopt(
                    opened, NETLINK_ADD_MEMBERSHIP, &number, socklen_t(MemoryLayout<Int32>.size))
            }
        }
    }

    deinit {
        mnl_socket_close(socket)
        buffer.deallocate()
    }

    public var descriptor: Int32 { mnl_socket_get_fd(socket) }

    private func drain() {
        var failures = 0
        while failures < 16 {
            let count = recv(
                descriptor, buffer + Self.messageBytes, Self.bufferBytes - Self.messageBytes,
                Int32(MSG_DONTWAIT))
            if count < 0 && errno == EAGAIN { return }
            if count < 0 { failures += 1 }
        }
    }

    /// Numbers a message and sends it.
    private func send(
        _ message: NetlinkMessage, _ operation: String, _ object: String, mend: String? = nil
    ) throws(SystemError) {
        // A dump that nobody reads to its end also keeps the kernel from beginning another one.
        if isOutOfStep { drain() }
        sequence += 1
        message.header.pointee.nlmsg_seq = sequence
        isOutOfStep = true
        guard mnl_socket_sendto(socket, message.header, Int(message.header.pointee.nlmsg_len)) >= 0
        else { throw SystemError(operation, object, errno: errno, mend: mend) }
    }

    /// The next datagram; it stands in `buffer` until the next call.
    private func receive(
        _ operation: String, _ object: String, mend: String? = nil
    ) throws(SystemError) -> UnsafeRawBufferPointer {
        let count = mnl_socket_recvfrom(socket, buffer, Self.bufferBytes)
        guard count >= 0 else { throw SystemError(operation, object, errno: errno, mend: mend) }
        return UnsafeRawBufferPointer(start: buffer, count: count)
    }

    /// Sends one message and waits for its acknowledgement.
    func request(
        object: String, mend: String? = nil, _ build: (inout NetlinkMessage) -> Void
    ) throws(SystemError) {
        var message = NetlinkMessage(buffer: buffer)
        build(&message)
        message.header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK)
        let operation = "rtnetlink request \(message.header.pointee.nlmsg_type)"
        try send(message, operation, object, mend: mend)
        let datagram = try receive(operation, object, mend: mend)
        isOutOfStep = false
        if mnl_cb_run(
            datagram.baseAddress, datagram.count, sequence, mnl_socket_get_portid(socket), nil, nil) < 0
        {
            let isPermission = errno == EPERM || errno == EACCES
            throw SystemError(
                operation, object, errno: errno,
                mend: mend ?? (isPermission ? "grant CAP_NET_ADMIN" : nil))
        }
    }

    /// Sends one message and waits for the one that answers it.
    func answer<T>(
        to object: String, _ build: (inout NetlinkMessage) -> Void,
        _ parse: (UnsafeRawBufferPointer) -> T?
    ) throws(SystemError) -> T? {
        var message = NetlinkMessage(buffer: buffer)
        build(&message)
        let operation = "rtnetlink request \(message.header.pointee.nlmsg_type)"
        try send(message, operation, object)
        var (found, isConsistent): (T?, Bool) = (nil, true)
        let datagram = try receive(operation, object)
        isOutOfStep = false
        let progress = NetlinkAnswer.walk(datagram, sequence, &isConsistent) { found = parse($0) }
        if case .failed(let number) = progress, number != 0 {
            throw SystemError(operation, object, errno: number)
        }
        return found
    }

    /// Runs one dump; `each` sees every message of it.
    /// - Returns: false when the tables changed under the dump, so that it must be repeated.
    private func dump(
        type: Int, header build: (NetlinkMessage) -> Void,
        _ each: (UnsafeRawBufferPointer) -> Void
    ) throws(SystemError) -> Bool {
        var message = NetlinkMessage(buffer: buffer)
        message.begin(type: type, flags: UInt16(NLM_F_ROOT | NLM_F_MATCH))
        build(message)
        try send(message, "rtnetlink dump", "\(type)")
        var isConsistent = true
        while true {
            let datagram = try receive("rtnetlink dump", "\(type)")
            let progress = NetlinkAnswer.walk(datagram, sequence, &isConsistent, each)
            if case .more = progress { continue }
            isOutOfStep = false
            if case .failed(let number) = progress {
                throw SystemError("rtnetlink dump", "\(type)", errno: number)
            }
            return isConsistent
        }
    }

    /// All links of this network namespace.
    public func links() throws(SystemError) -> [Link] {
        while true {
            var links: [Link] = []
            let isConsistent = try dump(
                type: RTM_GETLINK, header: { $0.linkHeader(index: 0, up: false) }
            ) { message in
                if let link = NetlinkAnswer.link(message) { links.append(link) }
            }
            if isConsistent { return links }
        }
    }

    /// The addresses of a link, with their prefixes' lengths.
    func addresses(
        of index: Int32, family: Int32
    ) throws(SystemError) -> [(bytes: [UInt8], length: Int)] {
        // Then the kernel lists those of one link: a host may have thousands. Since Linux 4.20.
        var isOn: Int32 = 1
        _ = mnl_socket_setsockopt(socket, NETLINK_GET_STRICT_CHK, &isOn, socklen_t(4))
        while true {
            var found: [(bytes: [UInt8], length: Int)] = []
            let isConsistent = try dump(
                type: RTM_GETADDR, header: { $0.addressQuestion(index: index, family: family) }
            ) { message in
                if let one = NetlinkAnswer.address(message, of: index) { found.append(one) }
            }
            if isConsistent { return found }
        }
    }

    /// Dumps routes of all tables and both families, without the kernel's cached clones. `begin`
    /// comes first, and again whenever a dump was interrupted and starts anew.
    public func routes(
        begin: () -> Void, each: (KernelRoute) -> Void
    ) throws(SystemError) {
        while true {
            begin()
            var isConsistent = true
            for family in [AF_INET, AF_INET6] {
                let isWhole = try dump(
                    type: RTM_GETROUTE, header: { $0.routeHeader(family: family) }
                ) { message in
                    if let route = NetlinkAnswer.route(message) { each(route) }
                }
                isConsistent = isConsistent && isWhole
            }
            if isConsistent { return }
        }
    }

    public func routes() throws(SystemError) -> [KernelRoute] {
        var routes: [KernelRoute] = []
        try self.routes(begin: { routes = [] }, each: { routes.append($0) })
        return routes
    }

    /// The policy rules of both families, each family's in the order of the walk.
    public func rules() throws(SystemError) -> [RuleEntry] {
        var rules: [RuleEntry] = []
        for family in [AF_INET, AF_INET6] {
            while true {
                var found: [RuleEntry] = []
                let isConsistent = try dump(
                    type: RTM_GETRULE, header: { $0.ruleHeader(family: family) }
                ) { message in
                    if let rule = NetlinkAnswer.rule(message) { found.append(rule) }
                }
                if isConsistent {
                    rules += found
                    break
                }
            }
        }
        return rules
    }

    /// Nexthop objects by id: the interfaces that each comes to.
    public func nexthops() throws(SystemError) -> [UInt32: [Int32]] {
        var objects: [UInt32: KernelNexthop] = [:]
        var isConsistent = false
        while !isConsistent {
            objects = [:]
            isConsistent = try dump(
                type: Int(RTM_GETNEXTHOP), header: { $0.nexthopHeader() }
            ) { message in
                if let one = NetlinkAnswer.nexthop(message) { objects[one.id] = one }
            }
        }
        return KernelNexthop.interfaces(objects)
    }

    /// Takes notices that are there, without waiting, at most about `limit` of routes.
    public func takeNotices(limit: Int = 10_000) -> KernelNotices {
        var notices = KernelNotices()
        while notices.routes.count < limit {
            let count = recv(descriptor, buffer, Self.bufferBytes, Int32(MSG_DONTWAIT))
            if count > 0 {
                NetlinkAnswer.notices(UnsafeRawBufferPointer(start: buffer, count: count)) {
                    notices.take($0)
                }
            } else if count < 0 && errno == ENOBUFS {
                notices.areLost = true
            } else if count < 0 && errno == EINTR {
                continue
            } else {
                break
            }
        }
        return notices
    }
}
