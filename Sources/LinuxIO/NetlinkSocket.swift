// rtnetlink over libmnl: requests with an answer, dumps of links, rules and routes, and change notices.

import CLinux
import Glibc
import Routing

public final class NetlinkSocket {
    private let socket: OpaquePointer
    private let buffer: UnsafeMutableRawPointer
    private static let bufferBytes = 64 << 10
    /// The largest request.
    private static let messageBytes = 4096
    private var sequence: UInt32 = 0
    /// A request ended half-way: what the kernel still answers to it is not the next one's answer.
    private var isOutOfStep = false

    /// What changes are told of.
    public enum Subject: Sendable {
        /// Links, addresses and settings.
        case links
        /// These, rules, nexthops and routes.
        case routes

        fileprivate var groups: [rtnetlink_groups] {
            let links = [
                RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_NETCONF,
                RTNLGRP_IPV6_NETCONF,
            ]
            let routes = [
                RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE,
                RTNLGRP_NEXTHOP,
            ]
            return self == .links ? links : links + routes
        }
    }

    /// A socket that hears of every change.
    /// - Parameter bufferBytes: what may wait; the kernel doubles it.
    public static func notices(
        of subject: Subject = .routes, bufferBytes: Int = 16 << 20
    ) throws(SystemError) -> NetlinkSocket {
        try NetlinkSocket(bufferBytes: bufferBytes, groups: subject.groups)
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

    /// A socket that another process opened, with all that this one may not ask for.
    public init(adopting other: Descriptor) throws(SystemError) {
        let own = try checkNegative("dup", "rtnetlink", fcntl(other.number, F_DUPFD_CLOEXEC, 0))
        guard let opened = mnl_socket_fdopen(own) else {
            let number = errno
            close(own)
            throw SystemError("getsockname", "rtnetlink", errno: number)
        }
        socket = opened
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 16)
    }

    /// The same socket, to be handed over.
    public func duplicate() throws(SystemError) -> Descriptor {
        Descriptor(try checkNegative("dup", "rtnetlink", fcntl(descriptor, F_DUPFD_CLOEXEC, 0)))
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
        _ message: NetlinkMessage, _ operation: String, _ object: String
    ) throws(SystemError) {
        // A dump that nobody reads to its end also keeps the kernel from beginning another one.
        if isOutOfStep { drain() }
        sequence += 1
        message.header.pointee.nlmsg_seq = sequence
        isOutOfStep = true
        guard mnl_socket_sendto(socket, message.header, Int(message.header.pointee.nlmsg_len)) >= 0
        else { throw SystemError(operation, object, errno: errno) }
    }

    /// The next datagram; it stands in `buffer` until the next call.
    private func receive(
        _ operation: String, _ object: String
    ) throws(SystemError) -> UnsafeRawBufferPointer {
        let count = mnl_socket_recvfrom(socket, buffer, Self.bufferBytes)
        guard count >= 0 else { throw SystemError(operation, object, errno: errno) }
        return UnsafeRawBufferPointer(start: buffer, count: count)
    }

    /// Sends one message and waits for its acknowledgement.
    func request(object: String, _ build: (inout NetlinkMessage) -> Void) throws(SystemError) {
        let (operation, progress) = try exchange(object, UInt16(NLM_F_ACK), build) { _ in }
        // Anything else is no acknowledgement.
        let number = if case .failed(let number) = progress { number } else { EPROTO }
        guard number != 0 else { return }
        let isPermission = number == EPERM || number == EACCES
        throw SystemError(operation, object, errno: number, hint: isPermission ? "grant CAP_NET_ADMIN" : nil)
    }

    /// Sends one message and waits for the one that answers it.
    func answer<T>(
        to object: String, _ build: (inout NetlinkMessage) -> Void,
        _ parse: (UnsafeRawBufferPointer) -> T?
    ) throws(SystemError) -> T? {
        var found: T?
        let (operation, progress) = try exchange(object, 0, build) { found = parse($0) }
        if case .failed(let number) = progress, number != 0 {
            throw SystemError(operation, object, errno: number)
        }
        return found
    }

    private func exchange(
        _ object: String, _ flags: UInt16, _ build: (inout NetlinkMessage) -> Void,
        _ each: (UnsafeRawBufferPointer) -> Void
    ) throws(SystemError) -> (operation: String, progress: NetlinkParser.Progress) {
        var message = NetlinkMessage(buffer: buffer)
        build(&message)
        message.header.pointee.nlmsg_flags |= flags
        let operation = "rtnetlink request \(message.header.pointee.nlmsg_type)"
        try send(message, operation, object)
        let datagram = try receive(operation, object)
        isOutOfStep = false
        var isConsistent = true
        return (operation, NetlinkParser.walk(datagram, sequence, &isConsistent, each))
    }

    /// Runs one dump; `each` sees every message of it.
    /// - Returns: false when the tables changed under the dump, so that it must be repeated.
    private func dump<Header>(
        _ type: Int, _ header: Header.Type, family: Int32,
        fill: (inout Header) -> Void, _ each: (UnsafeRawBufferPointer) -> Void
    ) throws(SystemError) -> Bool {
        var message = NetlinkMessage(buffer: buffer)
        message.begin(type: type, flags: UInt16(NLM_F_ROOT | NLM_F_MATCH))
        message.extraHeader(header, family: family, fill)
        try send(message, "rtnetlink dump", "\(type)")
        var isConsistent = true
        while true {
            let datagram = try receive("rtnetlink dump", "\(type)")
            let progress = NetlinkParser.walk(datagram, sequence, &isConsistent, each)
            if case .more = progress { continue }
            isOutOfStep = false
            if case .failed(let number) = progress {
                throw SystemError("rtnetlink dump", "\(type)", errno: number)
            }
            return isConsistent
        }
    }

    /// What `parse` makes of a whole dump, which is repeated until nothing changed under it.
    private func list<Header, T>(
        _ type: Int, _ header: Header.Type, family: Int32 = AF_UNSPEC,
        fill: (inout Header) -> Void = { _ in }, _ parse: (UnsafeRawBufferPointer) -> T?
    ) throws(SystemError) -> [T] {
        while true {
            var found: [T] = []
            let isConsistent = try dump(type, header, family: family, fill: fill) { message in
                if let one = parse(message) { found.append(one) }
            }
            if isConsistent { return found }
        }
    }

    /// All links of this network namespace.
    public func links() throws(SystemError) -> [Link] {
        try list(RTM_GETLINK, ifinfomsg.self, NetlinkParser.link)
    }

    /// The addresses of a link, with their prefixes' lengths.
    public func addresses(
        of index: Int32, family: Int32
    ) throws(SystemError) -> [(bytes: [UInt8], length: Int)] {
        // Then the kernel lists those of one link: a host may have thousands. Since Linux 4.20. It refuses
        // a question with anything else in it.
        var isOn: Int32 = 1
        _ = mnl_socket_setsockopt(socket, NETLINK_GET_STRICT_CHK, &isOn, socklen_t(4))
        return try list(
            RTM_GETADDR, ifaddrmsg.self, family: family, fill: { $0.ifa_index = UInt32(index) }
        ) { NetlinkParser.address($0, of: index) }
    }

    /// Names of the filters of traffic control at a link's ingress, in order.
    func ingressFilters(of index: Int32) throws(SystemError) -> [String] {
        try list(
            Int(RTM_GETTFILTER), tcmsg.self,
            fill: {
                $0.tcm_ifindex = index
                $0.tcm_parent = CLINUX_TC_H_MIN_INGRESS_PARENT
            }, NetlinkParser.filter)
    }

    /// Dumps routes of all tables and both families, without the kernel's cached clones. `begin`
    /// comes first, and again whenever a dump was interrupted and starts again.
    public func routes(
        begin: () -> Void, each: (KernelRoute) -> Void
    ) throws(SystemError) {
        while true {
            begin()
            var isConsistent = true
            for family in [AF_INET, AF_INET6] {
                let isWhole = try dump(RTM_GETROUTE, rtmsg.self, family: family, fill: { _ in }) { message in
                    if let route = NetlinkParser.route(message) { each(route) }
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
        try list(RTM_GETRULE, fib_rule_hdr.self, family: AF_INET, NetlinkParser.rule)
            + list(RTM_GETRULE, fib_rule_hdr.self, family: AF_INET6, NetlinkParser.rule)
    }

    /// Nexthop objects by id: the interfaces that each comes to.
    public func nexthops() throws(SystemError) -> [UInt32: [Int32]] {
        let objects = try list(Int(RTM_GETNEXTHOP), nhmsg.self, NetlinkParser.nexthop)
        return KernelNexthop.interfaces(
            Dictionary(objects.map { ($0.id, $0) }, uniquingKeysWith: { $1 }))
    }

    /// Takes notices that are there, without waiting, at most about `limit` of routes.
    public func takeNotices(limit: Int = 10_000) -> KernelNotices {
        var notices = KernelNotices()
        while notices.routes.count < limit {
            let count = recv(descriptor, buffer, Self.bufferBytes, Int32(MSG_DONTWAIT))
            if count > 0 {
                NetlinkParser.read(UnsafeRawBufferPointer(start: buffer, count: count), into: &notices)
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
