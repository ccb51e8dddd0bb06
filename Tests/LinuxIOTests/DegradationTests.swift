// What the log is told of degradations: each once when it comes and once when it goes.

import HostPlan
import Testing

@testable import Daemon

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
}
