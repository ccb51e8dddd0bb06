// Raw sockets that send ICMP errors from this host and receive nothing.

import CLinux
import Glibc

public final class ICMPErrorSockets: Sendable {
    // linux/icmp.h and linux/icmpv6.h, which do not stand beside netinet/in.h.
    private static let icmpFilter: Int32 = 1
    private static let icmpv6Filter: Int32 = 1

    public let socket4: Descriptor?
    public let socket6: Descriptor?

    /// - Parameter source4: of what is sent, in network order; nil: the address of the interface
    ///   that leads to the receiver, as RFC 1812 §4.3.2.4 has it.
    /// - Parameter source6: likewise.
    public init(source4: [UInt8]?, source6: [UInt8]?) throws(SystemError) {
        socket4 = try Self.open(AF_INET, source4) { (descriptor) throws(SystemError) in
            // Whatever comes in is for others (raw(7), ICMP_FILTER of linux/icmp.h).
            try descriptor.setOption(
                SOL_RAW, Self.icmpFilter, UInt32.max, "setsockopt(ICMP_FILTER)", "replies")
            // Internetwork control (RFC 1812 §4.3.2.5).
            try descriptor.setOption(
                Int32(IPPROTO_IP), IP_TOS, Int32(0xc0), "setsockopt(IP_TOS)", "replies")
        }
        socket6 = try Self.open(AF_INET6, source6) { (descriptor) throws(SystemError) in
            // A set bit blocks a type (RFC 3542 §3.2, as Linux has it).
            let all: (UInt64, UInt64, UInt64, UInt64) = (.max, .max, .max, .max)
            try descriptor.setOption(
                Int32(IPPROTO_ICMPV6), Self.icmpv6Filter, all, "setsockopt(ICMPV6_FILTER)",
                "replies")
        }
    }

    /// Sockets that another process opened and handed over; nil where the host has not the family.
    public init(adopting socket4: Descriptor?, _ socket6: Descriptor?) {
        self.socket4 = socket4
        self.socket6 = socket6
    }

    /// nil where the host has not the family.
    private static func open(
        _ family: Int32, _ source: [UInt8]?, _ prepare: (Descriptor) throws(SystemError) -> Void
    ) throws(SystemError) -> Descriptor? {
        let number = Sockets.open(
            family, .raw, Int32(family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6), isNonBlocking: true)
        if number < 0 && errno == EAFNOSUPPORT && source == nil { return nil }
        try check("socket(SOCK_RAW)", "replies") { number }
        let descriptor = Descriptor(number)
        try prepare(descriptor)
        if let source {
            try check(
                "bind", family == AF_INET ? "icmp.source4" : "icmp.source6",
                hint: "write an address of this host, or auto"
            ) { Sockets.withAddress(ip: source) { bind(number, $0, $1) } }
        }
        return descriptor
    }

    /// Sends an ICMP message; the kernel writes the IP header, and ICMPv6's checksum.
    /// - Parameter target: 4 or 16 bytes, network order.
    /// - Returns: bytes that the kernel took, or a negative errno.
    public func send(
        _ pieces: UnsafeMutablePointer<iovec>, _ count: Int, to target: UnsafeRawBufferPointer
    ) -> Int32 {
        guard let descriptor = target.count == 4 ? socket4 : socket6 else { return -EAFNOSUPPORT }
        let sent = Sockets.withAddress(ip: Array(target)) { address, length in
            var message = msghdr()
            message.msg_name = UnsafeMutableRawPointer(mutating: address)
            message.msg_namelen = length
            message.msg_iov = pieces
            message.msg_iovlen = count
            return sendmsg(descriptor.number, &message, Int32(MSG_DONTWAIT))
        }
        return sent < 0 ? -errno : Int32(truncatingIfNeeded: sent)
    }
}
