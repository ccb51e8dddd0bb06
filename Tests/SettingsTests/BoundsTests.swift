// The bounds of each value: the last on either side that is taken, and the first beyond, which is refused.

import Testing

@testable import Settings

/// One value in a file that is right but for it: `%` stands for it.
struct Bounds: Sendable, CustomTestStringConvertible {
    var place: String
    var taken: [String]
    var refused: [String]
    var testDescription: String { place }

    init(_ place: String, taken: [String], refused: [String]) {
        self.place = place
        self.taken = taken
        self.refused = refused
    }

    func file(_ value: String) -> String {
        let text = place.split(separator: "%", omittingEmptySubsequences: false)
            .joined(separator: value)
        var lines = ["interfaces: [eth0]"]
        if !text.hasPrefix("tunnels:") {
            lines.append("tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/26]}]")
        }
        return (lines + [text, ""]).joined(separator: "\n")
    }
}

private func repeated(_ count: Int, of text: String = "n", behind first: String = "") -> String {
    first + String(repeating: text, count: count - first.utf8.count)
}

private func tunnel(_ text: String) -> String {
    "tunnels: [{local: [192.0.2.2], remotes: [192.0.2.64/26], \(text)}]"
}

private func destination(_ text: String) -> String {
    tunnel("name: lvs, destinations: [{\(text)}]")
}

private let names = [
    Bounds(
        tunnel("name: \"%\""), taken: ["a", "AZaz09_.-", repeated(63)],
        refused: ["", repeated(64), "a b", "@", "[", "`", "{", "/", ":", "ä", ","]),
    Bounds(
        "devices: [{name: \"%\"}]", taken: ["a", "~!@", repeated(15), "ä"],
        refused: ["", repeated(16), ".", "..", "a b", "a/b", "a:b", "a%b", "a\\x7f"]),
    Bounds(
        "devices: [{name: d, netns: \"%\"}]",
        taken: ["/a b", repeated(4095, behind: "/")],
        refused: ["", "a", "a/b", repeated(4096, behind: "/"), "/\\x1f", "/\\x7f"]),
    Bounds(
        "admin: {socket: \"%\"}", taken: ["/a", repeated(107, behind: "/")],
        refused: ["", "a", repeated(108, behind: "/")]),
    Bounds(
        "admin: {mode: \"%\"}", taken: ["0600", "600", "0777", "0000"],
        refused: ["", "60", "0800", "0080", "0008", "06000", "1600", "6600", "-600", "rw"]),
    Bounds(
        "admin: {group: \"%\"}", taken: ["a", "0", "AZaz09_.-", repeated(32)],
        refused: ["", repeated(33), "-a", "a b", "@", "[", "`", "{", "/", ":"]),
    Bounds(
        "admin: {listen: \"%\"}",
        taken: [
            "localhost:1", "127.0.0.1:65535", "AZ-az.09:80", "[2001:db8::1]:80",
        ],
        refused: [
            ":80", "h", "h:", "h:0", "h:65536", "h_:80", "@:80", "[:80", "`:80", "{:80", "/:80",
            "a:b:80", "[127.0.0.1]:80", "[h]:80", "::1:80", "[::1:80", "::1]:80",
        ]),
]

private let destinations = [
    Bounds(
        destination("prefix: \"%\""),
        taken: ["10.2.1.9", "10.2.1.9/32", "0.0.0.0/0", "::/0", "2001:db8::9/128"],
        refused: ["10.2.1.9/33", "10.2.1.9/31", "10.2.1.9/-1", "2001:db8::9/129", "10.2.1", ""]),
    Bounds(
        destination("prefix: 10.2.1.9, protocol: %"),
        taken: ["0", "3", "5", "40", "42", "46", "48", "136", "138", "255", "any", "udp"],
        refused: ["-1", "256", "4", "41", "47", "137", "ipip", "ipv6", "gre", "mpls"]),
    Bounds(
        destination("prefix: 10.2.1.9, protocol: tcp, ports: [%]"),
        taken: ["1", "65535", "1-65535", "7-7", "\"7-8\""],
        refused: ["0", "65536", "0-1", "1-65536", "8-7", "1-2-3", "\"-\"", "\"1-\"", "-1"]),
    Bounds(
        destination("prefix: 10.2.1.9, protocol: %, ports: [1]"),
        taken: ["tcp", "udp", "dccp", "sctp", "udplite", "6", "17", "33", "132", "136"],
        refused: ["any", "icmp", "0", "5", "7", "16", "18", "32", "34", "131", "133", "135"]),
    Bounds(
        destination("prefix: 10.2.1.9, protocol: %, mss: 1400"), taken: ["tcp", "any"],
        refused: ["udp", "5", "7"]),
    Bounds(
        destination("prefix: 10.2.1.9, mss: %"), taken: ["536", "1480", "auto", "off"],
        refused: ["535", "1481", "0", "-1"]),
    Bounds(
        destination("prefix: \"2001:db8::9\", mss: %"), taken: ["1220", "1440", "auto", "off"],
        refused: ["1219", "1441"]),
]

private let numbers = [
    Bounds(
        "devices: [{name: d, mtu: %}]", taken: ["576", "65535"], refused: ["575", "65536", "-1"]),
    Bounds("mss: {ipv4: %}", taken: ["536", "1480"], refused: ["535", "1481"]),
    Bounds("mss: {ipv6: %}", taken: ["1220", "1440"], refused: ["1219", "1441"]),
    Bounds("icmp: {ratePerSecond: %}", taken: ["0", "1000000"], refused: ["-1", "1000001"]),
    Bounds("icmp: {burst: %}", taken: ["1", "1000000"], refused: ["0", "1000001"]),
    Bounds(
        "outer: {fragments: {memory: %}}",
        taken: ["0", "256KiB", "262144", "1GiB", "1073741824", "1024MiB"],
        refused: ["1", "262143", "255KiB", "1073741825", "1025MiB", "2GiB", "-1", "1KB"]),
    Bounds(
        "outer: {fragments: {timeout: %}}",
        taken: ["1s", "1000ms", "1000000us", "300s", "5m"],
        refused: ["0", "999ms", "999999us", "301s", "300001ms", "6m", "1h", "5"]),
    Bounds(
        "workers: {busyPoll: %}", taken: ["0", "0us", "1us", "1s", "1000ms"],
        refused: ["1001ms", "1000001us", "2s", "1m", "5"]),
    Bounds(
        "workers: {cpus: \"%\"}", taken: ["0", "8191", "0-3,8", "8,0-3", "3-3"],
        refused: ["8192", "0-8192", "3-2", "0-3,3", "1-2-3", "", ",", "1,", "-1", "a"]),
]

/// Sources that may be rewritten, and what to: ::/96, site-local and multicast are nobody's.
private let rewrites = [
    Bounds(
        "inner: {rewriteSources: [{from: \"%\", to: \"2001:db8::1\", interface: eth0}]}",
        taken: [
            "fe80::1", "febf:ffff::1", "fe7f:ffff::1", "2001:db8::5", "::1:0:0", "fdff:ffff::1",
        ],
        refused: [
            "::", "::1", "::ffff:ffff", "fec0::1", "feff:ffff::1", "ff00::1", "ffff::1",
            "192.0.2.1",
        ]),
    Bounds(
        "inner: {rewriteSources: [{from: \"fe80::9\", to: \"%\", interface: eth0}]}",
        taken: ["2001:db8::1", "fe7f:ffff::1", "::1:0:0", "fdff:ffff::1"],
        refused: [
            "::", "::1", "::ffff:ffff", "fe80::1", "febf:ffff::1", "fec0::1", "feff:ffff::1",
            "ff00::1", "ffff::1", "192.0.2.1",
        ]),
]

@Suite struct BoundsTests {
    @Test(arguments: names + destinations + numbers + rewrites)
    func theLastIsTakenAndTheNextIsNot(_ bounds: Bounds) {
        for value in bounds.taken {
            let (configuration, problems) = load(bounds.file(value))
            #expect(configuration != nil, "\(value): \(problems)")
        }
        for value in bounds.refused {
            let (configuration, problems) = load(bounds.file(value))
            #expect(configuration == nil, "\(value)")
            #expect(problems.contains { $0.severity == .error }, "\(value)")
        }
    }

    private func load(_ text: String) -> (configuration: Configuration?, problems: [Problem]) {
        Configuration.load(files: [("bounds.yaml", text)])
    }

    /// What the workers reckon with.
    @Test(
        arguments: [
            ("1s", 1_000_000_000), ("1500ms", 1_500_000_000), ("1000001us", 1_000_001_000),
            ("5m", 300_000_000_000), ("30s", 30_000_000_000),
        ] as [(String, UInt64)])
    func timesBecomeNanoseconds(text: String, nanoseconds: UInt64) throws {
        let file = Bounds("outer: {fragments: {timeout: %}}", taken: [], refused: []).file(text)
        let configuration = try #require(load(file).configuration)
        #expect(configuration.outer.fragments.timeout.nanoseconds == nanoseconds)
    }

    @Test func anInterfaceThatTheHostLacksIsAWarning() {
        let file = Bounds("%", taken: [], refused: []).file("mode: active")
        for (has, count) in [(true, 0), (false, 1)] {
            let (configuration, problems) = Configuration.load(
                files: [("bounds.yaml", file)],
                hostHas: { name in
                    #expect(name == "eth0")
                    return has
                })
            #expect(configuration != nil)
            let told = problems.filter { $0.message.contains("this host has no \"eth0\"") }
            #expect(told.count == count)
            #expect(told.allSatisfy { $0.severity == .warning })
        }
    }

    /// A message leads to the file that says it, not to the one that said so first.
    @Test func aKeyStandsWhereItsValueComesFrom() {
        let first = Bounds("reversePath: {interfaces: {%}}", taken: [], refused: [])
            .file("eth9: loose")
        let second = "reversePath: {interfaces: {eth9: off}}\n"
        let (_, problems) = Configuration.load(files: [("first", first), ("second", second)])
        let told = problems.filter { $0.message.contains("eth9 is not among interfaces") }
        #expect(told.map(\.file) == ["second"])
    }

    @Test func aPrefixAloneIsToldHowADestinationIsWritten() {
        let file = Bounds(tunnel("name: lvs, destinations: [%]"), taken: [], refused: [])
            .file("10.2.1.9/32")
        let (_, problems) = load(file)
        #expect(
            problems.contains {
                $0.message.contains("is not a mapping; write {prefix: \"10.2.1.9/32\"}")
            }, "\(problems)")
    }

    /// One slip for each three letters, three at most; or the beginning of a word.
    @Test(arguments: [
        ("ab", "ax", true), ("ab", "xy", false), ("abc", "abx", true), ("abc", "acb", true),
        ("abc", "bxc", false), ("abcde", "abcxe", true), ("abcde", "abxye", false),
        ("abcdef", "abxyef", true), ("abcdef", "axyzef", false), ("abcdef", "badcef", true),
        ("abcdefghi", "xyzdefghi", true), ("abcdefghi", "xyzvefghi", false),
        ("abcdefghijkl", "xyzdefghijkl", true), ("abcdefghijkl", "xyzvefghijkl", false),
        ("abc", "abcdefgh", true), ("ab", "abcdefgh", false), ("abc", "xabcdefg", false),
        ("ABC", "abd", true), ("abcdef", "abcd", true), ("abcd", "abcdef", true),
    ])
    func whatIsMeant(word: String, candidate: String, isMeant: Bool) {
        #expect(ValueSyntax.nearest(word, among: [candidate]) == (isMeant ? candidate : nil))
    }

    @Test func spellingsAreTheShortest() {
        #expect(ValueSyntax.rangeText(80...80) == "80")
        #expect(ValueSyntax.rangeText(80...81) == "80-81")
        #expect(ValueSyntax.cpusText([5]) == "5")
        #expect(ValueSyntax.cpusText([8, 0, 2, 1]) == "0-2,8")
        #expect(ValueSyntax.cpusText([1, 3, 6, 7]) == "1,3,6-7")
        for (bytes, text) in [
            (0, "0"), (1, "1"), (1023, "1023"), (1 << 10, "1KiB"), (1 << 20, "1MiB"),
            (1 << 30, "1GiB"), (1025 << 10, "1025KiB"), (3 << 20, "3MiB"), (1 << 10 | 1, "1025"),
        ] {
            #expect(ValueSyntax.sizeText(bytes) == text)
            #expect(ValueSyntax.size(text) == bytes)
        }
        for (microseconds, text) in [
            (0, "0us"), (1, "1us"), (1500, "1500us"), (1000, "1ms"), (1_001_000, "1001ms"),
            (1_000_000, "1s"), (90_000_000, "90s"), (60_000_000, "1m"), (5_400_000_000, "90m"),
            (3_600_000_000, "1h"), (10_800_000_000, "3h"),
        ] {
            #expect(ValueSyntax.durationText(.microseconds(microseconds)) == text)
            #expect(ValueSyntax.duration(text) == .microseconds(microseconds))
        }
    }

    @Test func theNearestIsMeant() {
        #expect(ValueSyntax.nearest("abcdef", among: ["abxyef", "abxdef", "abcdxy"]) == "abxdef")
    }

    @Test func interfacesOfTheReversePathAreSortedByName() throws {
        let all = ["eth0", "a1", "z9", "m5"]
        let modes = all.map { "\($0): loose" }.joined(separator: ", ")
        let file =
            "interfaces: [\(all.joined(separator: ", "))]\n"
            + "tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/26]}]\n"
            + "reversePath: {interfaces: {\(modes)}}\n"
        let text = try #require(load(file).configuration).yaml
        let places = try all.sorted().map {
            try #require(text.firstRange(of: "\($0): loose")).lowerBound
        }
        #expect(places == places.sorted(), "\(text)")
    }
}
