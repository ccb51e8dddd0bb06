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
        _ frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>, _ packet: Bytes
    ) -> Verdict {
        let policy = tables.pointee.policy
        let source = packet.ipv6.source
        guard policy.addresses.lookup(ipv6: source) & AddressClass.rewritten != 0,
            frame.pointee.length == frame.pointee.wireLength
        else { return .pass }
        let inner = InnerHeader.parseIPv6(packet)
        guard inner.failure == .none, inner.transportOffset == IPv6Header.byteCount, inner.ttl != 0,
            policy.addresses.lookup(ipv6: packet.ipv6.destination)
                & (AddressClass.martian | AddressClass.linkLocal) == 0,
            let rewrite = SourceRewrite.find(source, packet, inner, frame.pointee.interface, policy)
        else { return .pass }
        var tunnel = 0
        while tunnel < policy.tunnelCount {
            let record = policy.tunnels[tunnel]
            if record.takes(interface: frame.pointee.interface),
                let rule = DestinationCheck.find(packet, inner, .native, tables, record).rule
            {
                return verdict(frame, packet, inner, rewrite, rule, tunnel)
            }
            tunnel &+= 1
        }
        return .pass
    }

    private static func verdict(
        _ frame: UnsafePointer<Frame>, _ packet: Bytes, _ inner: InnerHeader,
        _ rewrite: SourceRewrite,
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
            rewrite.apply(&verdict, frame, packet, inner)
        }
        return verdict
    }
}
