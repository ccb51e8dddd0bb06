// shuck probe, as far as it sends nothing: usage, files of targets, permission.

import Foundation
import Testing

@Suite struct ProbeTests {
    private static let addresses =
        "--outer-src 127.0.0.1 --outer-dst 127.0.0.1 --inner-src 127.0.0.1 --inner-dst 127.0.0.1"

    /// `ALL` stands for all four addresses.
    private static let wrong: [(String, String)] = [
        ("--outer-src 192.0.2.1", "--outer-dst is missing"),
        ("ALL", "--port is missing"),
        ("ALL --port 0", "--port is missing"),
        ("ALL --port 65536", "--port"),
        ("ALL --protocol icmp --port 80", "ICMP has no ports"),
        ("ALL --protocol sctp --port 80", "sctp"),
        ("ALL --port 80 --outer-src ::1", "--outer-src and --outer-dst are of one family"),
        ("ALL --port 80 --inner-dst ::1", "--inner-src and --inner-dst are of one family"),
        ("ALL --port 80 --inner-dst web", "--inner-dst takes an IPv4 or IPv6 address"),
        ("ALL --port 80 --protocol \u{1b}[31m", "\\u{1b}[31m"),
        ("ALL --port 80 --outer-src 0.0.0.0", "--outer-src takes the address of a host, not 0.0.0.0"),
        ("ALL --port 80 --inner-src ::", "--inner-src takes the address of a host, not ::"),
        ("ALL --port 80 --count 0", "--count takes 1 to 100000"),
        ("ALL --port 80 --interval 0", "--interval takes 0.001 to 3600"),
        ("ALL --port 80 --timeout 16", "--timeout takes 0.01 to 15"),
        ("ALL --port 80 --timeout nan", "--timeout takes 0.01 to 15"),
        ("ALL --port 80 --resume r", "--retries and --resume go with --targets"),
        ("--targets t.yaml --outer-src 192.0.2.1", "--outer-src comes from the file"),
        ("--targets t.yaml --port 80", "--port comes from the file"),
        ("--targets t.yaml --path-mtu", "--path-mtu asks one tuple"),
        ("--targets t.yaml --through eth0", "--through asks one tuple"),
        ("--targets t.yaml --retries 101", "--retries takes 0 to 100"),
    ]

    @Test(arguments: wrong)
    func wrongUsageEndsWith2(_ arguments: String, _ message: String) throws {
        let words = arguments.replacing("ALL", with: Self.addresses).split(separator: " ").map(String.init)
        let outcome = try Shell().run(["probe"] + words)
        #expect(outcome.code == 2, "\(outcome.error)")
        #expect(outcome.error.contains(message), "\(outcome.error)")
        #expect(outcome.output == "")
    }

    @Test func aFileOfTargetsIsCheckedBeforeAnythingIsSent() throws {
        let shell = try Shell()
        try shell.write("t.yaml", "outerSources: [192.0.2.300]\n")
        let outcome = try shell.shuck("probe", "--targets", "t.yaml")
        #expect(outcome.code == 1)
        #expect(
            outcome.error.hasPrefix(
                "t.yaml:1:1: innerSources: missing; write innerSources: [192.0.2.1]\n"), "\(outcome.error)")
        #expect(
            outcome.error.contains(
                "t.yaml:1:16: outerSources[0]: \"192.0.2.300\" is not an address; write an IPv4 or"
            ))
        let missing = try shell.shuck("probe", "--targets", "none.yaml")
        #expect(missing.code == 1)
        #expect(missing.error == "shuck: none.yaml cannot be read: No such file or directory\n")
        try shell.write("bytes.yaml", [0xff, 0xfe])
        let bytes = try shell.shuck("probe", "--targets", "bytes.yaml")
        #expect(bytes.error.contains("bytes.yaml is not UTF-8 text: save it as UTF-8"), "\(bytes.error)")
    }

    @Test("without CAP_NET_RAW it says what to grant", .enabled(if: geteuid() == 0, "needs root"))
    func withoutCapability() throws {
        let outcome = try Shell().script(
            """
            exec setpriv --bounding-set -net_raw --inh-caps -net_raw \
            "$SHUCK" probe \(Self.addresses) --port 80
            """)
        #expect(outcome.code == 3)
        #expect(
            outcome.error == """
                shuck: socket(SOCK_RAW) on probes: Operation not permitted; grant CAP_NET_RAW: run as root, \
                or setcap cap_net_raw+ep on the binary

                """)
    }
}
