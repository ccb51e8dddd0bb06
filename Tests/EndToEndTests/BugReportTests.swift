// shuck bugreport beside a running shuck: each file of the archive, and what other verbs make of it.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct BugReportTests {
        /// From no remote.
        private static let stranger = IPPacket.datagram("100.66.0.1", "100.65.1.9").wrapped(
            from: "10.99.3.1", to: "10.77.0.2")

        /// Starts shuck in a sandbox, waits until it answers, sends it a frame that it refuses, and
        /// collects reports in /etc/shuck, the second with pseudonyms.
        private static let script = """
            cat >/etc/shuck/shuck.yaml <<'END'
            # why: the balancers of row 7
            interfaces: [eth0]
            tunnels:
              - name: lvs
                local: [10.77.0.2, "2400:cb00::2"]
                remotes: [10.77.64.0/26, "2400:cb00:0:1::/64"]
                destinations: [{prefix: 100.65.1.9/32}]
            admin: {socket: /etc/shuck/shuck.sock}
            END
            mkdir /etc/shuck/shuck.d
            echo 'tunnels: [{name: lvs, destinations: [{prefix: 100.65.1.10/32}]}]' >/etc/shuck/shuck.d/a.yaml
            ip link delete shuck0
            ip address add 10.77.0.2/16 dev eth0
            ip route add default via 10.77.0.1
            ip -6 route add 2400:cb00:7::/48 dev eth0
            ip rule add from 10.77.64.0/26 lookup main priority 100
            ip link set eth0 address 02:00:00:00:02:02
            $SHUCK run & pid=$!
            for i in $(seq 200); do
                $SHUCK status --socket /etc/shuck/shuck.sock >/dev/null && break; sleep 0.05
            done
            cd /etc/shuck
            echo \(stranger.frame) | \(Tools.lab) send-raw balancer
            for i in $(seq 100); do
                $SHUCK status --socket shuck.sock --json | grep -q remote_not_allowed && break; sleep 0.05
            done
            $SHUCK bugreport --socket shuck.sock --interval 1 -o r.tar
            tar xf r.tar
            $SHUCK bugreport --socket shuck.sock --interval 0 --anonymise -o - |
                tar xf - --one-top-level=other

            """
        private static let stop = "\nkill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.02; done"

        @Test func eachFileOfTheReportIsThereAndUsable() throws {
            try Sandbox.with { sandbox in
                try sandbox.run(Self.script + Self.stop)
                func report(_ name: String) throws -> String {
                    try sandbox.run("cat /etc/shuck/shuck-bugreport/" + name)
                }
                let summary = try report("summary.txt")
                #expect(summary.contains("daemon: answers at shuck.sock"), "\(summary)")
                #expect(try report("configuration/shuck.yaml").hasPrefix("# why: the balancers of row 7"))
                #expect(try report("configuration/shuck.d/a.yaml").contains("100.65.1.10"))
                #expect(try report("effective.yaml") == report("running.yaml"))
                #expect(try report("status.json").contains("10.99.3.1 > 10.77.0.2 ipip 100.66.0.1"))
                let metrics = try [report("metrics-1.txt"), report("metrics-2.txt")]
                #expect(metrics.allSatisfy { $0.contains("shuck_received_packets_total") })
                #expect(try report("routes-4.json").contains("10.77.0.1"))
                #expect(try report("routes-6.json").contains("2400:cb00:7::/48"))
                #expect(try report("rules-4.json").contains("10.77.64.0"))
                #expect(try report("versions.txt").contains("kernel"))
                let doctor = try sandbox.attempt(
                    "cd /etc/shuck/shuck-bugreport; $SHUCK doctor --json --facts facts.json")
                #expect(try doctor.output == report("doctor.json"))
                try sandbox.run(Self.reuse)
            }
        }

        /// Other verbs on what a report holds.
        private static let reuse = """
            set -e
            cd /etc/shuck/shuck-bugreport
            $SHUCK check --no-host --config configuration/shuck.yaml >checked.yaml
            cmp checked.yaml effective.yaml
            printf '\\324\\303\\262\\241\\2\\0\\4\\0\\0\\0\\0\\0\\0\\0\\0\\0' >none.pcap
            printf '\\377\\377\\0\\0\\1\\0\\0\\0' >>none.pcap
            $SHUCK replay --config effective.yaml --in none.pcap --out /dev/null \\
                --routes routes-4.json routes-6.json nexthops.json links.json \\
                --rules rules-4.json rules-6.json
            """

        private struct Findings: Decodable {
            struct Line: Decodable, Hashable {
                let condition: String
                let level: String
            }
            let diagnoses: [Line]

            init(_ text: String) throws {
                self = try JSONDecoder().decode(Findings.self, from: Data(text.utf8))
            }

            /// Without the order of lines about several addresses.
            var counts: [Line: Int] { diagnoses.reduce(into: [:]) { $0[$1, default: 0] += 1 } }
        }

        @Test func pseudonymsHideAddressesAndChangeNoAnswer() throws {
            try Sandbox.with { sandbox in
                try sandbox.run(Self.script + Self.stop)
                // No file of the report names an address of the network.
                let named = try sandbox.run(
                    """
                    cd /etc/shuck
                    for address in 10.77.0.1 10.77.0.2 10.77.64.0 10.99.3.1 100.66.0.1 100.65.1.9 \\
                        100.65.1.10 2400:cb00::2 2400:cb00:0:1:: 2400:cb00:7::; do echo $address; done >list
                    grep -rlwFf list shuck-bugreport | wc -l
                    cd other; grep -rwFf ../list . || :
                    """)
                let lines = named.split(separator: "\n").map(String.init)
                #expect((Int(lines[0]) ?? 0) >= 8 && lines.count == 1, "\(named)")
                try sandbox.run("cd /etc/shuck && rm -r shuck-bugreport && mv other/shuck-bugreport .")
                try sandbox.run(Self.reuse)
                let saved = try sandbox.attempt(
                    "cd /etc/shuck/shuck-bugreport; $SHUCK doctor --json --facts facts.json")
                let here = try sandbox.attempt("tar xOf /etc/shuck/r.tar shuck-bugreport/doctor.json")
                let report = try sandbox.run("cat /etc/shuck/shuck-bugreport/doctor.json")
                #expect(try Findings(saved.output).counts == Findings(here.output).counts)
                #expect(try Findings(saved.output).counts == Findings(report).counts)
                let summary = try sandbox.run("cat /etc/shuck/shuck-bugreport/summary.txt")
                #expect(summary.contains("Addresses are pseudonyms"), "\(summary)")
            }
        }

        @Test func aFullDiskLeavesNoHalfWrittenFile() throws {
            try Sandbox.with { sandbox in
                let result = try sandbox.attempt(
                    """
                    mkdir /etc/shuck/small
                    mount -t tmpfs -o size=8k tmpfs /etc/shuck/small
                    echo old >/etc/shuck/small/r.tar
                    $SHUCK bugreport --socket none -o /etc/shuck/small/r.tar
                    echo "code $?"; ls -A /etc/shuck/small; cat /etc/shuck/small/r.tar
                    """)
                #expect(result.output == "code 3\nr.tar\nold\n", "\(result)")
                #expect(result.errors.contains("No space left on device"), "\(result)")
            }
        }
    }
}
