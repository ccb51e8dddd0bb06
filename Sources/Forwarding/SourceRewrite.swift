// Health probes from a link-local address: their source becomes one that a router may forward, and
// the answers' destination becomes what it was. Stateless, one address for one.

import IP

/// The rule for a packet.
struct SourceRewrite {
    let rule: UnsafePointer<SourceRewriteRecord>
    /// Where the packet's checksum stands; 0: it has none.
    let checksum: Int

    /// Multicast listener and neighbour discovery: of one link only. A router that forwarded them
    /// elsewhere, or rewrote them, would take the link's routes away.
    @inline(__always)
    static func isOfLink(type: UInt8) -> Bool { 130...137 ~= type || type == 143 }

    /// For a packet with this source that came in by this interface; nil when it must not be rewritten.
    static func find(
        _ source: Address, _ packet: Bytes, _ inner: InnerHeader, _ interface: UInt16,
        _ policy: PolicyView
    ) -> SourceRewrite? {
        var rule = policy.rewrites
        let end = rule + policy.rewriteCount
        while rule < end {
            if rule.pointee.from == source, rule.pointee.interface == interface {
                guard let checksum = checksumField(packet, inner),
                    checksum &+ 2 <= Limits.headBytes
                else { return nil }
                return SourceRewrite(rule: rule, checksum: checksum)
            }
            rule += 1
        }
        return nil
    }

    /// Where the upper layer's checksum stands; 0 in a later fragment, which has none; nil when
    /// the addresses of such a packet must stay, or it is too short to have a checksum.
    @inline(__always)
    static func checksumField(_ packet: Bytes, _ inner: InnerHeader) -> Int? {
        let offset: Int
        switch inner.protocolNumber {
        case ProtocolNumber.tcp: offset = TCPHeader.Offset.checksum
        case ProtocolNumber.udp: offset = UDPHeader.Offset.checksum
        case ProtocolNumber.icmpv6: offset = ICMPHeader.Offset.checksum
        default: return nil
        }
        if inner.isLaterFragment { return 0 }
        guard inner.transportLength >= offset &+ 2 else { return nil }
        if inner.protocolNumber == ProtocolNumber.icmpv6,
            isOfLink(type: packet.icmp(at: inner.transportOffset).type)
        {
            return nil
        }
        return inner.transportOffset &+ offset
    }

    /// Writes the new source and the checksum that follows from it to the head, over what it may
    /// hold already.
    func apply(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>, _ packet: Bytes, _ inner: InnerHeader
    ) {
        verdict.openHead(frame, packet, max(checksum &+ 2, IPv6Header.Offset.destination))
        let head = frame.pointee.head
        IPv6Writer(head).set(source: rule.pointee.to)
        if checksum == 0 { return }
        Self.updateChecksum(
            head, at: checksum, by: rule.pointee.difference, inner.protocolNumber,
            isUnfinished: verdict.vnet.flags & VirtioHeader.needsChecksum != 0)
    }

    /// Writes the checksum that follows when the sum over the pseudo-header grew by `difference`.
    static func updateChecksum(
        _ packet: UnsafeMutableRawPointer, at offset: Int, by difference: UInt16,
        _ protocolNumber: UInt8, isUnfinished: Bool
    ) {
        let old = Bytes(packet, count: offset &+ 2).u16(offset)
        packet.storeBigEndian(
            Checksum.grown(
                old, by: difference, isPartial: isUnfinished,
                isUDP: protocolNumber == ProtocolNumber.udp), at: offset)
    }
}

/// The way back: what pods answer to the address that a probe's source was rewritten to.
public enum AnswerRewrite {
    /// Rewrites an IPv6 packet as the kernel routed it to a device, whole and with finished
    /// checksums: its destination becomes the address that the probe came from.
    /// - Returns: the rule's index among `Policy.rewrites`; nil when the packet is none of ours,
    ///   and then it was not touched.
    public static func apply(
        _ packet: UnsafeMutableRawPointer, count: Int, tables: UnsafePointer<ForwardingView>
    ) -> Int? {
        let bytes = Bytes(UnsafeRawPointer(packet), count: count)
        guard count >= IPv6Header.byteCount, bytes.ipv6.version == 6 else { return nil }
        let destination = bytes.ipv6.destination
        let policy = tables.pointee.policy
        var index = 0
        while index < policy.rewriteCount {
            let rule = policy.rewrites + index
            if rule.pointee.to == destination {
                let inner = InnerHeader.parseIPv6(bytes)
                guard inner.failure == .none, inner.length == count,
                    let checksum = SourceRewrite.checksumField(bytes, inner)
                else { return nil }
                IPv6Writer(packet).set(destination: rule.pointee.from)
                if checksum != 0 {
                    SourceRewrite.updateChecksum(
                        packet, at: checksum, by: rule.pointee.differenceBack,
                        inner.protocolNumber, isUnfinished: false)
                }
                return index
            }
            index &+= 1
        }
        return nil
    }
}
