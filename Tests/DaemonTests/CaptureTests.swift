// The ring between a worker and a capture, and who may have one.

import Forwarding
import Settings
import Testing

@testable import Daemon

struct CaptureTests {
    private static func put(_ tap: CaptureTap, _ bytes: Int, _ mark: UInt16) {
        var record = CaptureRecord()
        record.captured = UInt32(bytes)
        record.device = mark
        tap.writer.put(record) {
            $0.initializeMemory(as: UInt8.self, repeating: UInt8(mark & 255), count: bytes)
        }
    }

    /// The marks of what is there, each with bytes that are its own.
    private static func read(_ tap: CaptureTap, limit: Int = .max) -> [UInt16] {
        var marks: [UInt16] = []
        tap.read { record, bytes in
            #expect(bytes.allSatisfy { $0 == UInt8(record.device & 255) })
            marks.append(record.device)
            return marks.count < limit
        }
        return marks
    }

    @Test("records come out as they went in, around the end of the ring, and what finds no room is counted")
    func ring() throws {
        let tap = CaptureTap()
        #expect(!tap.writer.isOn)
        Self.put(tap, 10, 1)
        #expect(try tap.start(CaptureFilter(), cpu: 0))
        #expect(try !tap.start(CaptureFilter(), cpu: 0), "another capture runs")
        #expect(tap.writer.isOn && Self.read(tap).isEmpty)
        var (next, expected) = (UInt16(0), UInt16(0))
        for round in 0..<400 {
            for size in [0, 1, 7, 64, 1500, 9000, 65_549] {
                Self.put(tap, (size + round * 13) % 66_000, next)
                next &+= 1
            }
            for mark in Self.read(tap) {
                #expect(mark == expected)
                expected &+= 1
            }
        }
        #expect(expected == next && tap.dropped == 0)
        for mark in 0..<100 { Self.put(tap, 66_000, UInt16(mark)) }
        let kept = Self.read(tap)
        #expect(kept == (0..<kept.count).map { UInt16($0) })
        #expect(kept.count + Int(tap.dropped) == 100 && kept.count > 60)
    }

    @Test("a capture gets nothing of the one before it")
    func sessions() throws {
        let tap = CaptureTap()
        #expect(try tap.start(CaptureFilter(), cpu: 0))
        Self.put(tap, 10, 1)
        tap.stop()
        Self.put(tap, 10, 2)
        #expect(try tap.start(CaptureFilter(), cpu: 0))
        Self.put(tap, 10, 3)
        Self.put(tap, 10, 4)
        #expect(Self.read(tap, limit: 1) == [3])
        #expect(Self.read(tap) == [4])
    }

    @Test("what is not a verdict, a reason or a word of a capture is refused")
    func queries() throws {
        let query = try CaptureQuery("/capture?verdict=drop&verdict=reply&reason=ip_ttl&tunnel=a&injected=1")
        #expect(query.filter.kinds == 1 << 3 | 1 << 4 && query.filter.takesInjected)
        #expect(query.filter.reasons == 1 << UInt64(DropReason.ttlExpired.rawValue) && query.tunnels == ["a"])
        for wrong in ["verdict=lost", "reason=x", "count=3"] {
            #expect(throws: HostProblem.self) { try CaptureQuery("/capture?" + wrong) }
        }
    }

    @Test("only root captures, unless the configuration lets the socket's users")
    func access() {
        var admin = Configuration.Admin()
        #expect(AdminPeer.captureRefusal(0, admin) == nil)
        #expect(AdminPeer.captureRefusal(65_534, admin)?.contains("capture: on") == true)
        #expect(AdminPeer.captureRefusal(nil, admin) != nil)
        admin.capture = true
        #expect(AdminPeer.captureRefusal(65_534, admin) == nil)
    }
}
