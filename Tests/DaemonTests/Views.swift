// A daemon as values: what readiness, status and metrics are made of, without a network.

import Forwarding
import Routing
import Settings

@testable import Daemon
@testable import LinuxIO

enum Views {
    static func configuration(_ more: String = "") -> Configuration? {
        let text = """
            interfaces: [eth0]
            tunnels:
              - name: lvs
                local: [192.0.2.2]
                remotes: [192.0.2.64/26]
                destinations: [{prefix: 10.2.1.9, protocol: tcp, ports: [80, "8000-8010"]}]
            \(more)

            """
        return Configuration.load(files: [("shuck.yaml", text)]).configuration
    }

    static func link(_ name: String, isUp: Bool = true) -> Link {
        Link(index: 7, name: name, mtu: 1500, isUp: isUp, hardwareType: 1)
    }

    /// One that forwards as asked: eth0 to shuck0, one worker on CPU 2.
    static func forwarding(_ configuration: Configuration) -> DaemonView {
        DaemonView(
            state: DaemonState(
                supervisor: SupervisorReport(configurationFile: "/etc/shuck/shuck.yaml"),
                configuration: configuration,
                links: [link("eth0"), link("shuck0")],
                routes: RouteStatus(
                    countIPv4: 12, countIPv6: 4, rules: 3, resyncs: [.links: 2], changes: 9,
                    currentNanoseconds: 0, due: nil, notes: [])),
            interfaces: configuration.policy.interfaces.map {
                interface($0, link: link($0.name), ring: (512, 2048))
            },
            devices: configuration.devices.map { device($0, link: link($0.name)) },
            workers: [DaemonView.Worker(number: 0, cpu: 2)],
            replies: StatusReport.Replies(asked: .off, active: .off, table: nil), uptime: 60)
    }

    static func interface(
        _ interface: Policy.Interface, link: Link?, ring: (slots: Int, slotBytes: Int)?
    ) -> StatusReport.Interface {
        StatusReport.Interface(interface, link: link, ring: ring, claimAsked: .auto, claimActive: .tcx)
    }

    static func device(
        _ device: Configuration.Device, link: Link?, queues: Int = 1
    ) -> StatusReport.Device {
        StatusReport.Device(
            device, link: link, queues: queues, offloads: ["checksum", "tcp", "udp"], joins: ["tcp", "udp"])
    }

    /// What one worker counted: 30 frames received, 10 of them injected, 5 dropped, 2 answered.
    static func counts(_ configuration: Configuration) -> DaemonCounts {
        let shape = CounterBlock.Shape(configuration.policy)
        var values = [UInt64](repeating: 0, count: shape.count)
        func set(_ index: Int, _ value: UInt64) { values[index] = value }
        set(CounterBlock.Single.received.rawValue, 30)
        set(CounterBlock.Single.passed.rawValue, 13)
        set(CounterBlock.Single.writes.rawValue, 4)
        set(shape.injectIndex(tunnel: 0, mode: .ipip, device: 0), 9)
        set(shape.injectIndex(tunnel: 0, mode: .native, device: 0), 1)
        set(shape.injectIndex(tunnel: 0, mode: .ipip, device: 0) - shape.injected + shape.injectedBytes, 900)
        set(shape.dropIndex(tunnel: 0, reason: .reversePath), 3)
        set(shape.dropIndex(tunnel: Verdict.noIndex, reason: .packetTooSmall), 2)
        set(shape.replied + Int(DropReason.packetTooBig.rawValue), 2)
        set(shape.cells + 0b1011, 8)
        set(shape.destination, 10)
        var counts = DaemonCounts(
            totals: [:],
            workers: [
                .init(
                    number: 0, ringDropped: 6, captureDropped: 4, cpuSeconds: 1.5,
                    lastProgressUnix: 1_700_000_060)
            ])
        counts.totals.add(
            CounterBlock.Values(shape: shape, values: values), worker: 0, configuration: configuration)
        return counts
    }

    static func scrape(_ view: DaemonView) -> Scrape {
        Scrape(view: view, counts: counts(view.state.configuration), usage: (4096, 2.25, 40))
    }
}
