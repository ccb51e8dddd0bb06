// shuck explain, and its filters against frames that shuck drops for the reason.

import CPcap
import Foundation
import TestPackets
import Testing

@Suite struct ExplainTests {
    private struct Help: Decodable {
        struct Command: Decodable {
            let command: String
            let shows: String
        }
        let reason: String
        let meaning: String
        let causes: [String]
        let commands: [Command]
        let filter: String
    }

    private static func all() throws -> [Help] {
        let outcome = try Shell().shuck("explain", "--json")
        #expect(outcome.code == 0)
        return try JSONDecoder().decode([Help].self, from: Data(outcome.output.utf8))
    }

    @Test func oneReasonIsExplained() throws {
        let outcome = try Shell().shuck("explain", "ip_ttl")
        #expect(outcome.code == 0 && outcome.error == "")
        let filter =
            "(ip proto 4 and ip[28] = 0) or (ip proto 41 and ip[27] = 0) or "
            + "(ip6 proto 4 and ip6[48] = 0) or (ip6 proto 41 and ip6[47] = 0)"
        #expect(
            outcome.output == """
                ip_ttl
                    the inner TTL or hop limit is 0

                Usual causes
                    a loop

                What to type
                    traceroute -n DESTINATION
                        on the client: routers that come twice
                    tcpdump -ni IF '\(filter)'
                        frames that may have been dropped so
                    shuck capture --reason ip_ttl
                        the frames that are dropped so, live

                """)
    }

    @Test func withoutAReasonAllAreListed() throws {
        let outcome = try Shell().shuck("explain")
        #expect(outcome.code == 0)
        let names = outcome.output.split(separator: "\n").map { $0.prefix { $0 != " " } }
        #expect(names.count == 25 && names[0] == "REASON" && names[1] == "pkt_too_small")
        #expect(try Self.all().map(\.reason) == names.dropFirst().map(String.init))
    }

    @Test(arguments: [
        ("frag_overlp", "frag_overlp is no reason; did you mean frag_overlap?"),
        ("\u{1b}[31m\n", "\\u{1b}[31m\\u{a} is no reason; shuck explain lists all"),
        ("lost", "lost is no reason; shuck explain lists all"),
    ])
    func whatIsNoReasonEndsWith2(_ reason: String, _ message: String) throws {
        let outcome = try Shell().shuck("explain", reason)
        #expect(outcome.code == 2)
        #expect(outcome.error.contains(message), "\(outcome.error)")
    }

    // MARK: Filters

    /// A frame of each mode that one change spoils.
    private static func frames(
        outer: (inout IPHeader) -> Void = { _ in }, inner: ((inout IPHeader) -> Void)? = nil,
        outer4: Bool = true, outer6: Bool = true, inner4: Bool = true, inner6: Bool = true
    ) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        for (isOuter4, isInner4) in [(true, true), (true, false), (false, true), (false, false)] {
            guard isOuter4 ? outer4 : outer6, isInner4 ? inner4 : inner6 else { continue }
            var header =
                isInner4
                ? IPHeader(from: Sample.client, to: Sample.pod, protocolNumber: 17)
                : IPHeader(from: Sample.client6, to: Sample.pod6, protocolNumber: 17)
            header.fragment = 0
            inner?(&header)
            let number: UInt8 = isInner4 ? 4 : 41
            var wrap =
                isOuter4
                ? IPHeader(from: Sample.balancer, to: Sample.node, protocolNumber: number)
                : IPHeader(from: Sample.balancer6, to: Sample.node6, protocolNumber: number)
            wrap.fragment = 0
            outer(&wrap)
            frames.append(Link.ethernet.frame(wrap.packet(header.packet(datagram))))
        }
        return frames
    }

    private static func address(_ header: IPHeader, _ ipv4: String, _ ipv6: String) -> IPHeader {
        var header = header
        header.source = ip(header.isIPv4 ? ipv4 : ipv6)
        return header
    }

    /// By reason: frames that shuck drops for it.
    private static let dropped: [(reason: String, frames: [[UInt8]])] = [
        (
            "pkt_too_small",
            frames(inner: { $0.lengthField = 2000 }) + frames(outer: { $0.lengthField = 2000 })
        ),
        ("ip_inhdr", frames(inner: { $0.isIPv4 ? ($0.headerWords = 4) : ($0.version = 5) })),
        (
            "ipv6_bad_exthdr",
            frames(outer: { $0.extensions = [.routing(segmentsLeft: 1)] }, outer4: false)
                + frames(
                    inner: {
                        $0.extensions = Array(repeating: .options(Extension.destination, []), count: 9)
                    },
                    inner4: false)
        ),
        (
            "ip_source_route",
            frames(outer: { $0.options = [131, 3, 4, 1] }, outer6: false)
                + frames(inner: { $0.options = [137, 3, 4, 1] }, inner6: false)
        ),
        (
            "frag_disabled",
            frames(
                outer: { header in
                    header.fragment = 1
                    header.extensions = header.isIPv4 ? [] : [.fragment(offset: 1, more: false)]
                })
        ),
        (
            "ip_tunnel_ecn",
            frames(outer: { $0.trafficClass = 3 })
        ), ("tunnel_nested", frames(inner: { $0.protocolNumber = 47 })),
        ("ip_ttl", frames(inner: { $0.ttl = 0 })),
        (
            "ip_invalid_source",
            frames(inner: { $0 = address($0, "127.0.0.1", "ff02::1") })
                + frames(inner: { $0 = address($0, "169.254.1.1", "fe80::1") })
                + frames(inner: { $0 = address($0, "240.0.0.1", "::2") })
        ),
        (
            "ip_invalid_dest", frames(inner: { $0.destination = ip($0.isIPv4 ? "224.0.0.1" : "ff02::1") })
        ), ("remote_not_allowed", frames(outer: { $0 = address($0, "198.51.100.1", "2001:db8:5::1") })),
        (
            "destination_not_allowed",
            frames(inner: { $0.destination = ip($0.isIPv4 ? "10.2.1.10" : "2001:db8:3::9") })
        ), ("ip_csum", frames(inner: { $0.checksumError = 1 }, inner6: false)),
    ]

    /// Whether a filter takes a frame, as tcpdump would.
    private static func matches(_ filter: String, _ frame: [UInt8]) throws -> Bool {
        let handle = try #require(pcap_open_dead(DLT_EN10MB, 262_144))
        defer { pcap_close(handle) }
        var program = bpf_program()
        guard pcap_compile(handle, &program, filter, 1, UInt32.max) == 0 else {
            Issue.record("\(filter): \(String(cString: pcap_geterr(handle)))")
            return false
        }
        defer { pcap_freecode(&program) }
        var header = pcap_pkthdr()
        header.len = UInt32(frame.count)
        header.caplen = header.len
        return pcap_offline_filter(&program, &header, frame) != 0
    }

    @Test func filtersTakeWhatIsDroppedForTheReason() throws {
        let filters = Dictionary(try Self.all().map { ($0.reason, $0.filter) }, uniquingKeysWith: { $1 })
        for (reason, frames) in Self.dropped {
            let shell = try Shell()
            try shell.write("c.yaml", Sample.configuration)
            try shell.write("in.pcap", CaptureText.pcap(frames.map { Record(bytes: $0) }, link: 1))
            let outcome = try shell.shuck(
                "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap", "--verdicts",
                "v.jsonl")
            #expect(outcome.code == 0, "\(outcome.error)")
            let verdicts = try shell.lines("v.jsonl")
            let filter = try #require(filters[reason])
            for (verdict, frame) in zip(verdicts, frames) {
                #expect(verdict.contains("\"reason\":\"\(reason)\""), "\(verdict)")
                #expect(try Self.matches(filter, frame), "\(reason): \(filter): \(verdict)")
            }
        }
    }

    @Test func filtersThatTellReasonsApartLeaveGoodFramesOut() throws {
        let encapsulated = "ip proto 4 or ip proto 41 or ip6 proto 4 or ip6 proto 41"
        var specific = 0
        for help in try Self.all() where help.filter != encapsulated && help.reason != "ip_csum" {
            specific += 1
            for frame in Self.frames() {
                #expect(try !Self.matches(help.filter, frame), "\(help.reason): \(help.filter)")
            }
        }
        #expect(specific == 14)
        for frame in Self.frames() { #expect(try Self.matches(encapsulated, frame)) }
    }

    @Test func everyCommandHoldsItsFilter() throws {
        for help in try Self.all() {
            #expect(help.commands.contains { $0.command.contains("'\(help.filter)'") }, "\(help.reason)")
            #expect(!help.causes.isEmpty && help.commands.allSatisfy { !$0.shows.isEmpty }, "\(help.reason)")
            #expect(!help.filter.contains("'"))
        }
    }
}
