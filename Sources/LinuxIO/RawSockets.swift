// Raw sockets that send whole IP packets by the kernel's routes.

import CLinux
import Glibc

/// Of the network namespace that its thread stood in when they were opened.
public final class RawSockets: Sendable {
    private let sender4: Descriptor?
    private let sender6: Descriptor?

    static let grant = "grant CAP_NET_RAW: run as root, or setcap cap_net_raw+ep on the binary"

    /// - Parameter sendsIPv4: whether packets with an IPv4 header are sent, and `sendsIPv6` likewise.
    public init(sendsIPv4: Bool, sendsIPv6: Bool) throws(SystemError) {
        sender4 = sendsIPv4 ? try Self.open(AF_INET) : nil
        sender6 = sendsIPv6 ? try Self.open(AF_INET6) : nil
    }

    /// IPPROTO_RAW: the IP header comes with the packet, with any source, and nothing is received.
    private static func open(_ family: Int32) throws(SystemError) -> Descriptor {
        Descriptor(
            try check("socket(SOCK_RAW)", "probes", grant: grant) {
                Sockets.open(family, .raw, Int32(IPPROTO_RAW), isNonBlocking: true)
            })
    }

    /// Sends a packet to the destination of its header.
    /// - Parameter destination: 4 or 16 bytes, network order.
    /// - Returns: 0, or an errno.
    public func send(_ packet: [UInt8], to destination: [UInt8]) -> Int32 {
        guard let sender = destination.count == 4 ? sender4 : sender6 else { return EAFNOSUPPORT }
        let sent = Sockets.withAddress(ip: destination) {
            sendto(sender.number, packet, packet.count, 0, $0, $1)
        }
        return sent < 0 ? errno : 0
    }
}
