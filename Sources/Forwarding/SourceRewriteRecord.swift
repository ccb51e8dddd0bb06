// A rule of `inner.rewriteSources`.

import IP

/// One rule as both ways read it.
struct SourceRewriteRecord: BitwiseCopyable {
    var from: Address
    var to: Address
    /// Index into the policy's interfaces.
    var interface: UInt16
    /// What the sum over an address grows by when `from` becomes `to`, and the other way round.
    var difference: UInt16
    var differenceBack: UInt16

    init(_ rewrite: Policy.SourceRewrite) {
        from = rewrite.from
        to = rewrite.to
        interface = UInt16(rewrite.interface)
        difference = Checksum.difference(from: from, to: to)
        differenceBack = Checksum.difference(from: to, to: from)
    }
}
