// Frames that have killed two processes: what is kept of them, and that `replay` takes it.

import Foundation
import LinuxIO
import Testing

@testable import Daemon

@Suite struct SkippedFramesTests {
    private func frame(_ bytes: [UInt8], cut: Int = 0) -> SkippedFrame {
        SkippedFrame(
            bytes: bytes.dropLast(cut), wireLength: bytes.count, seconds: 1_700_000_000, nanoseconds: 5)
    }

    private func keep(_ shell: Shell, _ seconds: Int, worker: Int = 0) throws -> String {
        let good = Sample.outer6(ipv6(Sample.client6, Sample.pod6, 17, be16(1) + be16(2) + be16(8) + [0, 0]))
        let frames = [good, good].map { [UInt8](repeating: 2, count: 12) + [0x86, 0xdd] + $0 }
        return try SkippedFrames.keep(
            [frame(frames[0]), frame(frames[1], cut: 60)], from: "eth0", worker: worker,
            Sample.configuration, beside: shell.path("s.sock"), unixSeconds: seconds)
    }

    @Test func replayTakesThem() throws {
        let shell = try Shell()
        let path = try keep(shell, 1_700_000_000)
        for file in [path, path + ".yaml"] {
            let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions]
            #expect(mode as? Int == 0o600)
        }
        let outcome = try shell.shuck(
            "replay", "--config", path + ".yaml", "--in", path, "--out", "out.pcap", "--verdicts", "v.jsonl")
        #expect(outcome.code == 0, "\(outcome.error)")
        let lines = try shell.lines("v.jsonl")
        #expect(lines.count == 2)
        #expect(lines[1].contains(#""reason":"pkt_too_small""#), "\(lines)")
        #expect(!lines[0].contains("pkt_too_small"), "\(lines)")
    }

    @Test func theLastFewStay() throws {
        let shell = try Shell()
        try shell.write("other.sock.skipped-1-eth0-0.pcap", "another's")
        for number in 0..<7 { _ = try keep(shell, 1_700_000_000 + number) }
        let names = try FileManager.default.contentsOfDirectory(atPath: shell.directory.path).sorted()
        let kept = (3..<7).flatMap { number in
            let name = "s.sock.skipped-170000000\(number)-eth0-0.pcap"
            return [name, name + ".yaml"]
        }
        #expect(names == ["other.sock.skipped-1-eth0-0.pcap"] + kept)
    }

    /// Nothing is left of what could not be kept whole, and nothing is replaced.
    @Test func whatCannotBeKeptIsNamed() throws {
        let shell = try Shell()
        let path = try keep(shell, 1_700_000_000)
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        #expect { _ = try keep(shell, 1_700_000_000) } throws: { "\($0)".contains("File exists") }
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
        try shell.write("s.sock.skipped-1700000001-eth0-0.pcap.yaml", "in the way")
        #expect(throws: SystemError.self) { _ = try keep(shell, 1_700_000_001) }
        #expect(!shell.exists("s.sock.skipped-1700000001-eth0-0.pcap"))
        #expect {
            _ = try SkippedFrames.keep(
                [], from: "eth0", worker: 0, "", beside: "/nowhere/s.sock", unixSeconds: 1)
        } throws: {
            "\($0)".contains("/nowhere/s.sock.skipped-1-eth0-0.pcap")
        }
    }
}
