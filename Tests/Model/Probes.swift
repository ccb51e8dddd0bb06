// Health probes whose source is rewritten, in a tunnel and without one, the slow way.

import Forwarding

extension Model {
    /// The rule for a packet of this source, where its kind of packet is rewritten at all.
    func rewriteRule(_ inner: InnerPacket, _ interface: Int) -> Policy.SourceRewrite? {
        guard !inner.isIPv4, Probes.isRewritable(inner) else { return nil }
        return policy.rewrites.first {
            $0.from.bytes == inner.source && $0.interface == interface
        }
    }

    /// C1: not encapsulated. Whatever is not exactly a probe is the kernel's.
    func answerNative(_ frame: Arrival) -> Answer {
        let inner = InnerPacket.ipv6(frame.bytes)
        guard frame.cut == 0, inner.reasons.isEmpty, inner.ttl > 0,
            [Upper.tcp, 17, Upper.icmpv6].contains(frame.bytes[6]),
            let rule = rewriteRule(inner, frame.interface),
            !Unroutable.linkLocal.holds(inner.destination),
            !Unroutable.martians.hold(inner.destination)
        else { return .pass }
        for (index, tunnel) in tunnels.enumerated()
        where tunnel.interfaces.contains(frame.interface) {
            guard let destination = destination(of: inner, tunnel, followsQuotes: false) else {
                continue
            }
            guard tooBig(frame, inner, .native, destination) == nil else {
                return Answer(refusal: .packetTooBig, tunnel: index, mode: .native)
            }
            guard let vnet = Offloading.rebased(frame, stripped: 0, inner) else {
                return Answer(refusal: .gsoInvalid, tunnel: index, mode: .native)
            }
            var answer = Answer(kind: .inject)
            answer.tunnel = index
            answer.mode = .native
            answer.device = destination.device
            answer.destination = destination.ordinal
            answer.vnet = vnet
            answer.bytes = inner.bytes
            Probes.rewrite(&answer, inner, rule)
            return answer
        }
        return .pass
    }
}

enum Probes {
    /// Where a checksum stands in the upper layer's header.
    private static let checksums: [UInt8: Int] = [Upper.tcp: 16, 17: 6, Upper.icmpv6: 2]

    static func isRewritable(_ inner: InnerPacket) -> Bool {
        guard let place = checksums[inner.protocolNumber] else { return false }
        if inner.isLaterFragment { return true }
        // 240 bytes of a packet can be rewritten.
        guard inner.transportLength >= place + 2, inner.transport + place + 2 <= 240 else {
            return false
        }
        // RFC 2710, RFC 3810, RFC 4861: one link's own affairs.
        return inner.protocolNumber != Upper.icmpv6
            || ![130, 131, 132, 133, 134, 135, 136, 137, 143].contains(
                inner.bytes[inner.transport])
    }

    /// The new source; where there is a checksum it holds as well or as badly as before.
    static func rewrite(_ answer: inout Answer, _ inner: InnerPacket, _ rule: Policy.SourceRewrite) {
        answer.bytes.replaceSubrange(8..<24, with: rule.to.bytes)
        guard !inner.isLaterFragment, let offset = checksums[inner.protocolNumber] else { return }
        let place = inner.transport + offset
        let field = Array(answer.bytes[place..<place + 2])
        let isUnfinished = answer.vnet.flags & 1 != 0
        if inner.protocolNumber == 17 && field == [0, 0] && !isUnfinished { return }
        // Taking away is adding the complement.
        let change = rule.from.bytes.map { ~$0 } + rule.to.bytes
        var value =
            isUnfinished
            ? onesComplementSum(field + change)
            : 0xffff - onesComplementSum(field.map { ~$0 } + change)
        if inner.protocolNumber == 17 && value == 0 && !isUnfinished { value = 0xffff }
        answer.bytes[place] = UInt8(value / 256)
        answer.bytes[place + 1] = UInt8(value % 256)
    }
}
