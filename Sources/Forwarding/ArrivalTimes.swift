// When frames came.

/// When each frame of a batch came.
package struct ArrivalTimes {
    let first: UnsafePointer<Frame>
    let now: UInt64
    /// nil: all of them `now`.
    let each: UnsafePointer<UInt64>?

    package init(first: UnsafePointer<Frame>, now: UInt64, each: UnsafePointer<UInt64>? = nil) {
        self.first = first
        self.now = now
        self.each = each
    }

    @inline(__always)
    func of(_ frame: UnsafePointer<Frame>) -> UInt64 { each.map { $0[frame - first] } ?? now }
}
