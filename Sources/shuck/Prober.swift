// Drives probes with the host's clock and sockets.

import Captures
import Foundation
import IP
import LinuxIO
import Probing
import Routing
import Settings

struct Prober {
    private let sockets: ProbeSockets
    /// Where probes come in, on the node itself; nil: they leave this host by its routes.
    private let entrance: Link?
    /// A signal ends what is asked, not the process.
    let interruption: Interruption

    /// Opens the sockets that these flows need.
    /// - Parameter interface: where probes come in, on the node itself.
    init(for flows: [ProbeFlow], through interface: String? = nil) throws {
        let hosts = Set(flows.flatMap { [$0.innerSource.text, $0.outerSource.text] })
        let text = hosts.sorted().map { "dst host \($0)" }.joined(separator: " or ")
        do {
            interruption = try Interruption()
            let filter = try CaptureFilter.compile(text, .raw)
            entrance = try interface.map(Self.link)
            if let entrance {
                let frames = try LiveFrames(interface: entrance.name, index: entrance.index)
                sockets = try ProbeSockets(through: frames, filter: filter)
            } else {
                sockets = try ProbeSockets(
                    sendsIPv4: flows.contains { $0.outerSource.isIPv4 },
                    sendsIPv6: flows.contains { !$0.outerSource.isIPv4 }, filter: filter)
            }
        } catch let error as SystemError {
            let isHere = !error.isPermission && ![EAFNOSUPPORT, ENOSYS].contains(error.errno)
            throw Failure(code: isHere ? .badAnswer : .notHere, message: "\(error)")
        }
    }

    private static func link(_ name: String) throws -> Link {
        let links = try NetlinkSocket().links()
        guard let link = links.first(where: { $0.name == name || $0.otherNames.contains(name) }) else {
            throw Failure(
                message: "this host has no interface \(Output.visible(name)): `ip link` lists them")
        }
        return link
    }

    /// The MTU of the link to the node; nil without a route.
    func linkMTU(of flow: ProbeFlow) -> Int? {
        entrance?.mtu ?? Host.pathMTU(to: flow.outerDestination.bytes)
    }

    /// Sends probes and waits for their answers, until all is decided or the user interrupts.
    /// - Parameter finished: called once per flow, with its index and result, as soon as it is decided.
    /// - Returns: what became of each flow so far.
    @discardableResult
    func ask(
        _ flows: [ProbeFlow], _ plan: ProbePlan, finished: (Int, ProbeResult) -> Void = { _, _ in }
    ) -> [ProbeResult] {
        var run = ProbeRun(flows, plan) { UInt32.random(in: .min ... .max) }
        var told = 0
        func tell() {
            for index in run.finished[told...] { finished(index, run.results[index]) }
            told = run.finished.count
        }
        while !interruption.isRaised {
            let step = run.step(at: Host.monotonicNanoseconds())
            tell()
            switch step {
            case .send(let probe):
                let error = sockets.send(probe.bytes, to: probe.flow.outerDestination.bytes)
                if error != 0 { run.refuse(probe, errno: error) }
            case .wait(let time): sockets.wait(until: time, or: interruption.descriptor)
            case .done: return run.results
            }
            sockets.receive { memory in
                guard let base = memory.baseAddress,
                    let answer = ProbeAnswer.read(Bytes(base, count: memory.count)),
                    let reset = run.receive(answer, at: Host.monotonicNanoseconds()),
                    let target = run.target(of: answer)
                else { return }
                // A lost one leaves a half-open connection, which the service gives up by itself.
                _ = sockets.send(reset, to: target.bytes)
            }
        }
        tell()
        return run.results
    }

    // MARK: Path MTU

    /// Packets that one size may lose.
    private static let tries = 3
    /// A size counts as too big after this time without an answer, or ten round trips.
    private static let patience: UInt64 = 300_000_000

    /// The largest inner packet that is answered.
    /// - Parameter result: of smaller probes of the flow.
    func pathMTU(after result: ProbeResult, _ plan: ProbePlan) -> PathMTU {
        let flow = result.flow
        let link = min(linkMTU(of: flow) ?? 1500, entrance == nil ? 65_535 : LiveFrames.packetBytesMax)
        let largest = link - flow.outerHeaderBytes
        var search = PathMTUSearch(passing: flow.smallestPacket, largest: largest)
        var found = PathMTU()
        let timeout = min(plan.timeout, max(Self.patience, 10 * (result.roundTrips.largest ?? 0)))
        while let size = search.size {
            let sized = ProbePlan(count: 1, interval: ProbePlan.intervalMin, timeout: timeout, length: size)
            var isPassed = false
            var report: ICMPReport?
            for _ in 0..<Self.tries where !isPassed && report == nil {
                ask([flow], sized) { _, asked in
                    isPassed = asked.answered + asked.refused > 0
                    report = asked.errors.first(where: \.isTooBig)
                }
            }
            // A size that was not asked to its end tells nothing.
            if interruption.isRaised { break }
            if isPassed {
                search.pass(size)
            } else {
                search.fail(size, told: report.flatMap { $0.innerMTU(of: flow) })
                found.refusals.append(PathMTU.Refusal(size: size, report: report))
            }
        }
        found.innerBytes = search.passing
        return found
    }
}

extension ICMPReport {
    /// The largest inner packet that passes, as the error tells it.
    fileprivate func innerMTU(of flow: ProbeFlow) -> Int? {
        mtu.map { $0 - (isAboutOuter ? flow.outerHeaderBytes : 0) }
    }
}
