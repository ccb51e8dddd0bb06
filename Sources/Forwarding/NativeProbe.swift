// Health probes that are not encapsulated: a router must not forward their link-local source, so that
// they, too, are rewritten and injected. The claim program decides the same by `NativeClaim`.

import IP

enum NativeProbe {
    /// Of the upper layers whose checksum covers the source, which can be rewritten.
    static let protocols = [ProtocolNumber.tcp, ProtocolNumber.udp, ProtocolNumber.icmpv6]

    /// Called for IPv6 without a tunnel's protocol and without extension headers. `inject`, or
    /// `pass`: whatever is not exactly a probe is the kernel's. One that is, but is too big for its
    /// device or has offload fields that are no good, is dropped: it is claimed.
    static func verdict(
        _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>, _ packet: Bytes
    ) -> Verdict {
        let policy = world.pointee.policy
        let source = packet.ipv6.source
        guard policy.sources.lookup(ipv6: source) & SourceClass.rewritten != 0,
            frame.pointee.length == frame.pointee.wireLength
        else { return .pass }
        let inner = Inner.parseIPv6(packet)
        guard inner.failure == .none, inner.transportOffset == IPv6Header.byteCount, inner.ttl != 0,
            !Martians.isUnroutable(packet.ipv6.destination),
            let found = SourceRewrite.find(
                source, packet, inner, frame.pointee.interface, policy)
        else { return .pass }
        var tunnel = 0
        while tunnel < policy.tunnelCount {
            let record = policy.tunnels[tunnel]
            if record.takes(interface: frame.pointee.interface),
                let rule = DestinationCheck.find(packet, inner, .native, world, record).rule
            {
                return verdict(frame, packet, inner, found, rule, tunnel)
            }
            tunnel &+= 1
        }
        return .pass
    }

    private static func verdict(
        _ frame: UnsafePointer<Frame>, _ packet: Bytes, _ inner: Inner,
        _ found: (rule: UnsafePointer<SourceRewriteRecord>, checksum: Int),
        _ rule: UnsafePointer<DestinationRule>, _ tunnel: Int
    ) -> Verdict {
        var verdict = Verdict(
            kind: .inject, mode: .native, tunnel: UInt16(truncatingIfNeeded: tunnel))
        verdict.device = rule.pointee.device
        verdict.destination = rule.pointee.index
        verdict.length = UInt32(truncatingIfNeeded: inner.length)
        let isTooBig =
            inner.length > Int(rule.pointee.mtu)
            && TooBig.size(packet, inner, frame) > Int(rule.pointee.mtu)
        let refusal =
            isTooBig
            ? .packetTooBig
            : Offload.rebase(
                &verdict.vnet, frame, packet, strip: frame.pointee.linkLength, inner, .native)
        if refusal != .none {
            verdict.kind = .drop
            verdict.reason = refusal
        } else {
            SourceRewrite.apply(&verdict, frame, packet, inner, found)
        }
        return verdict
    }
}
