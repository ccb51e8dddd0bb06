// shuck probe: asks a service through the encapsulation, as a balancer does.

import ArgumentParser
import Foundation
import Forwarding
import IP
import Probing
import Settings

extension ProbeProtocol: ExpressibleByArgument {}

struct ProbeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "probe",
        abstract: "Ask a service through the encapsulation, as a balancer does, and time the answers.",
        discussion: """
            Sends TCP SYNs (an answered one is closed by a RST), datagrams or ICMP echo requests in any \
            of the four modes; the families of the addresses choose the mode. Answers leave the node \
            directly, without encapsulation, so --inner-src is an address of this host. Needs CAP_NET_RAW.

            --targets FILE asks each service of each realserver and prints a table; docs/probe.md \
            describes the file. SIGINT and SIGTERM end the asking; what is known so far is printed. Exit \
            codes: 0 all answered, 1 something was not answered or not asked, 2 wrong usage, 3 not permitted.
            """)

    @Option(help: ArgumentHelp("Outer source: a remote of the tunnel.", valueName: "address"))
    var outerSrc: String?
    @Option(help: ArgumentHelp("Outer destination: the node's address in `local`.", valueName: "address"))
    var outerDst: String?
    @Option(
        help: ArgumentHelp(
            "Inner source: where the answers go, an address of this host.", valueName: "address"))
    var innerSrc: String?
    @Option(help: ArgumentHelp("Inner destination: the service's address.", valueName: "address"))
    var innerDst: String?
    @Option(help: "Destination port of TCP or UDP.")
    var port: UInt16?
    @Option(name: .customLong("protocol"), help: "What to send.")
    var probeProtocol = ProbeProtocol.tcp

    @Option(help: ArgumentHelp("Probes (default: 5; with --targets 1 per tuple).", valueName: "n"))
    var count: Int?
    @Option(
        help: ArgumentHelp(
            "Seconds between two probes (default: 0.2; with --targets 0.02).", valueName: "seconds"))
    var interval: Double?
    @Option(help: ArgumentHelp("Seconds to wait for an answer.", valueName: "seconds"))
    var timeout = 3.0
    @Flag(help: "Also find the largest inner packet that passes, and the ICMP errors about larger ones.")
    var pathMtu = false

    @Option(
        help: ArgumentHelp(
            """
            On the node itself: probes come in by this interface as if its wire had brought them, and \
            answers are heard as they leave. --inner-src is then a client's address, none of this host.
            """, valueName: "interface"))
    var through: String?

    @Option(help: ArgumentHelp("Ask the services × realservers that this file lists.", valueName: "file"))
    var targets: String?
    @Option(
        help: ArgumentHelp("With --targets: tries more for an unanswered tuple (default: 2).", valueName: "n")
    )
    var retries: Int?
    @Option(
        help: ArgumentHelp(
            "With --targets: skip the tuples that this file names, and add each that is answered.",
            valueName: "file"))
    var resume: String?

    @OptionGroup var format: JSONOption

    func validate() throws {
        let addresses = [
            ("--outer-src", outerSrc), ("--outer-dst", outerDst), ("--inner-src", innerSrc),
            ("--inner-dst", innerDst),
        ]
        if targets != nil {
            let given = addresses.first { $0.1 != nil }?.0 ?? (port == nil ? nil : "--port")
            if let given { throw ValidationError("\(given) comes from the file of --targets") }
            if through != nil { throw ValidationError("--through asks one tuple: without --targets") }
            if pathMtu { throw ValidationError("--path-mtu asks one tuple: without --targets") }
        } else {
            if retries != nil || resume != nil {
                throw ValidationError("--retries and --resume go with --targets")
            }
            try validate(addresses)
        }
        let bounds = [
            ("--count", Double(count ?? 1), 1, 100_000), ("--retries", Double(retries ?? 0), 0, 100),
            ("--interval", interval ?? 1, Double(ProbePlan.intervalMin) / 1e9, 3600),
            ("--timeout", timeout, 0.01, Double(ProbePlan.timeoutMax) / 1e9),
        ]
        for (option, value, low, high) in bounds where !(low...high).contains(value) {
            throw ValidationError("\(option) takes \(Self.text(low)) to \(Self.text(high))")
        }
    }

    private static func text(_ number: Double) -> String {
        number == number.rounded() ? "\(Int(number))" : "\(number)"
    }

    private func validate(_ addresses: [(String, String?)]) throws {
        for (option, text) in addresses {
            guard let text else {
                throw ValidationError("\(option) is missing: give all four addresses, or --targets FILE")
            }
            guard let address = Address(text) else {
                throw ValidationError("\(option) takes an IPv4 or IPv6 address")
            }
            // A raw socket would send from an address of the kernel's choice instead.
            if address.isUnspecified {
                throw ValidationError("\(option) takes the address of a host, not \(address.text)")
            }
        }
        let parsed = addresses.map { $0.1.flatMap { Address($0) }?.isIPv4 }
        if parsed[0] != parsed[1] { throw ValidationError("--outer-src and --outer-dst are of one family") }
        if parsed[2] != parsed[3] { throw ValidationError("--inner-src and --inner-dst are of one family") }
        if probeProtocol.hasPort && (port ?? 0) == 0 {
            throw ValidationError("--port is missing: give the service's, or --protocol icmp")
        }
        if !probeProtocol.hasPort && port != nil {
            throw ValidationError("ICMP has no ports: without --port")
        }
    }

    func run() throws {
        let isTable = targets != nil
        let plan = ProbePlan(
            count: count ?? (isTable ? 1 : 5),
            interval: nanoseconds(interval ?? (isTable ? 0.02 : 0.2)), timeout: nanoseconds(timeout),
            retries: isTable ? retries ?? 2 : 0)
        if let targets { return try ask(targets, plan) }
        guard let flow else { throw ValidationError("the addresses are missing") }
        let prober = try Prober(for: [flow], through: through)
        let result = prober.ask([flow], plan)[0]
        if through != nil, result.sendError == EINVAL {
            throw Failure(
                code: .notHere,
                message: "this kernel makes no live frames, which --through needs: Linux 5.18 or later")
        }
        let pathMTU =
            pathMtu && result.answered > 0 && !prober.interruption.isRaised
            ? prober.pathMTU(after: result, plan) : nil
        let isInterrupted = prober.interruption.isRaised
        prober.interruption.end()
        let report = ProbeReport(
            result, linkMTU: prober.linkMTU(of: flow), pathMTU: pathMTU,
            interruptedPlan: isInterrupted ? plan : nil)
        if format.json {
            try Output.json(report)
        } else {
            try Output.print(report.text(timeout: timeout))
            for line in ProbeAdvice.lines(result, report, through: through) { Output.error(line) }
        }
        if result.standing(plan) != .answered || pathMtu && isInterrupted { throw ExitCode(1) }
    }

    private func nanoseconds(_ seconds: Double) -> UInt64 { UInt64(seconds * 1e9) }

    private var flow: ProbeFlow? {
        func address(_ text: String?) -> Address? { text.flatMap { Address($0) } }
        guard let outerSource = address(outerSrc), let outerDestination = address(outerDst),
            let innerSource = address(innerSrc), let innerDestination = address(innerDst)
        else { return nil }
        return ProbeFlow(
            outerSource: outerSource, outerDestination: outerDestination, innerSource: innerSource,
            innerDestination: innerDestination, probeProtocol: probeProtocol, port: port ?? 0)
    }

    // MARK: A file of targets

    private func ask(_ path: String, _ plan: ProbePlan) throws {
        let (targets, problems) = ProbeTargets.load(name: path, text: try TextFile.text(path))
        for problem in problems { Output.error("\(problem)") }
        guard let targets else { throw ExitCode(1) }
        let progress = try resume.map { path throws(Failure) in try ResumeFile(path) }
        let all = targets.tuples
        let tuples = all.filter { progress?.names.contains($0.name) != true }
        var table = ProbeTable(tuples, plan, answeredBefore: all.count - tuples.count)
        var failure: Failure?
        if !tuples.isEmpty {
            let flows = tuples.map(\.flow)
            let prober = try Prober(for: flows)
            table.results = prober.ask(flows, plan) { index, result in
                guard result.isAnswered else { return }
                do throws(Failure) { try progress?.add(tuples[index].name) } catch {
                    failure = failure ?? error
                }
            }
            prober.interruption.end()
        }
        try format.json ? Output.json(table.report) : Output.print(table.text(.standardOutput))
        if let failure { throw failure }
        if !table.isAnswered { throw ExitCode(1) }
    }
}
