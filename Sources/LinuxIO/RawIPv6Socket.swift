// A raw socket that sends whole IPv6 packets out of one interface; the kernel finds the neighbour.

import CLinux
import Glibc

public final class RawIPv6Socket: Sendable {
    private let interfaceIndex: Int32
    public let descriptor: Descriptor

    public init(interface: String, index: Int32) throws(SystemError) {
        interfaceIndex = index
        // IPPROTO_RAW: the IP header comes with the packet, and nothing is received.
        descriptor = Descriptor(
            try check("socket(SOCK_RAW)", interface, grant: "grant CAP_NET_RAW") {
                Sockets.open(AF_INET6, .raw, Int32(IPPROTO_RAW), isNonBlocking: true)
            })
        try descriptor.setOption(
            SOL_SOCKET, Int32(CLINUX_SO_BINDTOIFINDEX), index, "setsockopt(SO_BINDTOIFINDEX)", interface)
    }

    /// A socket that another process opened for the interface and handed over.
    public init(adopting descriptor: Descriptor, index: Int32) {
        interfaceIndex = index
        self.descriptor = descriptor
    }

    /// Sends a packet of at least 40 bytes to its own destination. Never waits.
    /// - Returns: whether the kernel took it.
    public func send(_ packet: UnsafeRawPointer, _ count: Int) -> Bool {
        var target = sockaddr_in6()
        target.sin6_family = sa_family_t(AF_INET6)
        // A link-local address says nothing without its link.
        target.sin6_scope_id = UInt32(interfaceIndex)
        withUnsafeMutableBytes(of: &target.sin6_addr) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: packet + 24, count: 16))
        }
        return Sockets.withAddress(target) {
            sendto(descriptor.number, packet, count, Int32(MSG_DONTWAIT), $0, $1)
        } == count
    }
}
