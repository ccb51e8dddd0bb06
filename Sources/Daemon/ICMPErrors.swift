// The ICMP errors that shuck itself sends: sockets, and one rate that all workers share.

import Forwarding
import LinuxIO
import Settings

final class ICMPErrors: @unchecked Sendable {
    // @unchecked: the tokens are atomic.

    let sockets: ICMPErrorSockets
    /// nil: none may be sent.
    let tokens: ICMPErrorTokens?

    init(_ settings: Configuration.ICMP) throws(SystemError) {
        sockets = try ICMPErrorSockets(
            source4: settings.source4?.bytes, source6: settings.source6?.bytes)
        tokens = ICMPErrorTokens(settings)
    }

    /// Sockets that another process opened and handed over.
    init(_ settings: Configuration.ICMP, adopting sockets: ICMPErrorSockets) {
        self.sockets = sockets
        tokens = ICMPErrorTokens(settings)
    }

    deinit { tokens?.deallocate() }
}
