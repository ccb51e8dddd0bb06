// What the log is told of degradations: each once when it comes and once when it goes.

import CLinux
import Foundation
import HostPlan
import Testing

@testable import Daemon
@testable import LinuxIO

@Suite("Degradations")
struct DegradationTests {
    private func absent(_ name: String, _ text: String = "is absent") -> Finding {
        Finding(what: .interface, subject: name, text: "\(name) \(text)", severity: .blocking)
    }

    @Test("each is told once when it comes, once when it goes, and again when it says something else")
    func toldOnce() {
        var told = ToldFindings()
        let first = told.update([absent("eth0"), absent("eth1")])
        #expect(first.came == [absent("eth0"), absent("eth1")])
        #expect(first.went.isEmpty)
        let same = told.update([absent("eth1"), absent("eth0")])
        #expect(same.came.isEmpty && same.went.isEmpty)
        let changed = told.update([absent("eth0", "is down")])
        #expect(changed.came == [absent("eth0", "is down")])
        #expect(changed.went == ["interface eth1"])
        let last = told.update([])
        #expect(last.came.isEmpty)
        #expect(last.went == ["interface eth0"])
    }

    @Test("two of one subject are told as one, the first")
    func oneOfASubject() {
        var told = ToldFindings()
        let two = told.update([absent("eth0"), absent("eth0", "is down")])
        #expect(two.came == [absent("eth0")])
        #expect(told.update([absent("eth0"), absent("eth0", "is down")]).came.isEmpty)
    }

    @Test("only a kernel that takes no TCP segments falls short")
    func offloads() {
        for offloads: TunDevice.Offloads in [[.checksum, .tcp], [.checksum, .tcp, .udp]] {
            #expect(Finding.offload(offloads, refused: [], of: "shuck0", coalesces: false) == nil)
        }
        for offloads: TunDevice.Offloads in [[], [.checksum]] {
            let found = Finding.offload(offloads, refused: [], of: "shuck0", coalesces: false)
            #expect(found?.what == .offload && found?.subject == "shuck0")
            #expect(found?.severity == .degraded && found?.what.isFallback == true)
        }
    }

    /// What systemd could not be told is told again.
    @Test("without descriptors systemd hears nothing, and that is known")
    func noDescriptors() throws {
        var limit = rlimit()
        try #require(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
        var none = limit
        none.rlim_cur = 0
        setenv("NOTIFY_SOCKET", "@shuck-test-\(getpid())", 1)
        defer { unsetenv("NOTIFY_SOCKET") }
        try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none) == 0)
        let isTaken = ServiceNotifier.notify("READY=1")
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        #expect(!isTaken)
    }
}
