// What becomes of the two ECN bits when an outer header is stripped.

/// RFC 6040 §4.2, figure 4. Codepoints: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
enum ECN {
    /// Cell inner Not-ECT, outer CE: the sender could not learn of the congestion.
    static let notCapableCongested: UInt8 = 0b0011

    @inline(__always)
    static func decapsulated(_ mode: ECNMode, inner: UInt8, outer: UInt8) -> UInt8 {
        switch mode {
        case .pipe: return inner
        case .copy: return outer
        case .standard:
            // Only an ECN-capable inner packet takes a mark over: CE, or ECT(1) onto ECT(0).
            if inner == 0 { return 0 }
            if outer == 3 { return 3 }
            return inner == 2 && outer == 1 ? 1 : inner
        }
    }
}
