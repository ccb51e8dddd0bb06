// Sockets of TCP, UDP and ICMP echo that never wait, for a self-test's client and pod.

import CLinux
import Glibc
import IP

/// A socket of the network namespace that its thread stood in when it was opened.
public final class IPSocket {
    public enum Kind: Sendable {
        case stream, datagram
        /// ICMP echo; the kernel fills in identifier and checksum. Needs `net.ipv4.ping_group_range`.
        case echo
    }

    public let descriptor: Descriptor
    private let isIPv4: Bool

    public init(_ kind: Kind, isIPv4: Bool) throws(SystemError) {
        self.isIPv4 = isIPv4
        let echo = Int32(isIPv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)
        let number = try check("socket", "\(kind)") {
            Sockets.open(
                isIPv4 ? AF_INET : AF_INET6, kind == .stream ? .stream : .datagram, kind == .echo ? echo : 0,
                isNonBlocking: true)
        }
        descriptor = Descriptor(number)
        // Connections of the test before may wait for their end.
        try descriptor.setOption(SOL_SOCKET, SO_REUSEADDR, Int32(1), "setsockopt(SO_REUSEADDR)", "a socket")
    }

    private init(accepted number: Int32, isIPv4: Bool) {
        descriptor = Descriptor(number)
        self.isIPv4 = isIPv4
    }

    public func bind(to address: Address, port: UInt16) throws(SystemError) {
        try check("bind", "port \(port)") {
            Sockets.withAddress(ip: address.bytes, port: port) { Glibc.bind(descriptor.number, $0, $1) }
        }
    }

    public func listen() throws(SystemError) {
        try check("listen", "a port") { Glibc.listen(descriptor.number, 16) }
    }

    /// A connection that waits; nil: there is none.
    public func accept() -> IPSocket? {
        // Not inherited from the listener.
        let number = Glibc.accept(descriptor.number, nil, nil)
        guard number >= 0 else { return nil }
        _ = fcntl(number, F_SETFL, O_NONBLOCK)
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        return IPSocket(accepted: number, isIPv4: isIPv4)
    }

    /// Begins to connect.
    public func connect(to address: Address, port: UInt16 = 0) throws(SystemError) {
        let result = Sockets.withAddress(ip: address.bytes, port: port) {
            Glibc.connect(descriptor.number, $0, $1)
        }
        guard result < 0, errno != EINPROGRESS else { return }
        throw SystemError("connect", "port \(port)", errno: errno)
    }

    /// - Returns: bytes that the kernel took, or -errno.
    public func send(_ bytes: some Collection<UInt8>) -> Int {
        let count = Array(bytes).withUnsafeBytes {
            Glibc.send(descriptor.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        return count < 0 ? -Int(errno) : count
    }

    /// What has come, at most 64 KiB: of a datagram all.
    /// - Returns: nil: nothing yet, or an error, which is over with that.
    public func receive() -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor.number, &bytes, bytes.count, 0)
        return count < 0 ? nil : Array(bytes[..<count])
    }

    /// Sends all datagrams that have come back to their senders.
    public func echo() {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        while true {
            var sender = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &sender) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(descriptor.number, &bytes, bytes.count, 0, $0, &length)
                }
            }
            guard count >= 0 else { return }
            _ = Sockets.withAddress(sender, byteCount: Int(length)) {
                sendto(descriptor.number, bytes, count, Int32(MSG_NOSIGNAL), $0, $1)
            }
        }
    }

    /// Sends no fragments, and follows what ICMP errors say of the path.
    public func forbidFragments() throws(SystemError) {
        // IP_MTU_DISCOVER and IPV6_MTU_DISCOVER of linux/in.h and linux/in6.h: IP_PMTUDISC_DO.
        try descriptor.setOption(
            Int32(isIPv4 ? IPPROTO_IP : IPPROTO_IPV6), isIPv4 ? 10 : 23, Int32(2),
            "setsockopt(IP_MTU_DISCOVER)", "a socket")
    }

    /// The MTU of the path, as the kernel knows it by now; nil: not connected.
    public var pathMTU: Int? {
        let (level, name) = isIPv4 ? (IPPROTO_IP, IP_MTU) : (IPPROTO_IPV6, IPV6_MTU)
        return descriptor.option(Int32(level), Int32(name), Int32(0)).map(Int.init)
    }
}
