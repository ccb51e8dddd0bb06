// Whether the user, or a service manager, asked this process to end.

import Foundation
import LinuxIO

/// Turns the first SIGINT or SIGTERM into a fact to look at. The next one ends the process, as ever.
final class Interruption {
    private static let signals = [SIGINT, SIGTERM]
    private let queue: SignalQueue
    private var wasRaised = false

    /// A signal that this process was started to ignore, as by nohup(1) or a shell's `&`, stays ignored.
    init() throws(SystemError) { queue = try SignalQueue(Self.signals.filter { !Self.isIgnored($0) }) }

    /// Readable as soon as a signal came.
    var descriptor: Descriptor { queue.descriptor }

    var isRaised: Bool {
        if wasRaised { return true }
        guard Host.waitReadable([descriptor.number], milliseconds: 0)[0] else { return false }
        _ = queue.next()
        wasRaised = true
        end()
        return true
    }

    /// From here on a signal ends the process.
    func end() {
        var set = sigset_t()
        sigemptyset(&set)
        for number in Self.signals { sigaddset(&set, number) }
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        return sigaction(number, nil, &action) == 0
            && unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
                == unsafeBitCast(SIG_IGN, to: Int.self)
    }
}
