// A running tcpdump: the lines that it printed so far.

import Foundation

struct Capture {
    private let tcpdump: RunningCommand

    /// Starts one on frames that come in, and waits until it sees them.
    init(_ rig: Rig, _ place: Place, _ interface: String, _ filter: String) throws {
        // Room for thousands of frames: in its immediate mode every slot has the size of the
        // largest frame, and of the usual 262144 bytes the usual buffer holds seven.
        tcpdump = try rig.start(
            place,
            [
                "tcpdump", "-nnvl", "--immediate-mode", "-s", "2048", "-B", "16384", "-Q", "in", "-i",
                interface, filter,
            ])
        let tcpdump = tcpdump
        try eventually("tcpdump to listen") {
            guard tcpdump.isRunning else { throw Failure("tcpdump: \(tcpdump.errors)") }
            return tcpdump.errors.contains("listening on")
        }
    }

    /// One a packet: its lines joined.
    var packets: [String] {
        var packets: [String] = []
        for line in tcpdump.output.split(separator: "\n") {
            if line.first?.isWhitespace == true, !packets.isEmpty {
                packets[packets.count - 1] += String(line)
            } else {
                packets.append(String(line))
            }
        }
        return packets
    }

    /// Waits for so many packets: they may still be on their way.
    func wait(for count: Int) throws {
        do {
            try eventually("\(count) packets in \(tcpdump.arguments.last ?? "")") {
                packets.count >= count
            }
        } catch {
            throw Failure("\(error): \(packets)")
        }
    }
}

extension Capture {
    /// Errors that the kernel of the node sends to the balancer.
    static func nodeErrors(_ rig: Rig) throws -> Capture {
        try Capture(
            rig, .balancer, "back",
            """
            (src host \(Rig.node4) and icmp and (icmp[0] == 3 or icmp[0] == 11)) or \
            (src host \(Rig.node6) and icmp6 and ip6[40] >= 1 and ip6[40] <= 4)
            """)
    }
}
