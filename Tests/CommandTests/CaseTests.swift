// Golden packets: what tools/cases wrote into Tests/Cases, put to shuck replay; and that the size of a batch
// makes no difference to what comes out.

import Foundation
import TestPackets
import Testing

@Suite struct CaseTests {
    static let directory = URL(filePath: #filePath).appending(path: "../../Cases").standardized
    static let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path))?.sorted() ?? []

    @Test func thereAreCases() { #expect(Self.names.count >= 15) }

    @Test(arguments: names, [1, 7, 64])
    func replaysAsWritten(_ name: String, batch: Int) throws {
        let place = Self.directory.appending(path: name)
        func expected(_ file: String) throws -> [UInt8]? {
            let path = place.appending(path: file)
            return FileManager.default.fileExists(atPath: path.path)
                ? [UInt8](try Data(contentsOf: path)) : nil
        }
        let shell = try Shell()
        let outcome = try shell.shuck(
            "replay", "--config", place.appending(path: "shuck.yaml").path, "--in",
            place.appending(path: "in.pcap").path, "--out", "out.pcap", "--replies", "replies.pcap",
            "--verdicts", "verdicts.jsonl", "--batch", "\(batch)")
        #expect(outcome.code == 0, "\(outcome.error)")
        let verdicts = String(decoding: try expected("verdicts.jsonl") ?? [], as: UTF8.self)
        #expect(try shell.text("verdicts.jsonl") == verdicts)
        #expect(try shell.read("out.pcap") == expected("out.pcap"))
        #expect(try shell.read("replies.pcap") == expected("replies.pcap") ?? CaptureText.output([]))
    }
}

@Suite struct BatchSizeTests {
    private static let configuration =
        Sample.configuration
        .replacing("{name: pod1}", with: "{name: pod1, mtu: 1280, netns: /run/netns/pod}")
        .replacing("fragments: {memory: 0}", with: "fragments: {memory: 256KiB, timeout: 1s}")
        + "icmp: {ratePerSecond: 3, burst: 2}\n"

    /// A sender's next packet: bursts of a few flows, now and then something that ends a run.
    private struct Flow {
        let isIPv4: Bool
        let isTCP: Bool
        let port: Int
        var number = 0
        var sequence = 1

        mutating func next(_ chance: inout Random) -> [UInt8] {
            let size = [100, 100, 100, 100, 40, 0, 1300][chance.below(7)]
            let payload = [UInt8](repeating: UInt8(chance.below(256)), count: size)
            var upper: [UInt8]
            if isTCP {
                let flags = [0x10, 0x10, 0x10, 0x10, 0x18, 0x11, 0x02][chance.below(7)]
                upper = be16(port) + be16(443) + be32(sequence) + be32(9) + [0x50, UInt8(flags)]
                upper += be16(1024) + [0, 0, 0, 0]
                sequence += size
            } else {
                upper = be16(port) + be16(443) + be16(8 + size) + [0, 0]
            }
            upper += payload
            let (source, target) =
                isIPv4 ? (Sample.client, Sample.pod) : (Sample.client6, Sample.pod6)
            let length = isIPv4 ? be16(upper.count) : be32(upper.count)
            let pseudo = source + target + length + (isIPv4 ? [0] : [0, 0, 0]) + [isTCP ? 6 : 17]
            var sum = checksum(pseudo + upper)
            if !isTCP && sum == 0 { sum = 0xffff }
            if chance.below(20) == 0 { sum ^= 5 }
            upper.replaceSubrange((isTCP ? 16..<18 : 6..<8), with: be16(sum))
            guard isIPv4 else { return ipv6(source, target, isTCP ? 6 : 17, upper) }
            var packet = ipv4(source, target, isTCP ? 6 : 17, upper)
            packet.replaceSubrange(4..<8, with: be16(number & 0xffff) + [0x40, 0])
            number += 1
            packet.replaceSubrange(10..<12, with: [0, 0])
            packet.replaceSubrange(10..<12, with: be16(checksum(Array(packet[..<20]))))
            return packet
        }
    }

    private static func records(_ seed: Int) -> [Record] {
        var chance = Random(UInt64(seed))
        var flows = (0..<8).map { Flow(isIPv4: $0 & 1 == 0, isTCP: $0 & 2 == 0, port: 1000 + $0) }
        var records: [Record] = []
        var time = 0
        func add(_ packet: [UInt8]) {
            time += chance.below(50) == 0 ? 400_000 : chance.below(30)
            records.append(
                Record(
                    bytes: packet, seconds: 1_700_000_000 + time / 1_000_000,
                    fraction: time % 1_000_000))
        }
        while records.count < 900 {
            let flow = chance.below(flows.count)
            for _ in 0...chance.below(20) {
                let inner = flows[flow].next(&chance)
                let packet = chance.below(2) == 0 ? Sample.outer4(inner) : Sample.outer6(inner)
                switch chance.below(25) {
                case 0:
                    // In two fragments, of which one may be lost.
                    var halves = [Array(inner.prefix(24)), Array(inner.dropFirst(24))].map {
                        ipv4(Sample.balancer, Sample.node, inner[0] >> 4 == 4 ? 4 : 41, $0)
                    }
                    for half in 0..<2 {
                        halves[half].replaceSubrange(
                            4..<8, with: be16(records.count & 0xffff) + (half == 0 ? [0x20, 0] : [0, 3]))
                        halves[half].replaceSubrange(10..<12, with: [0, 0])
                        halves[half].replaceSubrange(
                            10..<12, with: be16(checksum(Array(halves[half][..<20]))))
                    }
                    add(halves[0])
                    if chance.below(3) > 0 { add(halves[1]) }
                case 1:
                    var damaged = packet
                    damaged[chance.below(damaged.count)] ^= UInt8(1 + chance.below(255))
                    add(damaged)
                default: add(packet)
                }
            }
        }
        return records
    }

    @Test(arguments: 1...4)
    func everySizeGivesTheSame(seed: Int) throws {
        let shell = try Shell()
        try shell.write("c.yaml", Self.configuration)
        try shell.write("in.pcap", CaptureText.pcap(Self.records(seed), link: 101))
        var first: [[UInt8]] = []
        for batch in [1, 2, 7, 64, 256] {
            let outcome = try shell.shuck(
                "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
                "--replies", "replies.pcap", "--verdicts", "v.jsonl", "--batch", "\(batch)")
            #expect(outcome.code == 0, "\(outcome.error)")
            let files = try ["out.pcap", "replies.pcap", "v.jsonl"].map { try shell.read($0) }
            if first.isEmpty {
                first = files
                let verdicts = try shell.text("v.jsonl")
                for kind in ["inject", "hold", "drop", "reply"] {
                    #expect(verdicts.contains(#""verdict":"\#(kind)""#), "\(kind)")
                }
            }
            #expect(files == first, "batches of \(batch)")
        }
    }

    @Test(arguments: ["0", "257", "-1", "many"])
    func aSizeOutOfRangeIsRefused(size: String) throws {
        let outcome = try Shell().shuck("replay", "--in", "a", "--out", "b", "--batch=\(size)")
        #expect(outcome.code == 2)
        #expect(outcome.error.contains("--batch"))
    }
}
