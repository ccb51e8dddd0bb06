// A packet that its device cannot take: whether its sender is told, and the ICMP error that tells it.
// Only for devices in pods' namespaces; in the host's the kernel routes, refuses and answers itself.

import IP
import Synchronization

/// How many ICMP errors may be sent: a bucket of `burst` tokens that fills at a steady rate, as
/// one time stamp (the generic cell rate algorithm, ITU-T I.371), so that workers can share it.
public struct ReplyRate: Sendable, Equatable, BitwiseCopyable {
    /// Nanoseconds that one token takes.
    private let interval: UInt64
    /// How far ahead of the clock the stamp may run.
    private let tolerance: UInt64

    /// - Parameter perSecond: at least 1, as `burst`.
    public init(perSecond: Int, burst: Int) {
        interval = 1_000_000_000 / UInt64(perSecond)
        tolerance = interval * UInt64(burst - 1)
    }

    /// - Parameter stamp: what the last call returned, 0 before the first.
    /// - Parameter now: nanoseconds of a clock that does not go back.
    /// - Returns: the new stamp; nil when there is no token.
    @inlinable
    public func take(_ stamp: UInt64, now: UInt64) -> UInt64? {
        let start = max(stamp, now)
        return start &- now > allowed ? nil : start &+ step
    }

    @usableFromInline var allowed: UInt64 { tolerance }
    @usableFromInline var step: UInt64 { interval }
}

/// The tokens of a rate that workers share.
public struct ReplyTokens: @unchecked Sendable, BitwiseCopyable {
    private let rate: ReplyRate
    private let stamp: UnsafeMutablePointer<Atomic<UInt64>>

    /// To be deallocated when no worker takes of them any more.
    public init(_ rate: ReplyRate) {
        self.rate = rate
        stamp = .allocate(capacity: 1)
        stamp.initialize(to: Atomic(0))
    }

    public func deallocate() {
        stamp.deinitialize(count: 1)
        stamp.deallocate()
    }

    /// - Parameter now: nanoseconds of a clock that does not go back.
    /// - Returns: whether there was one.
    func take(now: UInt64) -> Bool {
        var old = stamp.pointee.load(ordering: .relaxed)
        while let new = rate.take(old, now: now) {
            let (isTaken, found) = stamp.pointee.weakCompareExchange(
                expected: old, desired: new, ordering: .relaxed)
            if isTaken { return true }
            old = found
        }
        return false
    }
}

enum TooBig {
    /// Bytes of the packet, or of the largest segment that the device would make of it.
    @inline(__always)
    static func size(_ packet: Bytes, _ inner: Inner, _ frame: UnsafePointer<Frame>) -> Int {
        let vnet = frame.pointee.vnet
        guard vnet.gsoType != VirtioHeader.gsoNone else { return inner.length }
        var headers = inner.transportOffset &+ UDPHeader.byteCount
        if inner.protocolNumber == ProtocolNumber.tcp, inner.transportLength >= TCPHeader.byteCount {
            headers = inner.transportOffset &+ packet.tcp(at: inner.transportOffset).dataOffset
        }
        return min(headers &+ Int(vnet.gsoSize), inner.length)
    }

    /// Whether the sender may be told (RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e)): never about an
    /// error, a later fragment, or from and to what is no single host's address.
    /// Nor about what is shorter than the shortest answer, nor with an MTU below IPv6's 1280,
    /// which its receiver must ignore (RFC 8201 §4).
    static func isAnswered(
        _ packet: Bytes, _ inner: Inner, _ mode: Mode, _ frame: UnsafePointer<Frame>, mtu: Int
    ) -> Bool {
        let own =
            mode.innerIsIPv4
            ? IPv4Header.byteCount &+ packet.ipv4.headerLength : 2 &* IPv6Header.byteCount
        if inner.isLaterFragment || frame.pointee.length < own &+ 16 { return false }
        if mode.innerIsIPv4 {
            // Without don't-fragment the packet should have been cut; shuck does not.
            guard packet.ipv4.fragment & IPv4Header.dontFragment != 0 else { return false }
            let source = packet.ipv4.source
            let isHost = source >> 24 != 0 && source >> 24 != 127 && source >> 28 < 14
            return isHost && packet.ipv4.destination >> 28 < 14 && !isErrorIPv4(packet, inner)
        }
        if mtu < 1280 { return false }
        let (source, destination) = (packet.ipv6.source, packet.ipv6.destination)
        let isHost = source.high >> 56 != 0xff && (source.high != 0 || source.low > 1)
        return isHost && destination.high >> 56 != 0xff && !isErrorIPv6(packet, inner)
    }

    private static func isErrorIPv4(_ packet: Bytes, _ inner: Inner) -> Bool {
        guard inner.protocolNumber == ProtocolNumber.icmp else { return false }
        guard inner.transportLength > 0 else { return true }
        // As net/ipv4/icmp.c `icmp_pointers`: what is not known to be a query is an error.
        return !queriesIPv4.contains(packet.icmp(at: inner.transportOffset).type)
    }

    /// Echo, router discovery, timestamp, information and address mask, with their replies.
    private static let queriesIPv4: ClosedSet = [0, 8, 9, 10, 13, 14, 15, 16, 17, 18]

    private static func isErrorIPv6(_ packet: Bytes, _ inner: Inner) -> Bool {
        guard inner.protocolNumber == ProtocolNumber.icmpv6 else { return false }
        guard inner.transportLength > 0 else { return true }
        let type = packet.icmp(at: inner.transportOffset).type
        // Redirect (137) is named beside the errors.
        return type < 128 || type == 137
    }

    /// A few small numbers, as bits.
    private struct ClosedSet: ExpressibleByArrayLiteral {
        let bits: UInt32
        init(arrayLiteral numbers: UInt32...) { bits = numbers.reduce(0) { $0 | 1 << $1 } }
        func contains(_ number: UInt8) -> Bool { number < 32 && bits >> UInt32(number) & 1 != 0 }
    }
}

/// The ICMP error for a frame that was judged `reply`: a header, and the start of the inner packet.
public enum ReplyMessage {
    /// Of the message.
    public static let headerBytes = ICMPHeader.byteCount
    /// Of IP header and message header together, at most.
    public static let headersMax = IPv6Header.byteCount + ICMPHeader.byteCount

    /// Writes the header of the ICMP message that is due to the inner source.
    ///
    /// IPv4: destination unreachable, fragmentation needed (RFC 1191 §4), with its checksum; in
    /// all at most 576 bytes with the IP header (RFC 1812 §4.3.2.3). IPv6: packet too big (RFC
    /// 4443 §3.2), at most 1280 bytes; its checksum is 0, for whoever adds the addresses. Never
    /// longer than the frame that it answers: else it quotes only the header and 8 bytes.
    /// - Returns: how many bytes of the inner packet follow.
    package static func write(
        to message: UnsafeMutableRawPointer, _ frame: Frame, _ verdict: Verdict, mtu: Int
    ) -> Int {
        let isIPv4 = verdict.mode.innerIsIPv4
        let header = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        let packet = Bytes(
            frame.network + Int(verdict.offset), count: Int(verdict.length))
        var quoted = min(packet.count, (isIPv4 ? 576 : 1280) - header - headerBytes)
        if header + headerBytes + quoted > frame.length {
            let own = isIPv4 ? packet.ipv4.headerLength : IPv6Header.byteCount
            quoted = min(packet.count, own + 8)
        }
        // Destination unreachable, fragmentation needed; or packet too big.
        message.fillICMP(type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0, mtu: UInt16(clamping: mtu))
        if isIPv4 {
            message.setChecksum(
                at: ICMPHeader.Offset.checksum, over: headerBytes,
                adding: packet.dropFirst(0, count: quoted).wideSum(from: 0))
        }
        return quoted
    }

    /// The message's header behind an IP header, as a router would send it: TTL 64, no fragment.
    /// - Parameters:
    ///   - headers: `headersMax` writable bytes.
    ///   - message: what `write` wrote.
    ///   - quoted: what follows it.
    ///   - source: an address of the inner packet's family, as `target`.
    /// - Returns: bytes written.
    public static func writePacket(
        to headers: UnsafeMutableRawPointer, _ message: UnsafeRawPointer,
        quoted: UnsafeRawBufferPointer, source: Address, target: UnsafeRawBufferPointer
    ) -> Int {
        guard let destination = Address(bytes: target), let rest = quoted.baseAddress else { return 0 }
        let isIPv4 = target.count == 4
        let header = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        let length = headerBytes + quoted.count
        (headers + header).copyMemory(from: message, byteCount: headerBytes)
        if isIPv4 {
            // Internetwork control (RFC 1812 §4.3.2.5).
            IPv4Writer(headers).fill(
                typeOfService: 0xc0, totalLength: header + length, protocolNumber: ProtocolNumber.icmp,
                source: source.ipv4, destination: destination.ipv4)
        } else {
            IPv6Writer(headers).fill(
                trafficClass: 0, payloadLength: length, nextHeader: ProtocolNumber.icmpv6,
                source: source, destination: destination)
            let pseudo = Bytes(headers, count: headersMax).pseudoHeaderSum(isIPv4: false, length: length)
            (headers + header).setChecksum(
                at: ICMPHeader.Offset.checksum, over: headerBytes,
                adding: Bytes(rest, count: quoted.count).wideSum(from: 0, adding: pseudo))
        }
        return header + headerBytes
    }
}
