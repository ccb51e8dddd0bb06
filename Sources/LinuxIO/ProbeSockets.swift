// Sockets that send whole IP packets by the kernel's routes, and hear what comes in on any interface.

import CLinux
import Glibc

public final class ProbeSockets {
    private let sender4: Descriptor?
    private let sender6: Descriptor?
    private let receiver: Descriptor
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    /// - Parameters:
    ///   - sendsIPv4: whether packets with an IPv4 header are sent, and `sendsIPv6` likewise.
    ///   - filter: classic BPF over packets that begin with their IP header, which lets in what is heard.
    public init(sendsIPv4: Bool, sendsIPv6: Bool, filter: [UInt64]) throws(SystemError) {
        sender4 = sendsIPv4 ? try Self.open(AF_INET) : nil
        sender6 = sendsIPv6 ? try Self.open(AF_INET6) : nil
        // Before the filter is there, nothing: protocol 0.
        receiver = Descriptor(
            try check("socket(AF_PACKET)", "probes", grant: Self.grant) {
                Sockets.open(AF_PACKET, .datagram, isNonBlocking: true)
            })
        try receiver.setOption(
            SOL_PACKET, PACKET_IGNORE_OUTGOING, Int32(1), "setsockopt(PACKET_IGNORE_OUTGOING)", "probes")
        try SocketFilter.attach(filter, to: receiver, "probes")
        var address = sockaddr_ll()
        address.sll_family = sa_family_t(AF_PACKET)
        // All protocols: others are heard only behind programs at ingress, which may drop.
        address.sll_protocol = UInt16(ETH_P_ALL).bigEndian
        try check("bind", "probes") { Sockets.withAddress(address) { bind(receiver.number, $0, $1) } }
    }

    private static let grant =
        "grant CAP_NET_RAW: run as root, or setcap cap_net_raw+ep on the binary"

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

    /// Calls `body` with each packet that has come, from its IP header on. Never waits.
    public func receive(_ body: (UnsafeRawBufferPointer) -> Void) {
        while true {
            let count = recv(receiver.number, &buffer, buffer.count, 0)
            if count < 0 && errno == EINTR { continue }
            // An interface that goes down is told once, as an error of the socket.
            if count < 0 && errno == ENETDOWN { continue }
            guard count > 0 else { return }
            buffer.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
    }

    /// Waits for packets until a time of CLOCK_MONOTONIC, in nanoseconds.
    public func wait(until time: UInt64) {
        let now = Host.monotonicNanoseconds()
        guard time > now else { return }
        // Rounded up: poll(2) would be asked in a spin.
        let milliseconds = Int32(clamping: (time - now + 999_999) / 1_000_000)
        _ = Host.waitReadable([receiver.number], milliseconds: milliseconds)
    }
}

extension Host {
    /// Whether an IP address is one of this host's, in this network namespace.
    /// - Parameter address: 4 or 16 bytes, network order.
    public static func owns(_ address: [UInt8]) -> Bool {
        let number = Sockets.open(address.count == 4 ? AF_INET : AF_INET6, .datagram)
        guard number >= 0 else { return false }
        let descriptor = Descriptor(number)
        return Sockets.withAddress(ip: address) { bind(descriptor.number, $0, $1) } == 0
    }

    /// The MTU of the path to an address as the kernel knows it: its link's, unless an ICMP error told less.
    /// - Parameter address: 4 or 16 bytes, network order.
    /// - Returns: nil without a route.
    public static func pathMTU(to address: [UInt8]) -> Int? {
        let isIPv4 = address.count == 4
        let number = Sockets.open(isIPv4 ? AF_INET : AF_INET6, .datagram)
        guard number >= 0 else { return nil }
        let descriptor = Descriptor(number)
        // The port does not matter: nothing is sent.
        guard Sockets.withAddress(ip: address, { connect(descriptor.number, $0, $1) }) == 0 else {
            return nil
        }
        let (level, name) = isIPv4 ? (IPPROTO_IP, IP_MTU) : (IPPROTO_IPV6, IPV6_MTU)
        return descriptor.option(Int32(level), Int32(name), Int32(0)).map(Int.init)
    }
}
