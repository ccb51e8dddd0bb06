// Breaks a host for real, finds it with `shuck doctor`, runs the command that it prints, and finds it gone.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct DoctorTests {
        struct Break: Sendable {
            let condition: String
            /// A part of the fact that doctor must name.
            let fact: String
            /// Lines of sh(1) that break the host.
            let script: String
            /// Lines that put back what the printed command does not.
            var after = ""
        }

        private struct Report: Decodable {
            struct Diagnosis: Decodable {
                let condition: String
                let level: String
                let fact: String
                let command: String?
            }
            let diagnoses: [Diagnosis]

            func line(_ one: Break) -> Diagnosis? {
                diagnoses.first {
                    $0.condition == one.condition && $0.fact.contains(one.fact) && $0.level != "ok"
                }
            }
        }

        private static let configuration = """
            interfaces: [eth0]
            tunnels:
              - name: lvs
                local: [192.0.2.2, "2001:db8::2"]
                remotes: [192.0.2.64/28, "2001:db8:0:1::/64"]
                destinations: [{prefix: 203.0.113.10/32}, {prefix: "2001:db8:f::10/128"}]
            """

        private func diagnose(_ sandbox: Sandbox) throws -> (report: Report, status: Int32) {
            let result = try sandbox.attempt("$SHUCK doctor --json")
            return (try JSONDecoder().decode(Report.self, from: Data(result.output.utf8)), result.status)
        }

        @Test func eachConditionIsBrokenFoundAndMended() throws {
            try Sandbox.with { sandbox in
                try sandbox.run("cat >/etc/shuck/shuck.yaml <<'END'\n\(Self.configuration)\nEND")
                for one in Self.breaks + Self.filters {
                    let before = try diagnose(sandbox)
                    #expect(before.report.line(one) == nil, "\(one.condition) before it was broken")
                    try sandbox.run(one.script)
                    let (report, status) = try diagnose(sandbox)
                    guard let line = report.line(one), let command = line.command else {
                        Issue.record("\(one.script): no command in \(report.diagnoses)")
                        continue
                    }
                    #expect(line.level == "warning" || status == 1, "\(line)")
                    // There is no daemon to reload.
                    try sandbox.run("shuck() { :; }\n" + command)
                    let after = try diagnose(sandbox)
                    #expect(after.report.line(one) == nil, "\(one.condition) after \(command)")
                    if !one.after.isEmpty { try sandbox.run(one.after) }
                }
                let end = try diagnose(sandbox)
                #expect(end.status == 0, "\(end.report.diagnoses.filter { $0.level != "ok" })")
            }
        }

        /// Starts shuck in a sandbox, and waits until it answers.
        private static let start = """
            $SHUCK run & echo $! >/etc/shuck/pid
            for i in $(seq 200); do
                $SHUCK status --socket /etc/shuck/shuck.sock >/dev/null && break; sleep 0.05
            done

            """
        private static let stop =
            "pid=$(cat /etc/shuck/pid); kill $pid; while kill -0 $pid; do sleep 0.02; done\n"

        private func runningShuck(_ sandbox: Sandbox) throws {
            let more = "mss: {replies: nft}\nadmin: {socket: /etc/shuck/shuck.sock}"
            try sandbox.run("cat >/etc/shuck/shuck.yaml <<'END'\n\(Self.configuration)\n\(more)\nEND")
            try sandbox.run("ip link delete shuck0\n" + Self.start)
        }

        @Test func aRunningShuckLeavesNothingToMend() throws {
            try Sandbox.with { sandbox in
                try runningShuck(sandbox)
                let report = try diagnose(sandbox).report
                #expect(report.diagnoses.allSatisfy { $0.level == "ok" }, "\(report)")
                #expect(report.diagnoses.contains { $0.fact == "shuck0: as shuck sets them" })
                #expect(report.diagnoses.contains { $0.fact.contains("shuck_claim (tcx)") })
                // A user without privileges is told what could not be read; 126: may not run the executable.
                let user = try sandbox.attempt(
                    "setpriv --reuid 65534 --clear-groups --inh-caps=-all $SHUCK doctor")
                #expect(user.status == 3 || user.status == 126, "\(user)")
                try sandbox.run(Self.stop)
            }
        }

        /// A program that passes every frame on, before all others at tcx, for as long as it runs.
        private static let rival = """
            #include <linux/bpf.h>
            #include <net/if.h>
            #include <string.h>
            #include <sys/syscall.h>
            #include <unistd.h>

            int main(void)
            {
                struct bpf_insn code[] = {{ .code = 0xb7, .imm = -1 }, { .code = 0x95 }};
                union bpf_attr program = { .prog_type = BPF_PROG_TYPE_SCHED_CLS, .insn_cnt = 2,
                    .insns = (unsigned long)code, .license = (unsigned long)"GPL", .prog_name = "rival" };
                int number = syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof program);
                // BPF_TCX_INGRESS, BPF_F_BEFORE
                union bpf_attr link = { .link_create = { .prog_fd = number, .attach_type = 46,
                    .target_ifindex = if_nametoindex("eth0"), .flags = 1 << 3 } };
                if (syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof link) < 0) return 1;
                return pause();
            }
            """

        @Test func aProgramBeforeTheClaimIsFoundAndARestartMendsIt() throws {
            try Sandbox.with { sandbox in
                try runningShuck(sandbox)
                // Swift brings a C compiler with it; it need not be in the path.
                try sandbox.run(
                    """
                    cat >/etc/shuck/rival.c <<'END'
                    \(Self.rival)
                    END
                    PATH=$(dirname "$(readlink -f "$(command -v swift)")"):$PATH
                    clang -o /etc/shuck/rival /etc/shuck/rival.c
                    /etc/shuck/rival & echo $! >/etc/shuck/rival.pid
                    """)
                let fact = "rival stands before shuck's claim at tcx of eth0"
                var command: String?
                try eventually("the rival") {
                    command = try diagnose(sandbox).report.diagnoses.first { $0.fact == fact }?.command
                    return command != nil
                }
                try sandbox.run("systemctl() {\n\(Self.stop)\(Self.start)}\n\(command ?? "")")
                let report = try diagnose(sandbox).report
                #expect(!report.diagnoses.contains { $0.fact == fact })
                #expect(report.diagnoses.contains { $0.fact.contains("shuck_claim (tcx), rival (tcx)") })
                try sandbox.run("kill $(cat /etc/shuck/rival.pid)\n" + Self.stop)
            }
        }

        /// A rule in a chain of its own; the printed commands change others' tables.
        private static func filter(
            _ condition: String, _ fact: String, hook: String, policy: String = "accept",
            rule: String = "counter",
            before: String = "", after: String = ""
        ) -> Break {
            Break(
                condition: condition, fact: fact,
                script: before + """
                    nft -f - <<END
                    table inet t {
                        chain c { type filter hook \(hook) priority 0; policy \(policy); jump d; }
                        chain d { \(rule); }
                    }
                    END
                    """, after: "nft flush ruleset; " + after)
        }

        private static let filters = [
            filter(
                "filter-policy", "chain inet t c drops", hook: "forward", policy: "drop"),
            filter(
                "filter-reverse-path", "fib saddr . iif oif missing drop", hook: "prerouting",
                rule: "fib saddr . iif oif missing drop"),
            filter("filter-invalid", "ct state invalid drop", hook: "forward", rule: "ct state invalid drop"),
            filter("filter-icmp", "ip protocol 1 drop", hook: "forward", rule: "ip protocol icmp drop"),
            filter(
                "filter-icmp", "icmpv6 type", hook: "output",
                rule: "icmpv6 type { packet-too-big, echo-request } drop"),
            filter("filter-mark", "meta mark set ct mark", hook: "prerouting", rule: "meta mark set ct mark"),
            filter(
                "filter-tunnel", "meta l4proto { 4, 41 } drop", hook: "input",
                rule: "meta l4proto { 4, 41 } drop",
                before: """
                    mkdir /etc/shuck/shuck.d
                    echo 'tunnels: [{name: lvs, otherRemotes: pass}]' >/etc/shuck/shuck.d/pass.yaml

                    """, after: "rm -r /etc/shuck/shuck.d"),
        ]

        /// A device of the configuration in a pod's namespace, all right but for its filter.
        private static let pod = """
            mkdir /etc/shuck/shuck.d
            cat >/etc/shuck/shuck.d/pod.yaml <<END
            devices: [{name: pod1, netns: /run/netns/pod}]
            tunnels: [{name: lvs, destinations: [{prefix: 203.0.113.11/32, device: pod1}]}]
            END
            ip netns add pod
            ip -n pod tuntap add pod1 mode tun
            ip -n pod link set pod1 up
            ip -n pod address add 127.0.0.42/32 scope host dev pod1
            ip netns exec pod sysctl -qw net.ipv4.conf.pod1.rp_filter=1
            """

        private static let breaks =
            [
                Break(condition: "interfaces", fact: "eth0 is down", script: "ip link set eth0 down"),
                Break(
                    condition: "programs", fact: "at xdpgeneric of eth0 sees frames before shuck",
                    script: """
                        ip link set dev eth0 xdpgeneric obj \(Tools.lab.dropLast(3))decap.bpf.o sec xdp.frags
                        """),
                Break(
                    condition: "offloads", fact: "generic-receive-offload of eth0 is off",
                    script: "ethtool -K eth0 gro off"),
                Break(
                    condition: "queues", fact: "eth0 has 1 receive queue for 2 workers",
                    script: """
                        ethtool -L eth0 rx 1 tx 1 && mkdir /etc/shuck/shuck.d
                        echo 'workers: {cpus: "0-1"}' >/etc/shuck/shuck.d/cpus.yaml
                        """, after: "rm -r /etc/shuck/shuck.d"),
                Break(
                    condition: "tun", fact: "/dev/net/tun is missing",
                    script: "mount -t tmpfs tmpfs /dev/net",
                    after: "umount /dev/net"),
                Break(condition: "devices", fact: "shuck0: it is down", script: "ip link set shuck0 down"),
                Break(
                    condition: "devices", fact: "shuck0: its mtu is 1400",
                    script: "ip link set shuck0 mtu 1400"),
                Break(
                    condition: "devices", fact: "pod1 in /run/netns/pod: its rp_filter is 1", script: pod,
                    after: "ip netns delete pod; rm -r /etc/shuck/shuck.d"),
                Break(
                    condition: "pod-route", fact: "rp_filter of cali1 is strict, and 203.0.113.11/32",
                    script: pod + "\nsysctl -qw net.ipv4.conf.cali1.rp_filter=1",
                    after: """
                        ip netns delete pod; rm -r /etc/shuck/shuck.d
                        sysctl -qw net.ipv4.conf.cali1.rp_filter=0
                        """),
                Break(
                    condition: "pod-invalid", fact: "drops answers from 203.0.113.11 that come in by",
                    script: pod + "\n" + """
                        nft add table inet t
                        nft add chain inet t c '{ type filter hook forward priority 0; }'
                        nft add rule inet t c iifname cali1 ct state invalid drop
                        """, after: "ip netns delete pod; rm -r /etc/shuck/shuck.d; nft flush ruleset"),
                Break(
                    condition: "rules", fact: "holds for eth0, not for shuck0",
                    script: "ip rule add priority 100 from 192.0.2.0/24 iif eth0 lookup main"),
                Break(
                    condition: "rules", fact: "prohibit\" refuses all packets to",
                    script: "ip -6 rule add priority 90 to 2001:db8:f::/48 prohibit"),
                Break(
                    condition: "rule-cost", fact: "ipproto 6",
                    script: "ip rule add priority 80 ipproto tcp lookup main"
                ),
                Break(
                    condition: "sizes", fact: "pods behind cali1 have MTU 1500",
                    script: "ip link set cali1 mtu 1500",
                    after: "ip link set cali1 mtu 1460; rm -r /etc/shuck/shuck.d"),
                Break(
                    condition: "sizes", fact: "mss.ipv4 is 1460",
                    script: "mkdir /etc/shuck/shuck.d; echo 'mss: {ipv4: 1460}' >/etc/shuck/shuck.d/40.yaml",
                    after: "rm -r /etc/shuck/shuck.d"),
                Break(
                    condition: "sizes", fact: "1260 bytes for inner IPv6",
                    script: "ip link set eth0 mtu 1300",
                    after: "ip link set eth0 mtu 1500"),
                Break(condition: "slots", fact: "slots of 16384 bytes", script: "ip link set eth0 mtu 9000"),
                Break(
                    condition: "rp-filter", fact: "1 (all) and 0 (shuck0)",
                    script: "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.shuck0.rp_filter=0",
                    after: "sysctl -qw net.ipv4.conf.all.rp_filter=0"),
                Break(
                    condition: "rp-filter", fact: "shuck0 has no IPv4 address",
                    script: "ip address flush dev shuck0 scope host"),
                Break(
                    condition: "rp-filter-files", fact: "gives shuck0 rp_filter 1",
                    script: "echo 'net.ipv4.conf.*.rp_filter = 1' >/usr/lib/sysctl.d/50-default.conf"),
                Break(
                    condition: "rp-filter-old", fact: "eth0 has rp_filter 0",
                    script: "sysctl -qw net.ipv4.conf.default.rp_filter=1"),
                Break(
                    condition: "forwarding", fact: "net.ipv4.ip_forward is 0",
                    script: "sysctl -qw net.ipv4.ip_forward=0"),
                Break(
                    condition: "forwarding", fact: "net.ipv6.conf.all.forwarding is 0",
                    script: "sysctl -qw net.ipv6.conf.all.forwarding=0"),
                Break(
                    condition: "forwarding", fact: "net.ipv4.conf.shuck0.forwarding is 0",
                    script: "sysctl -qw net.ipv4.conf.shuck0.forwarding=0"),
                Break(
                    condition: "forwarding", fact: "net.ipv4.conf.cali1.forwarding is 0",
                    script: "sysctl -qw net.ipv4.conf.cali1.forwarding=0"),
                Break(
                    condition: "ipv6-off", fact: "net.ipv6.conf.shuck0.disable_ipv6 is 1",
                    script: "sysctl -qw net.ipv6.conf.shuck0.disable_ipv6=1"),
                Break(
                    condition: "sysctl-files", fact: "sets net.ipv4.ip_forward to 0",
                    script: "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/99-hardening.conf"),
            ]
    }
}
