// A captured frame or packet, as a worker describes it.

import Forwarding

/// One frame or one packet that was injected. As it lies in the ring: its bytes follow, padded to 8.
struct CaptureRecord: BitwiseCopyable {
    /// Of record and bytes together; 0: the ring goes on at its start.
    var size: UInt32 = 0
    /// Which capture it is for.
    var session: UInt32 = 0
    var isInjected = false
    var kind: UInt8 = 0
    var reason: UInt8 = 0
    var mode: UInt8 = 0
    var tunnel = Verdict.noIndex
    var device: UInt16 = 0
    var interface: UInt16 = 0
    /// Frames that an injected packet was joined from.
    var joined: UInt16 = 0
    var captured: UInt32 = 0
    var wire: UInt32 = 0
    /// When the kernel took the frame, nanoseconds since 1970.
    var time: UInt64 = 0
    /// Of the worker's assignment.
    var generation: UInt64 = 0
}
