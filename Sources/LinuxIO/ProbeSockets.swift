// Sockets that send whole IP packets by the kernel's routes and hear what comes in; or the same on a node
// itself, where packets come in and answers go out.

import CLinux
import Glibc

public final class ProbeSockets {
    private let senders: RawSockets?
    private let receiver: Descriptor
    private let frames: LiveFrames?
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    /// - Parameters:
    ///   - sendsIPv4: whether packets with an IPv4 header are sent, and `sendsIPv6` likewise.
    ///   - filter: classic BPF over packets that begin with their IP header, which lets in what is heard.
    public init(sendsIPv4: Bool, sendsIPv6: Bool, filter: [UInt64]) throws(SystemError) {
        senders = try RawSockets(sendsIPv4: sendsIPv4, sendsIPv6: sendsIPv6)
        frames = nil
        receiver = try Self.listen(filter)
        try receiver.setOption(
            SOL_PACKET, PACKET_IGNORE_OUTGOING, Int32(1), "setsockopt(PACKET_IGNORE_OUTGOING)", "probes")
    }

    /// Packets come in as frames of an interface, and those are heard that leave this host.
    public init(through frames: LiveFrames, filter: [UInt64]) throws(SystemError) {
        senders = nil
        self.frames = frames
        receiver = try Self.listen(filter)
    }

    private static func listen(_ filter: [UInt64]) throws(SystemError) -> Descriptor {
        // Before the filter is there, nothing: protocol 0.
        let receiver = Descriptor(
            try check("socket(AF_PACKET)", "probes", grant: RawSockets.grant) {
                Sockets.open(AF_PACKET, .datagram, isNonBlocking: true)
            })
        try SocketFilter.attach(filter, to: receiver, "probes")
        var address = sockaddr_ll()
        address.sll_family = sa_family_t(AF_PACKET)
        // All protocols: others are heard only behind programs at ingress, which may drop.
        address.sll_protocol = UInt16(ETH_P_ALL).bigEndian
        try check("bind", "probes") { Sockets.withAddress(address) { bind(receiver.number, $0, $1) } }
        return receiver
    }

    /// Sends a packet to the destination of its header.
    /// - Parameter destination: 4 or 16 bytes, network order.
    /// - Returns: 0, or an errno.
    public func send(_ packet: [UInt8], to destination: [UInt8]) -> Int32 {
        if let frames { return frames.receive(packet, isIPv4: destination.count == 4) }
        return senders?.send(packet, to: destination) ?? EAFNOSUPPORT
    }

    /// Calls `body` with each packet that has come, from its IP header on. Never waits.
    public func receive(_ body: (UnsafeRawBufferPointer) -> Void) {
        while true {
            var address = sockaddr_ll()
            let count = receive(from: &address)
            if count < 0 && errno == EINTR { continue }
            // An interface that goes down is told once, as an error of the socket.
            if count < 0 && errno == ENETDOWN { continue }
            guard count > 0 else { return }
            if frames != nil && address.sll_pkttype != UInt8(PACKET_OUTGOING) { continue }
            buffer.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
    }

    private func receive(from address: inout sockaddr_ll) -> Int {
        var length = socklen_t(MemoryLayout<sockaddr_ll>.size)
        return withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(receiver.number, &buffer, buffer.count, 0, $0, &length)
            }
        }
    }

    /// Waits for packets until a time of CLOCK_MONOTONIC, in nanoseconds, or until `other` is readable.
    public func wait(until time: UInt64, or other: Descriptor) {
        let now = Host.monotonicNanoseconds()
        guard time > now else { return }
        // Rounded up: poll(2) would be asked in a spin.
        let milliseconds = Int32(clamping: (time - now + 999_999) / 1_000_000)
        _ = Host.waitReadable([receiver.number, other.number], milliseconds: milliseconds)
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
