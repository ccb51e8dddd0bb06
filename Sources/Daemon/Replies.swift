// The ICMP errors that shuck itself sends: sockets, and one rate that all workers share.

import Forwarding
import LinuxIO
import Settings
import Synchronization

final class Replies: Sendable {
    let settings: Configuration.ICMP
    private let sockets: ReplySockets
    /// nil: none may be sent.
    private let rate: ReplyRate?
    private let stamp = Atomic<UInt64>(0)

    init(_ settings: Configuration.ICMP) throws(SystemError) {
        self.settings = settings
        sockets = try ReplySockets(
            source4: settings.source4?.bytes, source6: settings.source6?.bytes)
        rate = ReplyRate(settings)
    }

    /// Sends the error for a frame that was judged `reply`, if there is a token for it.
    /// - Parameter message: `ReplyMessage.capacity` writable bytes.
    func send(
        _ frame: Frame, _ verdict: Verdict, mtu: Int, now: UInt64,
        message: UnsafeMutableRawPointer
    ) -> Bool {
        guard let rate else { return false }
        var old = stamp.load(ordering: .relaxed)
        while true {
            guard let new = rate.take(old, now: now) else { return false }
            let (taken, found) = stamp.weakCompareExchange(
                expected: old, desired: new, ordering: .relaxed)
            if taken { break }
            old = found
        }
        let count = ReplyMessage.write(to: message, frame, verdict, mtu: mtu)
        let isIPv4 = verdict.mode.innerIsIPv4
        let source = frame.network + Int(verdict.offset) + (isIPv4 ? 12 : 8)
        let target = UnsafeRawBufferPointer(start: source, count: isIPv4 ? 4 : 16)
        return sockets.send(message, count, to: Array(target))
    }
}
