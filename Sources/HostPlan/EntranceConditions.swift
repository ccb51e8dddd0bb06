// Conditions of the entrance of an interface: `Condition.entrance`.

import Settings

extension Condition {
    static let entrance = [
        Condition(
            "programs",
            """
            A frame meets XDP programs, then packet sockets (shuck), then programs at tcx, then \
            filters at clsact. An XDP program can take a frame before shuck sees it. shuck attaches \
            its claim `shuck_claim` as the first program at tcx; one that was put before it later can \
            hand our frames to the kernel.
            """
        ) { examination in
            examination.configuration.interfaces.flatMap { name in
                programs(name, examination.details.interfaces[name]?.programs)
            }
        },
        Condition(
            "offloads",
            """
            GRO joins the TCP segments of a flow into one frame, which shuck judges and writes once. \
            LRO joins them, too, but loses the sizes of the segments, so that they cannot be cut \
            again.
            """
        ) { examination in
            examination.configuration.interfaces.flatMap { name in
                offloads(name, examination.details.interfaces[name])
            }
        },
        Condition(
            "queues",
            """
            One CPU takes the frames of a receive queue from the NIC, and copies them into the rings. With \
            fewer queues than workers, that CPU is busy before the workers are. More queues of the NIC help \
            (`ethtool -L`), or receive packet steering.
            """
        ) { examination in
            examination.configuration.interfaces.flatMap { name in
                queues(name, examination.details.interfaces[name], examination)
            }
        },
    ]

    private static func programs(_ name: String, _ programs: [EntranceProgram]?) -> [Line] {
        guard let programs else { return [] }
        let early = programs.filter { [.xdp, .xdpgeneric, .xdpoffload].contains($0.hook) }.map { program in
            Line.warning(
                "\(program.name) at \(program.hook.rawValue) of \(name) sees frames before shuck",
                effect: "Frames that it drops or redirects never reach shuck.",
                command: "ip link set dev \(name) \(program.hook.rawValue) off")
        }
        let hooked = programs.filter { $0.hook == .tcx }
        let own = hooked.firstIndex { $0.name == EntranceProgram.claim } ?? 0
        let before = hooked[..<own].map { program in
            Line.warning(
                "\(program.name) stands before shuck's claim at tcx of \(name)",
                effect: "The kernel answers frames that it accepts, or delivers them a second time.",
                command: "systemctl restart shuck")
        }
        guard (early + before).isEmpty else { return early + before }
        let list = programs.map { "\($0.name) (\($0.hook.rawValue))" }.joined(separator: ", ")
        return [.ok("programs at the entrance of \(name): \(list.isEmpty ? "none" : list)")]
    }

    private static func offloads(_ name: String, _ interface: HostDetails.Interface?) -> [Line] {
        guard let interface else { return [] }
        var lines: [Line] = []
        if interface.gro == false {
            lines.append(
                .warning(
                    "generic-receive-offload of \(name) is off",
                    effect:
                        "Each TCP segment costs a verdict and a write of its own: bulk transfers are slower.",
                    command: "ethtool -K \(name) gro on"))
        }
        if interface.lro == true {
            lines.append(
                .warning(
                    "large-receive-offload of \(name) is on",
                    effect: "Joined segments whose sizes are lost cannot be forwarded: they are dropped.",
                    command: "ethtool -K \(name) lro off"))
        }
        return lines.isEmpty ? [.ok("\(name): GRO is on, LRO is off, as far as the driver tells")] : lines
    }

    private static func queues(
        _ name: String, _ interface: HostDetails.Interface?, _ examination: Examination
    ) -> [Line] {
        let workers = examination.facts.cpus
        guard let interface, let queues = interface.queues, !workers.isEmpty else { return [] }
        let fact =
            "\(name) has \(queues == 1 ? "1 receive queue" : "\(queues) receive queues") for "
            + (workers.count == 1 ? "1 worker" : "\(workers.count) workers")
        if queues >= workers.count { return [.ok(fact)] }
        if interface.steers { return [.ok("\(fact), and receive packet steering is on")] }
        let folder = "/sys/class/net/\(name)/queues"
        return [
            .warning(
                fact, effect: "The CPUs that serve the queues limit the rate, not the workers.",
                command: "for q in \(folder)/rx-*; do echo \(mask(workers)) >$q/rps_cpus; done")
        ]
    }

    /// A mask of CPUs as the kernel reads it: hexadecimal, 32 bits a word, the highest first.
    static func mask(_ cpus: [Int]) -> String {
        var words = [UInt32](repeating: 0, count: (cpus.max() ?? 0) / 32 + 1)
        for cpu in cpus { words[cpu / 32] |= 1 << UInt32(cpu % 32) }
        let digits = words.reversed().map { word in
            let text = String(word, radix: 16)
            return String(repeating: "0", count: 8 - text.count) + text
        }
        return digits.joined(separator: ",")
    }
}
