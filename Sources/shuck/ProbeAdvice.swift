// What to do about probes that were not answered, or answered with an MSS that does not fit.

import LinuxIO
import Probing
import Settings

enum ProbeAdvice {
    /// Lines for standard error; none when all is well.
    /// - Parameter interface: where the probes came in, on the node itself.
    static func lines(_ result: ProbeResult, _ report: ProbeReport, through interface: String?) -> [String] {
        var lines: [String] = []
        if let mss = report.mss, let fits = mss.fits, mss.answered > fits, let mtu = report.linkMTU {
            let inner = mtu - result.flow.outerHeaderBytes
            lines.append(
                """
                shuck: segments of \(mss.answered) bytes exceed the link when they are encapsulated: on the \
                node set mss: {replies: nft}, or give the pods an MTU of \(inner) or less
                """)
        }
        if result.brokenMSS > 0 {
            lines.append(
                """
                shuck: the MSS option of \(result.brokenMSS) answers is 0 or cannot be read: clients then \
                send what they like; look at the service, and at what rewrites its answers
                """)
        }
        if result.isAnswered { return lines }
        if result.errors.contains(where: \.isProtocolUnknown) {
            lines.append(
                """
                shuck: the node does not decapsulate: run `shuck status` there; \
                \(result.flow.outerDestination.text) must be in `local` of a tunnel
                """)
        } else if result.refused > 0 {
            lines.append("shuck: the packets arrive, but nobody listens: look at the service and its pods")
        } else if result.unanswered > 0, result.sendError == nil, result.errors.isEmpty {
            if interface == nil, !Host.owns(result.flow.innerSource.bytes) {
                lines.append(
                    """
                    shuck: \(result.flow.innerSource.text) is no address of this host: answers are seen only \
                    if they pass through it; give --inner-src an address of this host
                    """)
            }
            lines.append(
                """
                shuck: no answer: run `shuck status` on the node; it names the reason of each drop with the \
                last packet, and `shuck explain REASON` says what to do
                """)
        }
        return lines
    }
}
