// Packet tests of the self-test as values: what is built, and how what came is judged.

import Forwarding
import IP
import Testing

@testable import SelfTesting

@Suite struct PacketTestTests {
    private static let tests = PacketTest.all(Mode.allCases)

    /// What arrives where everything is as it must be.
    private func arrived(_ test: PacketTest) -> [[UInt8]] {
        test.exchanges.compactMap { exchange in
            if case .arrives(let bytes) = exchange.fate { bytes } else { nil }
        }
    }

    @Test func namesAreUniqueAndReasonsExist() {
        #expect(Set(Self.tests.map(\.name)).count == Self.tests.count)
        let known = Set(DropReason.allCases.map(\.name))
        for test in Self.tests { #expect(known.isSuperset(of: test.drops.keys), "\(test.name)") }
    }

    @Test func whatIsAsItMustBeHasNoFailure() {
        for test in Self.tests {
            let failures = test.failures(arrived: arrived(test), drops: test.drops, answers: 0)
            #expect(failures.isEmpty, "\(test.name): \(failures)")
            #expect(test.isOver(arrived(test)))
            #expect(!test.isOver(arrived(test).dropLast()))
        }
    }

    @Test func eachFaultIsNamed() throws {
        let test = try #require(Self.tests.first { $0.name == "allowlist destinations" })
        let good = arrived(test)
        func failures(_ arrived: [[UInt8]], drops: [String: Int]? = nil, answers: Int = 0) -> [String] {
            test.failures(arrived: arrived, drops: drops ?? test.drops, answers: answers)
        }
        #expect(failures([]) == ["the last packet, which is allowed: it did not reach the pod"])
        #expect(
            failures(good + good) == ["the last packet, which is allowed: it reached the pod 2 times"])
        #expect(
            failures(good, drops: [:])
                == ["0 packets were dropped as destination_not_allowed, and 4 must be"])
        #expect(
            failures(good, drops: test.drops.merging(["ip_ttl": 1], uniquingKeysWith: +))
                == ["1 packets were dropped as ip_ttl, and 0 must be"])
        #expect(
            failures(good, answers: 3)
                == ["the kernel of the node answered 3 packets that are shuck's"])
        var changed = good
        changed[0][8] = 62
        #expect(
            failures(changed)
                == ["the last packet, which is allowed: byte 8 is 0x3e, and must be 0x3f"])
        // What must be dropped arrives.
        let first = try #require(test.exchanges.first)
        let leaked = Array(try #require(first.packets.first).dropFirst(20))
        #expect(
            failures(good + [leaked])
                == ["\(first.what): it reached the pod, and must be dropped as destination_not_allowed"])
    }

    @Test func withoutIPv6OnlyIPv4IsSent() {
        for test in PacketTest.all([.ipip]) {
            for packet in test.exchanges.flatMap(\.packets) { #expect(packet[0] == 0x45, "\(test.name)") }
            let text = test.configuration.text(socket: "/run/s", cpu: 0, hasIPv6: false)
            #expect(!text.contains("2001:"))
        }
    }

    /// RFC 6040 §4.2, figure 4, row by row of the inner field.
    @Test func theCongestionFieldIsThatOfTheRFC() {
        let rows: [[UInt8?]] = [[0, 0, 0, nil], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]]
        for (inner, row) in rows.enumerated() {
            for (outer, field) in row.enumerated() {
                let got = PacketTest.congestionField(inner: UInt8(inner), outer: UInt8(outer))
                #expect(got == field, "\(inner) in \(outer)")
            }
        }
    }

    /// The fragments hold every byte, at its offset.
    @Test(arguments: Mode.allCases)
    func fragmentsAreWhole(mode: Mode) {
        let inner = [UInt8](0x45...0xff) + [UInt8](repeating: 9, count: 300)
        let cuts = [200..<inner.count, 0..<200]
        let outer = TestNetwork.outerHeader(mode)
        let fragments = outer.wrap(inner, in: cuts, identification: 77)
        for (fragment, cut) in zip(fragments, cuts) {
            let start = mode.outerIsIPv4 ? 20 : 48
            #expect(Array(fragment[start...]) == Array(inner[cut]))
            fragment.withUnsafeBytes { memory in
                let bytes = Bytes(memory.baseAddress!, count: memory.count)
                if mode.outerIsIPv4 {
                    #expect(bytes.ipv4.fragmentOffset == cut.lowerBound)
                    #expect(bytes.headerSum(length: 20) == 0xffff)
                    #expect((bytes.ipv4.fragment & IPv4Header.moreFragments != 0) == (cut.lowerBound == 0))
                } else {
                    let header = bytes.fragmentHeader(at: 40)
                    #expect(header.fragmentOffset == cut.lowerBound)
                    #expect(header.moreFragments == (cut.lowerBound == 0))
                    #expect(header.identification == 77)
                }
            }
        }
    }

    @Test func theBalancerPutsTheRightHeaderInFront() throws {
        for mode in Mode.allCases {
            let client = TestNetwork.of(TestNetwork.client, isIPv4: mode.innerIsIPv4)
            var inner = InnerPacket(from: client, to: TestNetwork.service(mode))
            inner.ecn = 2
            let (packet, node) = try #require(TestNetwork.encapsulated(inner.bytes))
            var outer = TestNetwork.outerHeader(mode)
            outer.ecn = 2
            #expect(packet == outer.wrap(inner.bytes))
            #expect(node == outer.destination)
        }
        let other = InnerPacket(from: TestNetwork.client[0], to: TestNetwork.far[0])
        #expect(TestNetwork.encapsulated(other.bytes) == nil)
        #expect(TestNetwork.encapsulated([0x60, 0]) == nil)
    }
}

@Suite struct SelfTestReportTests {
    private func report(_ results: [SelfTestResult]) -> SelfTestReport {
        var report = SelfTestReport(version: "1", kernel: "6.1", engine: "", claim: "tcx", notes: [])
        for result in results { report.add(result) }
        return report
    }

    @Test func theLastLineCounts() {
        let good = SelfTestResult(name: "a", seconds: 0.1, checks: 1, failures: [])
        let bad = SelfTestResult(name: "b", seconds: 0.2, checks: 3, failures: ["no"])
        let skipped = SelfTestResult(name: "c", skipped: "no IPv6")
        #expect(report([good]).summary == "1 test, 1 check, 0 skipped")
        #expect(report([good, skipped]).summary == "2 tests, 1 check, 1 skipped (no IPv6)")
        #expect(report([good, skipped]).isGood)
        #expect(report([good, bad]).summary == "2 tests, 4 checks, 0 skipped, 1 failed")
        #expect(!report([good, bad]).isGood)
        var interrupted = report([good])
        interrupted.interrupted = true
        #expect(interrupted.summary == "1 test, 1 check, 0 skipped; interrupted")
        #expect(!interrupted.isGood)
    }
}
