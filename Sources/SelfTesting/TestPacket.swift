// InnerPacket and OuterHeader, which build what the balancer sends.

import Forwarding
import IP

/// A packet of a client. Two with the same fields have the same bytes.
public struct InnerPacket: Hashable, Sendable {
    public enum Body: Hashable, Sendable {
        /// A UDP datagram with so many bytes of data, at least 4.
        case datagram(bytes: Int)
        /// A TCP SYN with an MSS option.
        case syn(mss: Int)
        /// 8 bytes of something else.
        case upper(protocolNumber: UInt8)
    }

    public var source: Address
    public var destination: Address
    public var port: UInt16 = Self.testPort
    public var hops: UInt8 = 64
    /// The ECN field (RFC 3168 §5).
    public var ecn: UInt8 = 0
    public var body = Body.datagram(bytes: 32)
    /// Tells packets of a test apart.
    public var number: UInt32 = 0
    /// Whether the IPv4 header's is right.
    public var isChecksumRight = true

    public static let testPort: UInt16 = 9
    private static let clientPort: UInt16 = 40_000

    public init(from source: Address, to destination: Address) {
        self.source = source
        self.destination = destination
    }

    private var protocolNumber: UInt8 {
        switch body {
        case .datagram: ProtocolNumber.udp
        case .syn: ProtocolNumber.tcp
        case .upper(let number): number
        }
    }

    /// The packet behind the node's kernel, which forwards it.
    public var forwarded: InnerPacket {
        var packet = self
        packet.hops -= 1
        return packet
    }

    public var bytes: [UInt8] {
        let start = destination.isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        let length =
            switch body {
            case .datagram(let bytes): UDPHeader.byteCount + max(bytes, 4)
            case .syn: TCPHeader.byteCount + 4
            case .upper: 8
            }
        var packet = [UInt8](repeating: 0, count: start + length)
        packet.withUnsafeMutableBytes { memory in
            // It holds a header.
            guard let base = memory.baseAddress else { return }
            fillHeader(base, length: start + length)
            fillBody(base + start, Bytes(base, count: start + length), length: length)
            guard destination.isIPv4, !isChecksumRight else { return }
            let sum = Bytes(base, count: start).ipv4.headerChecksum
            IPv4Writer(base).set(headerChecksum: sum ^ 1)
        }
        return packet
    }

    private func fillHeader(_ base: UnsafeMutableRawPointer, length: Int) {
        if destination.isIPv4 {
            IPv4Writer(base).fill(
                typeOfService: ecn, totalLength: length, identification: UInt16(truncatingIfNeeded: number),
                fragment: IPv4Header.dontFragment, timeToLive: hops, protocolNumber: protocolNumber,
                source: source.ipv4, destination: destination.ipv4)
        } else {
            IPv6Writer(base).fill(
                trafficClass: ecn, payloadLength: length - IPv6Header.byteCount, nextHeader: protocolNumber,
                hopLimit: hops, source: source, destination: destination)
        }
    }

    private func fillBody(_ body: UnsafeMutableRawPointer, _ packet: Bytes, length: Int) {
        body.storeBigEndian(UInt32(Self.clientPort) << 16 | UInt32(port), at: 0)
        body.storeBigEndian(number, at: 4)
        let sum = packet.pseudoHeaderSum(isIPv4: destination.isIPv4, length: length)
        switch self.body {
        case .datagram:
            body.storeBigEndian(UInt32(length) << 16, at: UDPHeader.Offset.length)
            body.storeBigEndian(number, at: UDPHeader.byteCount)
            body.setChecksum(at: UDPHeader.Offset.checksum, over: length, adding: sum)
        case .syn(let mss):
            // Data offset of 6 words, flags and window.
            body.storeBigEndian(6 << 28 | UInt32(TCPHeader.syn) << 16 | 0xfaf0, at: 12)
            body.storeBigEndian(
                UInt32(TCPHeader.maximumSegmentSize) << 24 | 4 << 16 | UInt32(mss), at: TCPHeader.byteCount)
            body.setChecksum(at: TCPHeader.Offset.checksum, over: length, adding: sum)
        case .upper: break
        }
    }

    /// The number of a packet that was built here; nil: another's.
    static func number(of packet: [UInt8]) -> UInt32? {
        packet.withUnsafeBytes { memory in
            guard let base = memory.baseAddress, memory.count >= IPv4Header.byteCount else { return nil }
            let bytes = Bytes(base, count: memory.count)
            let isIPv4 = bytes.ipv4.version == 4
            let start = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
            guard memory.count >= start + 12 else { return nil }
            let isDatagram =
                (isIPv4 ? bytes.ipv4.protocolNumber : bytes.ipv6.nextHeader) == ProtocolNumber.udp
            guard bytes.ports(at: start).source == clientPort else { return nil }
            return bytes.u32(start + (isDatagram ? UDPHeader.byteCount : TCPHeader.Offset.sequenceNumber))
        }
    }
}

/// The header that the balancer puts in front.
public struct OuterHeader: Hashable, Sendable {
    public var source: Address
    /// Of the source's family.
    public var destination: Address
    public var ecn: UInt8 = 0

    public init(from source: Address, to destination: Address) {
        self.source = source
        self.destination = destination
    }

    /// One packet.
    public func wrap(_ inner: [UInt8]) -> [UInt8] {
        header(payload: inner.count, next: Self.protocolNumber(of: inner)) + inner
    }

    /// One packet in fragments.
    /// - Parameter cuts: which bytes of the inner packet are in which fragment, each from a multiple of 8.
    public func wrap(_ inner: [UInt8], in cuts: [Range<Int>], identification: UInt16) -> [[UInt8]] {
        let next = Self.protocolNumber(of: inner)
        return cuts.map { cut in
            let isLast = cut.upperBound == inner.count
            let piece = Array(inner[cut])
            if destination.isIPv4 {
                let flags = isLast ? 0 : IPv4Header.moreFragments
                return header(
                    payload: piece.count, next: next, identification: identification,
                    fragment: flags | UInt16(cut.lowerBound / 8)) + piece
            }
            // RFC 8200 §4.5: next header, reserved, offset and M flag, identification.
            let word = UInt16(cut.lowerBound) | (isLast ? 0 : 1)
            let fragment: [UInt8] =
                [next, 0, UInt8(word >> 8), UInt8(truncatingIfNeeded: word), 0, 0]
                + [UInt8(identification >> 8), UInt8(truncatingIfNeeded: identification)]
            return header(payload: fragment.count + piece.count, next: ProtocolNumber.fragment) + fragment
                + piece
        }
    }

    private static func protocolNumber(of inner: [UInt8]) -> UInt8 {
        inner.first.map { $0 >> 4 } == 4 ? ProtocolNumber.ipv4 : ProtocolNumber.ipv6
    }

    private func header(
        payload: Int, next: UInt8, identification: UInt16 = 0, fragment: UInt16 = 0
    ) -> [UInt8] {
        let length = destination.isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        var header = [UInt8](repeating: 0, count: length)
        header.withUnsafeMutableBytes { memory in
            guard let base = memory.baseAddress else { return }
            if destination.isIPv4 {
                IPv4Writer(base).fill(
                    typeOfService: ecn, totalLength: length + payload, identification: identification,
                    fragment: fragment, protocolNumber: next, source: source.ipv4,
                    destination: destination.ipv4)
            } else {
                IPv6Writer(base).fill(
                    trafficClass: ecn, payloadLength: payload, nextHeader: next, source: source,
                    destination: destination)
            }
        }
        return header
    }
}

extension InnerPacket {
    /// A datagram of a client to the service of a mode, with nothing special.
    static func plain(_ mode: Mode, from source: [Address] = TestNetwork.client) -> InnerPacket {
        InnerPacket(
            from: TestNetwork.of(source, isIPv4: mode.innerIsIPv4), to: TestNetwork.service(mode))
    }
}

extension TestNetwork {
    /// From the balancer to the node, of a mode.
    public static func outerHeader(_ mode: Mode) -> OuterHeader {
        OuterHeader(
            from: of(balancer, isIPv4: mode.outerIsIPv4), to: of(node, isIPv4: mode.outerIsIPv4))
    }

    /// A packet of the client as the balancer sends it on: the ECN field is in both (RFC 6040 §4.1).
    /// - Returns: the packet and its outer destination; nil: it is for no service.
    public static func encapsulated(_ packet: [UInt8]) -> (packet: [UInt8], node: Address)? {
        packet.withUnsafeBytes { memory -> (packet: [UInt8], node: Address)? in
            guard let base = memory.baseAddress, memory.count >= IPv4Header.byteCount else { return nil }
            let bytes = Bytes(base, count: memory.count)
            let isIPv4 = bytes.ipv4.version == 4
            guard isIPv4 || memory.count >= IPv6Header.byteCount else { return nil }
            let service = isIPv4 ? Address(ipv4: bytes.ipv4.destination) : bytes.ipv6.destination
            guard let mode = mode(of: service) else { return nil }
            var header = outerHeader(mode)
            header.ecn = (isIPv4 ? bytes.ipv4.typeOfService : bytes.u8(1) >> 4) & 3
            return (header.wrap(packet), header.destination)
        }
    }
}
