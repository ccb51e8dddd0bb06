// A worker's mailbox as the control thread sees it, and how long what failed is left alone.

import Forwarding
import HostPlan
import LinuxIO
import Testing

@testable import Daemon

@Suite struct MailboxTests {
    /// What waits is measured from when nothing waited before; a look at it ends that.
    @Test func aLookIsASignOfLife() throws {
        let mailbox = try Mailbox()
        #expect(mailbox.isEmpty && mailbox.silence == 0)
        mailbox.askForLife()
        #expect(!mailbox.isEmpty)
        let first = mailbox.silence
        Host.pause(milliseconds: 2)
        mailbox.askForLife()
        #expect(mailbox.silence >= first + 2_000_000)
        #expect(mailbox.take() == nil)
        #expect(mailbox.isEmpty && mailbox.silence == 0)
        #expect(mailbox.take() == nil)
    }

    @Test func whatFailsIsLeftAloneEverLongerButNeverForLong() {
        #expect((1...4).map { Backoff.nanoseconds(failures: $0) / 1_000_000 } == [100, 200, 400, 800])
        for failures in [8, 9, 70, Int.max] {
            #expect(Backoff.nanoseconds(failures: failures) == 10_000_000_000)
        }
        #expect(Backoff.nanoseconds(failures: 0) == 100_000_000)
    }
}
