// rtnetlink over libmnl: requests with an answer, dumps of links and routes, and change notices.

import CLinux
import Glibc

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

/// A link as the kernel lists it.
public struct Link: Sendable, Equatable {
    public var index: Int32
    public var name: String
    /// Bytes of the largest IP packet.
    public var mtu: Int
    public var isUp: Bool
    /// linux/if_arp.h `ARPHRD_*`; 1 is Ethernet.
    public var hardwareType: UInt16
}

/// A route as the kernel lists it; numbers as in linux/rtnetlink.h.
public struct KernelRoute: Sendable, Equatable {
    public var isIPv4: Bool
    /// Network byte order; empty for a default route.
    public var destination: [UInt8]
    public var length: Int
    public var table: UInt32
    public var type: UInt8
    public var metric: UInt32
    public var tos: UInt8
    /// ifindex of each nexthop.
    public var interfaces: [Int32]
}

public final class NetlinkSocket {
    private let socket: OpaquePointer
    private let buffer: UnsafeMutableRawPointer
    private static let bufferBytes = 64 << 10
    private var sequence: UInt32 = 0

    /// A socket that hears of every change of links, addresses and routes.
    public static func notices() throws(SystemError) -> NetlinkSocket {
        try NetlinkSocket(groups: [
            RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR,
            RTNLGRP_IPV6_IFADDR,
        ])
    }

    /// A socket of requests.
    public convenience init() throws(SystemError) { try self.init(groups: []) }

    private init(groups: [rtnetlink_groups]) throws(SystemError) {
        guard let opened = mnl_socket_open2(NETLINK_ROUTE, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw SystemError("socket(AF_NETLINK)", "rtnetlink", errno: errno)
        }
        socket = opened
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 16)
        guard mnl_socket_bind(opened, 0, MNL_SOCKET_AUTOPID) == 0 else {
            throw SystemError("bind(AF_NETLINK)", "rtnetlink", errno: errno)
        }
        // A storm of routes overruns the default buffer: 16 MiB hold a million of them.
        var bytes: Int32 = 16 << 20
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

    /// Sends one message and waits for its acknowledgement.
    func request(
        object: String, mend: String? = nil, _ build: (inout NetlinkMessage) -> Void
    ) throws(SystemError) {
        var message = NetlinkMessage(buffer: buffer)
        build(&message)
        sequence += 1
        message.header.pointee.nlmsg_seq = sequence
        message.header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK)
        let operation = "rtnetlink request \(message.header.pointee.nlmsg_type)"
        guard mnl_socket_sendto(socket, message.header, Int(message.header.pointee.nlmsg_len)) >= 0
        else { throw SystemError(operation, object, errno: errno, mend: mend) }
        let count = mnl_socket_recvfrom(socket, buffer, Self.bufferBytes)
        guard count >= 0 else { throw SystemError(operation, object, errno: errno, mend: mend) }
        if mnl_cb_run(buffer, count, sequence, mnl_socket_get_portid(socket), nil, nil) < 0 {
            let isPermission = errno == EPERM || errno == EACCES
            throw SystemError(
                operation, object, errno: errno,
                mend: mend ?? (isPermission ? "grant CAP_NET_ADMIN" : nil))
        }
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
        sequence += 1
        message.header.pointee.nlmsg_seq = sequence
        guard mnl_socket_sendto(socket, message.header, Int(message.header.pointee.nlmsg_len)) >= 0
        else { throw SystemError("rtnetlink dump", "\(type)", errno: errno) }
        var isConsistent = true
        while true {
            let count = mnl_socket_recvfrom(socket, buffer, Self.bufferBytes)
            guard count >= 0 else { throw SystemError("rtnetlink dump", "\(type)", errno: errno) }
            let datagram = UnsafeRawBufferPointer(start: buffer, count: count)
            switch NetlinkAnswer.walk(datagram, sequence, &isConsistent, each) {
            case .more: continue
            case .done: return isConsistent
            case .failed(let number):
                throw SystemError("rtnetlink dump", "\(type)", errno: number)
            }
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

    /// All routes of all tables and both families, without the kernel's cached clones.
    public func routes() throws(SystemError) -> [KernelRoute] {
        var routes: [KernelRoute] = []
        for family in [AF_INET, AF_INET6] {
            while true {
                var found: [KernelRoute] = []
                let isConsistent = try dump(
                    type: RTM_GETROUTE, header: { $0.routeHeader(family: family) }
                ) { message in
                    if let route = NetlinkAnswer.route(message) { found.append(route) }
                }
                if isConsistent {
                    routes += found
                    break
                }
            }
        }
        return routes
    }

    /// Takes what notices there are without waiting.
    /// - Returns: whether anything changed; also true when notices were lost (ENOBUFS).
    public func drainNotices() -> Bool {
        var changed = false
        while true {
            let count = recv(
                descriptor, buffer, Self.bufferBytes, Int32(MSG_DONTWAIT))
            if count > 0 {
                changed = true
            } else if count < 0 && errno == ENOBUFS {
                changed = true
            } else if count < 0 && errno == EINTR {
                continue
            } else {
                return changed
            }
        }
    }
}
