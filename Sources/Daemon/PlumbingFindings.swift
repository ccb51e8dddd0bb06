// What of the resources could not be had as asked.

import Forwarding
import HostPlan
import LinuxIO
import Settings

extension Plumbing {
    func findings(_ configuration: Configuration) -> [Finding] {
        configuration.devices.compactMap { settings in
            device(settings.name).flatMap { device in
                .offload(
                    device.offloads, refused: device.refusals.offloads, of: device.name,
                    coalesces: configuration.workers.coalesce)
            }
        }
            + interfaces.compactMap(\.shortQueue)
            + socketFallbacks(configuration) + lostAnswers(configuration)
    }

    private func socketFallbacks(_ configuration: Configuration) -> [Finding] {
        var found = configuration.interfaces.compactMap { name -> Finding? in
            guard let absence = absences[.claim(name)] else { return nil }
            return Finding(
                what: .claim, subject: name,
                text: "\(name) is claimed by raw sockets instead of a program: \(absence.reason)",
                severity: .degraded)
        }
        let names = socketInterfaces.map { configuration.interfaces[$0] }
        if configuration.inner.rewriteSources.contains(where: { names.contains($0.interface) }) {
            found.append(
                Finding(
                    what: .probes, subject: "claim",
                    text: """
                        raw sockets claim no native probes: beside their answer the kernel sends \
                        an ICMPv6 error (beyond scope of source address)
                        """,
                    remedy: "set consume: bpf", severity: .degraded))
        }
        return found
    }

    private func lostAnswers(_ configuration: Configuration) -> [Finding] {
        guard configuration.asksForAnswers else { return [] }
        let reason: String
        if let absence = absences[.answers] {
            reason = "answers do not come back: \(absence.reason)"
        } else if !Host.hasSysctl("net.ipv6.conf.all.forwarding") {
            reason = "this host has no IPv6, so nothing is answered"
        } else {
            return []
        }
        return [
            Finding(
                what: .probes, subject: "answers", text: "inner.rewriteSources: \(reason)",
                severity: .degraded)
        ]
    }
}

extension Finding {
    /// What a kernel does not take joined, and why; nil where it takes all that is asked for.
    /// - Parameter refused: what it refused though it had agreed to it.
    static func offload(
        _ offloads: TunDevice.Offloads, refused: TunDevice.Offloads, of device: String, coalesces: Bool
    ) -> Finding? {
        let names = offloads.intersection(refused).names.joined(separator: ", ")
        let text: String
        if !offloads.contains(.tcp) {
            text = "the kernel takes no TCP segments from it; large packets fail"
        } else if coalesces, !names.isEmpty {
            text = "the kernel refused joined segments (\(names)): they are written singly"
        } else if coalesces, !offloads.contains(.udp) {
            text = "UDP is written singly: joining it needs Linux 6.2"
        } else {
            return nil
        }
        return Finding(what: .offload, subject: device, text: "\(device): \(text)", severity: .degraded)
    }
}

extension OpenInterface {
    /// Where the kernel lets fewer bytes of large frames wait than a ring is meant to have.
    fileprivate var shortQueue: Finding? {
        guard let ring = rings.first, ring.queueBytes < ring.byteCount else { return nil }
        return Finding(
            what: .host, subject: "net.core.rmem_max",
            text: """
                \(specification.interface): of frames larger than a slot, which GRO makes, only \
                \(ring.queueBytes >> 10) KiB may wait and the rest is lost
                """,
            remedy: "sysctl -w net.core.rmem_max=\(ring.byteCount)", severity: .degraded)
    }
}
