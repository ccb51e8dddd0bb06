// Builds netlink messages.

import CLinux
import Glibc

/// One message in its own buffer.
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

    /// Appends the header of the message's type. It begins with the address family.
    func extraHeader<T>(_: T.Type, family: Int32 = AF_UNSPEC, _ fill: (inout T) -> Void = { _ in }) {
        let memory = mnl_nlmsg_put_extra_header(header, MemoryLayout<T>.size)!
        memory.storeBytes(of: UInt8(family), as: UInt8.self)
        fill(&memory.assumingMemoryBound(to: T.self).pointee)
    }

    func linkHeader(index: Int32, up: Bool) {
        extraHeader(ifinfomsg.self) { link in
            link.ifi_index = index
            link.ifi_flags = up ? UInt32(IFF_UP) : 0
            link.ifi_change = link.ifi_flags
        }
    }

    func addressHeader(
        index: Int32, bytes: [UInt8], prefixLength: Int, scope: rt_scope_t = RT_SCOPE_HOST
    ) {
        extraHeader(ifaddrmsg.self, family: bytes.count == 4 ? AF_INET : AF_INET6) { address in
            address.ifa_prefixlen = UInt8(prefixLength)
            address.ifa_scope = UInt8(scope.rawValue)
            address.ifa_index = UInt32(index)
        }
    }

    /// Of a route in the main table, as somebody would add it by hand.
    func routeHeader(isIPv4: Bool, prefixLength: Int) {
        extraHeader(rtmsg.self, family: isIPv4 ? AF_INET : AF_INET6) { route in
            route.rtm_dst_len = UInt8(prefixLength)
            route.rtm_table = UInt8(RT_TABLE_MAIN.rawValue)
            route.rtm_protocol = UInt8(RTPROT_STATIC)
            route.rtm_scope = UInt8(RT_SCOPE_UNIVERSE.rawValue)
            route.rtm_type = UInt8(RTN_UNICAST)
        }
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
