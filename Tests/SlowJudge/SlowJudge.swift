// The judge for tests: one frame or few at one time, also without the short way.

import Forwarding

extension Judge {
    /// - Parameter cache: without one every frame takes the long way.
    package static func judge(
        _ frames: UnsafeMutablePointer<Frame>, into verdicts: UnsafeMutablePointer<Verdict>,
        count: Int, tables: UnsafePointer<ForwardingView>, cache: OuterCache? = nil,
        reassembler: Reassembler? = nil, now: UInt64 = 0
    ) {
        var times = ArrivalTimes(first: frames, now: now)
        if let cache {
            return judge(
                frames, into: verdicts, count: count, tables: tables, cache: cache,
                reassembler: reassembler, times: &times)
        }
        if let reassembler, !reassembler.isEmpty { reassembler.expire(now: now) }
        reassembler?.recycle()
        for index in 0..<count {
            decide(frames + index, tables, reassembler, &times, into: verdicts + index)
        }
    }
}
