// Opens sockets, and hands their addresses to system calls.

import CLinux
import Glibc

public enum Sockets {
    public enum Kind { case stream, datagram, raw, packets }

    /// socket(2), closed on exec.
    /// - Returns: the descriptor, or -1 with errno.
    public static func open(
        _ family: Int32, _ kind: Kind, _ protocolNumber: Int32 = 0, isNonBlocking: Bool = false
    ) -> Int32 {
        let type =
            switch kind {
            case .stream: SOCK_STREAM
            case .datagram: SOCK_DGRAM
            case .raw: SOCK_RAW
            case .packets: SOCK_SEQPACKET
            }
        let flags = SOCK_CLOEXEC.rawValue | (isNonBlocking ? SOCK_NONBLOCK.rawValue : 0)
        return socket(family, Int32(type.rawValue | flags), protocolNumber)
    }

    /// - Parameter address: a structure of the kernel's that begins as `sockaddr`.
    /// - Parameter byteCount: how much of it counts; nil: all.
    static func withAddress<T, R>(
        _ address: T, byteCount: Int? = nil, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(byteCount ?? MemoryLayout<T>.size))
            }
        }
    }

    /// - Parameter bytes: an IP address, 4 or 16 bytes, network order.
    static func withAddress<R>(
        ip bytes: [UInt8], port: UInt16 = 0, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        let isIPv4 = bytes.count == 4
        var address = sockaddr_storage()
        address.ss_family = sa_family_t(isIPv4 ? AF_INET : AF_INET6)
        withUnsafeMutableBytes(of: &address) { memory in
            // sin_addr stands behind family and port, sin6_addr also behind the flow label.
            UnsafeMutableRawBufferPointer(rebasing: memory[(isIPv4 ? 4 : 8)...]).copyBytes(from: bytes)
            memory.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
        }
        let size = isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
        return withAddress(address, byteCount: size, body)
    }
}
