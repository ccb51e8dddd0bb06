// shuck replay: exact verdicts and bytes, for captures that are written here by hand.

import Testing

@Suite struct ReplayTests {
    private static let modes = ["ipip", "ip6ip", "ipip6", "ip6ip6"]

    private func injected(_ frame: Int, _ mode: String, device: String = "shuck0") -> String {
        #"{"frame":\#(frame),"verdict":"inject","mode":"\#(mode)","tunnel":"lvs","#
            + #""device":"\#(device)"}"#
    }

    private func dropped(_ frame: Int, _ reason: String, mode: String? = "ipip") -> String {
        #"{"frame":\#(frame),"verdict":"drop","reason":"\#(reason)""#
            + (mode.map { #","mode":"\#($0)","tunnel":"lvs""# } ?? "") + "}"
    }

    private func passed(_ frame: Int) -> String { #"{"frame":\#(frame),"verdict":"pass"}"# }

    /// A shell with the sample configuration and a capture.
    private func shell(_ capture: [UInt8]) throws -> Shell {
        let shell = try Shell()
        try shell.write("c.yaml", Sample.configuration)
        try shell.write("in.pcap", capture)
        return shell
    }

    private func replay(_ shell: Shell) throws -> Outcome {
        try shell.shuck(
            "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
            "--verdicts", "v.jsonl")
    }

    // MARK: what is answered

    /// What a device in a pod's namespace cannot take: the whole answer, byte by byte.
    @Test func tooBigIsAnswered() throws {
        let shell = try Shell()
        try shell.write(
            "c.yaml",
            Sample.configuration.replacing(
                "{name: shuck0}", with: "{name: shuck0, mtu: 1280, netns: /run/netns/pod}")
                + "icmp: {ratePerSecond: 1, burst: 2}\n")
        let payload =
            be16(1000) + be16(443) + be16(1308) + [0, 0]
            + [UInt8](repeating: 1, count: 1300)
        let inner = ipv6(Sample.client6, Sample.pod6, 17, payload)
        let frames = [[UInt8]](repeating: Sample.outer6(inner), count: 3)
        try shell.write(
            "in.pcap", CaptureText.pcap(frames.map { Record(bytes: $0) }, link: 101))
        for _ in 0..<2 {
            let outcome = try shell.shuck(
                "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
                "--verdicts", "v.jsonl", "--replies", "r.pcap")
            #expect(outcome.code == 0, "\(outcome.error)")
            let tail = #""reason":"pkt_too_big","mode":"ip6ip6","tunnel":"lvs"}"#
            #expect(
                try shell.lines("v.jsonl") == [
                    #"{"frame":0,"verdict":"reply","# + tail,
                    #"{"frame":1,"verdict":"reply","# + tail,
                    // No token is left for the third.
                    #"{"frame":2,"verdict":"drop","# + tail,
                ])
            var message: [UInt8] = [2, 0, 0, 0] + be32(1280) + inner[..<1232]
            let pseudo = Sample.node6 + Sample.client6 + be32(message.count) + [0, 0, 0, 58]
            message.replaceSubrange(2..<4, with: be16(checksum(pseudo + message)))
            let answer = ipv6(Sample.node6, Sample.client6, 58, message)
            #expect(
                try shell.read("r.pcap")
                    == CaptureText.output([Record(bytes: answer), Record(bytes: answer)]))
            #expect(try shell.read("out.pcap") == CaptureText.output([]))
        }
    }

    // MARK: modes, links, files

    @Test(arguments: Link.allCases)
    func everyModeOverEveryLink(_ link: Link) throws {
        let frames = Sample.allModes.map { link.frame($0) }
        let shell = try shell(CaptureText.pcap(Record.numbered(frames), link: link.rawValue))
        let outcome = try replay(shell)
        #expect(outcome.code == 0)
        #expect(outcome.output == "")
        #expect(
            outcome.error == """
                shuck: the reverse path is not checked: there are no --routes
                4 frames: 4 injected, 0 passed, 0 dropped, 0 held, 0 replied

                """)
        #expect(
            try shell.lines("v.jsonl") == Self.modes.enumerated().map { injected($0, $1) })
        #expect(
            try shell.read("out.pcap") == CaptureText.output(Record.numbered(Sample.allInner)))
    }

    @Test func linksOfOneFamily() throws {
        for (link, packet) in [(228, Sample.allModes[0]), (229, Sample.allModes[3])] {
            let shell = try shell(CaptureText.pcap([Record(bytes: packet)], link: link))
            #expect(try replay(shell).code == 0)
            #expect(try shell.text("v.jsonl").contains("inject"))
        }
    }

    @Test(arguments: [nil, 6, 9] as [UInt8?])
    func pcapngKeepsItsTimes(_ resolution: UInt8?) throws {
        let records = Record.numbered(Sample.allModes.map { Link.ethernet.frame($0) })
        let shell = try shell(CaptureText.pcapng(records, link: 1, resolution: resolution))
        #expect(try replay(shell).code == 0)
        #expect(
            try shell.read("out.pcap")
                == CaptureText.output(
                    Record.numbered(Sample.allInner), isNanosecond: resolution == 9))
    }

    /// A flipped bit in a timestamp, and what no 64 bits of nanoseconds hold.
    @Test func wildTimesEndNothing() throws {
        let usual: UInt64 = 1_700_000_000_000_000
        let times = [
            usual, usual | 1 << 62, usual + 1, .max, 0, usual + 2, usual & ~(1 << 50), usual + 3,
        ]
        let packets = times.enumerated().map { number, time in
            (interface: 0, time: time, bytes: Sample.allModes[number % 4])
        }
        let shell = try shell(CaptureText.pcapng(interfaces: [(101, nil)], packets: packets))
        let outcome = try replay(shell)
        #expect(outcome.code == 0)
        #expect(outcome.error.contains("8 frames: 8 injected"), "\(outcome.error)")
        let records = times.enumerated().map { number, time in
            Record(
                bytes: Sample.allInner[number % 4],
                // What 64 bits of nanoseconds do not hold is their last moment; what 32 bits of seconds do
                // not hold is the last of these.
                seconds: Int(min(min(time / 1_000_000, .max / 1_000_000_000), 0xffff_ffff)),
                fraction: time / 1_000_000 >= .max / 1_000_000_000
                    ? Int(UInt64.max % 1_000_000_000 / 1000) : Int(time % 1_000_000))
        }
        #expect(try shell.read("out.pcap") == CaptureText.output(records))
        // In pcap the microseconds can be anything.
        var wild = Record(bytes: Sample.allModes[0], seconds: 0xffff_ffff, fraction: 0xffff_ffff)
        try shell.write("in.pcap", CaptureText.pcap([wild, wild], link: 101))
        #expect(try replay(shell).code == 0)
        wild.bytes = Sample.inner4
        #expect(try shell.read("out.pcap") == CaptureText.output([wild, wild]))
    }

    /// One of the two outer fragments of a datagram.
    private static func piece(_ id: Int, isFirst: Bool) -> [UInt8] {
        let inner = isFirst ? Array(Sample.inner4.prefix(16)) : Array(Sample.inner4.dropFirst(16))
        var packet = ipv4(Sample.balancer, Sample.node, 4, inner)
        packet.replaceSubrange(4..<8, with: be16(id) + be16(isFirst ? 0x2000 : 2))
        packet.replaceSubrange(10..<12, with: [0, 0])
        packet.replaceSubrange(10..<12, with: be16(checksum(Array(packet.prefix(20)))))
        return packet
    }

    /// The fraction counts nanoseconds or microseconds, as the file has it.
    @Test(arguments: [true, false])
    func fragmentsWaitForTheTimeoutByTheCapturesClock(isNanosecond: Bool) throws {
        let last = isNanosecond ? 999_999_999 : 999_999
        let times = [(100, 0), (129, last), (200, 0), (230, 0)]
        let records = times.enumerated().map { place, time in
            Record(
                bytes: Self.piece(place / 2, isFirst: place % 2 == 0),
                seconds: 1_700_000_000 + time.0, fraction: time.1)
        }
        let shell = try shell(CaptureText.pcap(records, link: 101, isNanosecond: isNanosecond))
        try shell.write("c.yaml", Sample.configuration.replacing("memory: 0", with: "memory: 4MiB"))
        #expect(try replay(shell).code == 0)
        let verdicts = try shell.lines("v.jsonl").map { $0.contains("\"inject\"") }
        #expect(verdicts == [false, true, false, false])
    }

    /// One wild time gives up what is held, and no more: the clock goes on from the next frame.
    @Test func aWildTimeIsOneStep() throws {
        func piece(_ id: Int, isFirst: Bool) -> [UInt8] { Self.piece(id, isFirst: isFirst) }
        let usual: UInt64 = 1_700_000_000_000_000
        let packets: [(interface: Int, time: UInt64, bytes: [UInt8])] = [
            (0, usual, piece(1, isFirst: true)), (0, usual | 1 << 62, Sample.allModes[1]),
            (0, usual + 1, piece(1, isFirst: false)),
            // 29 s apart, and 31: the timeout is 30.
            (0, usual + 2, piece(2, isFirst: true)),
            (0, usual + 29_000_000, piece(2, isFirst: false)),
            (0, usual + 29_000_001, piece(3, isFirst: true)),
            (0, usual + 60_000_002, piece(3, isFirst: false)),
        ]
        let shell = try shell(CaptureText.pcapng(interfaces: [(101, nil)], packets: packets))
        try shell.write("c.yaml", Sample.configuration.replacing("memory: 0", with: "memory: 4MiB"))
        #expect(try replay(shell).code == 0)
        let verdicts = try shell.lines("v.jsonl").map { line in
            ["hold", "inject", "drop"].first { line.contains("\"\($0)\"") }
        }
        #expect(verdicts == ["hold", "inject", "hold", "hold", "inject", "hold", "hold"])
    }

    /// A tag of VLAN 0 is a priority alone, wherever a capture keeps it.
    @Test func tagsOfVLANZeroAreSteppedOver() throws {
        let addresses: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]
        let tags: [[UInt8]] = [
            [0x81, 0, 0xa0, 0, 8, 0], [0x88, 0xa8, 0, 0, 8, 0],
            [0x88, 0xa8, 0, 0, 0x81, 0, 0x20, 0, 8, 0], [0x81, 0, 0xa0, 1, 8, 0],
        ]
        let frames = tags.map { addresses + $0 + Sample.allModes[0] }
        let shell = try shell(CaptureText.pcap(Record.numbered(frames), link: 1))
        #expect(try replay(shell).code == 0)
        let verdicts = try shell.lines("v.jsonl").map { line in
            ["inject", "pass"].first { line.contains("\"\($0)\"") }
        }
        #expect(verdicts == ["inject", "inject", "inject", "pass"])
    }

    /// Each packet of pcapng has the link type of its interface, whose lengths may differ too.
    @Test func pcapngOfSeveralInterfaces() throws {
        let packets: [(interface: Int, time: UInt64, bytes: [UInt8])] = [
            (0, 1_700_000_000_000_000, Sample.allModes[0]),
            (1, 1_700_000_000_000_001, Link.ethernet.frame(Sample.allModes[1])),
            (2, 1_700_000_000_000_002, Link.cooked2.frame(Sample.allModes[2])),
        ]
        let shell = try shell(
            CaptureText.pcapng(
                interfaces: [(101, "eth1"), (1, "eth0"), (276, "other")], packets: packets))
        let outcome = try replay(shell)
        #expect(outcome.code == 0)
        #expect(outcome.error.contains("3 frames: 3 injected"), "\(outcome.error)")
        #expect(
            outcome.error.contains(
                "interfaces that are not configured, other: their frames are taken as eth0's"))
    }

    @Test func damagedPcapngGivesWhatCameBefore() throws {
        let good = CaptureText.pcapng(
            interfaces: [(101, "eth0")],
            packets: [(0, 1, Sample.allModes[0]), (0, 2, Sample.allModes[0])])
        let last = good.count - Sample.allModes[0].count - 32
        for (offset, byte, message) in [
            (last + 8, 7, "a packet of interface 7, which is not described"),
            (last + 4, 3, "a block of "), (last + 20, 0xff, "a packet of "),
            (good.count - 4, 0, "a block with two lengths"),
        ] as [(Int, UInt8, String)] {
            var bad = good
            bad[offset] = byte
            let shell = try shell(bad)
            let outcome = try replay(shell)
            #expect(outcome.code == 1)
            #expect(
                outcome.error.contains("shuck: in.pcap: packet 1: the file is damaged: \(message)"),
                "\(outcome.error)")
            #expect(try shell.lines("v.jsonl").count == 1)
        }
        // A block without a body, and the longest, are stepped over; what is longer is damage.
        for (count, isGood) in [(0, true), (16 << 20 - 12, true), (16 << 20 - 8, false)] {
            let length = le32(count + 12)
            let block = le32(0x0bad) + length + [UInt8](repeating: 0, count: count) + length
            let shell = try shell(good[..<last] + block + good[last...])
            let outcome = try replay(shell)
            #expect(outcome.code == (isGood ? 0 : 1), "\(count)")
            #expect(outcome.error.contains("a block of \(count + 12) bytes") == !isGood)
        }
        let shell = try shell(CaptureText.pcapng(interfaces: [(0, nil)], packets: []))
        let outcome = try replay(shell)
        #expect(outcome.error.contains("shuck: in.pcap: link type 0 is not supported"))
    }

    /// What libpcap takes of a packet at most is taken of a pcapng file too, and no more.
    @Test func theLongestPacketOfPcapng() throws {
        for (count, code) in [(262_144, 0), (262_145, 1)] {
            let long = Sample.allModes[0] + [UInt8](repeating: 0, count: count - Sample.allModes[0].count)
            let shell = try shell(
                CaptureText.pcapng(interfaces: [(101, "eth0")], packets: [(0, 1, long)]))
            let outcome = try replay(shell)
            #expect(outcome.code == Int32(code))
            #expect(outcome.error.contains("a packet of \(count) bytes") == (code == 1), "\(outcome.error)")
        }
    }

    @Test func nanosecondsStayNanoseconds() throws {
        var record = Record(bytes: Sample.allModes[0], fraction: 999_999_999)
        let shell = try shell(CaptureText.pcap([record], link: 101, isNanosecond: true))
        #expect(try replay(shell).code == 0)
        record.bytes = Sample.inner4
        #expect(
            try shell.read("out.pcap") == CaptureText.output([record], isNanosecond: true))
    }

    @Test func anEmptyCaptureGivesEmptyFiles() throws {
        let shell = try shell(CaptureText.pcap([], link: 1))
        let outcome = try replay(shell)
        #expect(outcome.code == 0)
        #expect(outcome.error.contains("0 frames: 0 injected"))
        #expect(try shell.read("out.pcap") == CaptureText.output([]))
        #expect(try shell.read("v.jsonl") == [])
    }

    // MARK: verdicts

    @Test func refusedAndLeftAlone() throws {
        let martian = ipv4([127, 0, 0, 1], Sample.pod, 17, datagram)
        let wrongSum = ipv4(Sample.client, Sample.pod, 17, datagram, checksumError: 1)
        let elsewhere = ipv4(Sample.client, [10, 2, 1, 8], 17, datagram)
        let tagged: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0]
        let frames = [
            Link.ethernet.frame(Sample.outer4(wrongSum)),
            Link.ethernet.frame(Sample.outer4(martian)),
            Link.ethernet.frame(ipv4([8, 8, 8, 8], Sample.node, 4, Sample.inner4)),
            Link.ethernet.frame(Sample.outer4(elsewhere)),
            // Not a tunnel's, a VLAN's, ARP's, and too short for a link layer.
            Link.ethernet.frame(ipv4(Sample.balancer, Sample.node, 17, datagram)),
            tagged + Sample.allModes[0],
            [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6] + [UInt8](repeating: 0, count: 28),
            [2, 0, 0],
            // Cut before anybody can know whose it is, but of protocol 4.
            Array(Link.ethernet.frame(Sample.allModes[0]).prefix(14 + 12)),
            // An outer fragment.
            Link.ethernet.frame(fragment(Sample.allModes[0])),
        ]
        let shell = try shell(CaptureText.pcap(Record.numbered(frames), link: 1))
        let outcome = try replay(shell)
        #expect(outcome.code == 0)
        #expect(
            try shell.lines("v.jsonl") == [
                dropped(0, "ip_csum"), dropped(1, "ip_invalid_source"),
                dropped(2, "remote_not_allowed"), dropped(3, "destination_not_allowed"),
                passed(4), passed(5), passed(6), passed(7),
                dropped(8, "pkt_too_small", mode: nil), dropped(9, "frag_disabled"),
            ])
        #expect(try shell.read("out.pcap") == CaptureText.output([]))
        #expect(
            outcome.error.contains(
                """
                10 frames: 0 injected, 4 passed, 6 dropped (destination_not_allowed 1, frag_disabled 1, \
                ip_csum 1, ip_invalid_source 1, pkt_too_small 1, remote_not_allowed 1), 0 held, 0 replied

                """), "\(outcome.error)")
    }

    /// With "more fragments" set and the checksum made right again.
    private func fragment(_ packet: [UInt8]) -> [UInt8] {
        var packet = packet
        packet[6] = 0x20
        packet.replaceSubrange(10..<12, with: [0, 0])
        packet.replaceSubrange(10..<12, with: be16(checksum(Array(packet.prefix(20)))))
        return packet
    }

    @Test func whatACookedLinkSaysIsForOthersPasses() throws {
        for link in [Link.cooked, Link.cooked2] {
            let frames = [0, 3, 4].map { link.frame(Sample.allModes[0], packetType: $0) }
            let shell = try shell(CaptureText.pcap(Record.numbered(frames), link: link.rawValue))
            #expect(try replay(shell).code == 0)
            #expect(
                try shell.lines("v.jsonl") == [injected(0, "ipip"), passed(1), passed(2)])
        }
    }

    @Test func aFrameCutByTheCaptureIsTooSmall() throws {
        let whole = Link.ethernet.frame(Sample.allModes[0])
        let record = Record(bytes: Array(whole.dropLast(4)), wireLength: whole.count)
        let shell = try shell(CaptureText.pcap([record], link: 1))
        #expect(try replay(shell).code == 0)
        #expect(try shell.lines("v.jsonl") == [dropped(0, "pkt_too_small")])
    }

    /// A probe from a link-local address without a tunnel, and the same from another address.
    @Test func aNativeProbeIsNamed() throws {
        let shell = try Shell()
        try shell.write(
            "c.yaml",
            Sample.configuration
                + """

                inner:
                  rewriteSources: [{from: "fe80::9", to: "2603::9", interface: eth0}]

                """)
        func packet(_ source: [UInt8], _ last: UInt8, _ checksum: [UInt8]) -> [UInt8] {
            [0x60, 0, 0, 0, 0, 8, 17, 64] + source + [UInt8](repeating: 0, count: 13) + [last]
                + [0x20, 1, 0x0d, 0xb8, 0, 2] + [UInt8](repeating: 0, count: 9) + [9]
                + [0x9c, 0x40, 0, 53, 0, 8] + checksum
        }
        let frames = [UInt8(9), 8].map {
            [UInt8](repeating: 2, count: 12) + [0x86, 0xdd]
                + packet([0xfe, 0x80], $0, [0x12, 0x34])
        }
        try shell.write("in.pcap", CaptureText.pcap(Record.numbered(frames), link: 1))
        #expect(try replay(shell).code == 0)
        #expect(try shell.lines("v.jsonl") == [injected(0, "native"), passed(1)])
        // The sum over the addresses grew by 0x2603 - 0xfe80, so the checksum goes the other way.
        #expect(
            try Array(shell.read("out.pcap").suffix(48)) == packet([0x26, 3], 9, [0xea, 0xb1]))
    }

    @Test func paddingIsTrimmed() throws {
        let frame = Link.ethernet.frame(Sample.allModes[0]) + [UInt8](repeating: 0x55, count: 9)
        let shell = try shell(CaptureText.pcap([Record(bytes: frame)], link: 1))
        #expect(try replay(shell).code == 0)
        #expect(
            try shell.read("out.pcap") == CaptureText.output([Record(bytes: Sample.inner4)]))
    }

    @Test func theRewrittenHeadIsInTheOutput() throws {
        func inner(mss: Int, trafficClass: UInt8) -> [UInt8] {
            let segment = syn(Sample.client, Sample.pod, mss: mss)
            return ipv4(Sample.client, Sample.pod, 6, segment, trafficClass: trafficClass)
        }
        // Outer CE onto inner ECT(0) is CE (RFC 6040), and 1460 becomes what the link takes.
        let frame = Sample.outer4(inner(mss: 1460, trafficClass: 2), trafficClass: 3)
        let shell = try shell(CaptureText.pcap([Record(bytes: frame)], link: 101))
        #expect(try replay(shell).code == 0)
        #expect(try shell.lines("v.jsonl") == [injected(0, "ipip", device: "pod1")])
        let expected = Record(bytes: inner(mss: 1440, trafficClass: 3))
        #expect(try shell.read("out.pcap") == CaptureText.output([expected]))
    }

    @Test func anInterfaceThatATunnelDoesNotListPasses() throws {
        let shell = try shell(CaptureText.pcap([Record(bytes: Sample.allModes[0])], link: 101))
        let tunnel = "- name: lvs\n    interfaces: [eth1]"
        try shell.write(
            "c.yaml", Sample.configuration.replacing("- name: lvs", with: tunnel))
        for (interface, line) in [("eth0", passed(0)), ("eth1", injected(0, "ipip"))] {
            let outcome = try shell.shuck(
                "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
                "--verdicts", "-", "--interface", interface)
            #expect(outcome.code == 0)
            #expect(outcome.output == line + "\n")
        }
    }

    // MARK: the same again

    @Test func theSameCaptureGivesTheSameBytes() throws {
        // Several batches, and a last one that is not full.
        let frames = (0..<333).map { Sample.allModes[$0 % 4] }
        let shell = try shell(CaptureText.pcap(Record.numbered(frames), link: 101))
        var results: [[[UInt8]]] = []
        for _ in 0..<2 {
            let outcome = try shell.shuck(
                "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
                "--verdicts", "v.jsonl", "--replies", "r.pcap")
            #expect(outcome.code == 0)
            results.append(try ["out.pcap", "v.jsonl", "r.pcap"].map { try shell.read($0) })
        }
        #expect(results[0] == results[1])
        #expect(
            try shell.lines("v.jsonl") == (0..<333).map { injected($0, Self.modes[$0 % 4]) })
        let inner = (0..<333).map { Sample.allInner[$0 % 4] }
        #expect(results[0][0] == CaptureText.output(Record.numbered(inner)))
        #expect(results[0][2] == CaptureText.output([]))
    }

    @Test func standardOutput() throws {
        let shell = try shell(CaptureText.pcap([Record(bytes: Sample.allModes[0])], link: 101))
        let outcome = try shell.shuck(
            "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "-")
        #expect(outcome.code == 0)
        #expect(
            outcome.outputBytes == CaptureText.output([Record(bytes: Sample.inner4)]))
    }

    @Test func theSummaryAsJSON() throws {
        let wrong = ipv4([8, 8, 8, 8], Sample.node, 4, Sample.inner4)
        let records = Record.numbered([Sample.allModes[0], wrong])
        let shell = try shell(CaptureText.pcap(records, link: 101))
        let outcome = try shell.shuck(
            "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "/dev/null",
            "--verdicts", "/dev/null", "--json")
        #expect(
            outcome.error.hasSuffix(
                """
                {"dropped":1,"frames":2,"held":0,"injected":1,"passed":0,\
                "reasons":{"remote_not_allowed":1},"replied":0}

                """))
    }

    // MARK: what cannot be read or written

    @Test func aTruncatedFileGivesWhatCameBefore() throws {
        let whole = CaptureText.pcap(Record.numbered(Sample.allModes), link: 101)
        for cut in [5, Sample.allModes[3].count + 7] {
            let shell = try shell(Array(whole.dropLast(cut)))
            let outcome = try replay(shell)
            #expect(outcome.code == 1)
            #expect(outcome.error.contains("shuck: in.pcap: packet 3: truncated dump file"))
            #expect(try shell.lines("v.jsonl").count == 3)
            #expect(
                try shell.read("out.pcap")
                    == CaptureText.output(Record.numbered(Array(Sample.allInner.prefix(3)))))
        }
    }

    @Test func whatIsNoCaptureOverwritesNothing() throws {
        let frames = [Record(bytes: [0, 0, 0, 2])]
        let inputs: [([UInt8], String)] = [
            (Array("hello, world: no capture".utf8), "unknown file format"),
            ([], "truncated dump file"),
            (CaptureText.pcap(frames, link: 0), "link type NULL (0) is not supported"),
        ]
        for (input, message) in inputs {
            let shell = try shell(input)
            try shell.write("out.pcap", "precious")
            let outcome = try replay(shell)
            #expect(outcome.code == 1)
            #expect(outcome.error.contains("shuck: in.pcap: \(message)"), "\(outcome.error)")
            #expect(try shell.text("out.pcap") == "precious")
        }
    }

    @Test func aMissingInputOrOutput() throws {
        let shell = try shell(CaptureText.pcap([], link: 1))
        let noInput = try shell.shuck(
            "replay", "--config", "c.yaml", "--in", "none.pcap", "--out", "out.pcap")
        #expect(noInput.code == 1)
        #expect(noInput.error.contains("shuck: none.pcap: No such file or directory"))
        let noOutput = try shell.shuck(
            "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "none/out.pcap")
        #expect(noOutput.code == 1)
        #expect(noOutput.error.contains("none/out.pcap: No such file or directory"))
        let noVerdicts = try shell.shuck(
            "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
            "--verdicts", "none/v.jsonl")
        #expect(noVerdicts.code == 1)
        #expect(noVerdicts.error.contains("none/v.jsonl cannot be written: No such file"))
        let full = try shell.shuck(
            "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "/dev/full")
        #expect(full.code == 1)
        #expect(full.error.contains("/dev/full could not be written to its end: No space left"))
    }

    @Test func wrongUsage() throws {
        let shell = try shell(CaptureText.pcap([], link: 1))
        let input = try shell.read("in.pcap")
        let given = ["--in", "in.pcap", "--out", "out.pcap", "--config", "c.yaml"]
        let cases: [([String], String)] = [
            (
                given + ["--interface", "lo"],
                "--interface lo is not configured; there are eth0, eth1"
            ),
            (given + ["--rules", "l.json"], "--rules lead to routes: give --routes too"),
            (["--in", "in.pcap", "--config", "c.yaml"], "Missing expected argument '--out"),
            (["--in", "in.pcap", "--out", "./in.pcap"], "--out is the file that --in reads"),
            (
                ["--in", "in.pcap", "--out", "-", "--verdicts", "-"],
                "--out and --verdicts are the same file"
            ),
            (
                ["--in", "in.pcap", "--out", "a", "--replies", "./a"],
                "--out and --replies are the same file"
            ),
        ]
        for (arguments, message) in cases {
            let outcome = try shell.run(["replay"] + arguments)
            #expect(outcome.code == 2)
            #expect(outcome.error.contains(message), "\(outcome.error)")
        }
        #expect(try shell.read("in.pcap") == input)
    }

    @Test func aBadConfiguration() throws {
        let shell = try shell(CaptureText.pcap([], link: 1))
        try shell.write("c.yaml", "interfaces: eth0\n")
        let outcome = try replay(shell)
        #expect(outcome.code == 1)
        #expect(outcome.error.contains("c.yaml:1:1: tunnels"))
        #expect(outcome.output == "")
        #expect(!shell.exists("out.pcap"))
    }
}
