// Readiness, findings and status from values.

import HostPlan
import LinuxIO
import Settings
import Testing

@testable import Daemon

@Suite struct ReadinessTests {
    private let view: DaemonView

    init() throws { view = Views.forwarding(try #require(Views.configuration())) }

    @Test func whatForwardsAsAskedIsReady() {
        #expect(view.unreadiness == [] && view.unhealthiness == [] && view.findings == [])
    }

    @Test func anInterfaceThatIsDownOrAbsentBlocks() {
        var view = view
        let policy = view.state.configuration.policy.interfaces[0]
        let ring = (slots: 512, slotBytes: 2048)
        view.interfaces[0] = Views.interface(policy, link: Views.link("eth0", isUp: false), ring: ring)
        #expect(view.interfaces[0].state == .down)
        #expect(view.unreadiness == ["interface eth0 is down: ip link set eth0 up"])
        view.interfaces[0] = Views.interface(policy, link: nil, ring: ring)
        #expect(view.interfaces[0].state == .absent)
        #expect(view.unreadiness == ["interface eth0 is absent"])
        view.interfaces[0] = Views.interface(policy, link: Views.link("eth0"), ring: nil)
        view.absences[.interface("eth0")] = "no memory"
        #expect(view.unreadiness == ["interface eth0 is not received from: no memory"])
        #expect(view.unhealthiness == [])
    }

    @Test func aDeviceBlocksOnlyInTheNamespaceOfTheHost() throws {
        let devices = "devices: [{name: shuck0}, {name: pod1, netns: /run/netns/pod1}]"
        var view = Views.forwarding(try #require(Views.configuration(devices)))
        #expect(view.devices.map(\.state) == [.up, .up])
        let settings = view.state.configuration.devices
        view.devices[1] = Views.device(settings[1], link: nil, queues: 0)
        view.absences[.device("pod1")] = "no namespace"
        #expect(view.devices[1].state == .absent)
        #expect(view.unreadiness == [])
        #expect(
            view.findings.map(\.description) == [
                "device pod1 is absent, its packets are dropped: no namespace"
            ])
        view.devices[0] = Views.device(settings[0], link: nil)
        #expect(view.devices[0].state == .absent)
        #expect(view.unreadiness == ["device shuck0 is not up: ip link set shuck0 up"])
    }

    @Test func workersAndTheControlThreadMakeItUnhealthy() {
        var view = view
        view.workers[0].refusal = "no memory"
        #expect(view.unhealthiness == [])
        #expect(view.unreadiness.count == 1 && view.unreadiness[0].hasSuffix("asked again: no memory"))
        view.workers[0].isStill = true
        #expect(view.unhealthiness.count == 1)
        #expect(view.unhealthiness[0].hasPrefix("worker 0 on CPU 2 stands still"))
        // Said once as what blocks, and not again as a degradation.
        #expect(view.unreadiness == view.unhealthiness)
        view.workers[0].hasEnded = true
        view.endedWorkers = ["worker 0 ended: SIGBUS"]
        #expect(view.unhealthiness == ["worker 0 ended: SIGBUS"])
        view.isControlStill = true
        #expect(view.unhealthiness.count == 2)
        #expect(view.unhealthiness[0].hasPrefix("the engine's control thread"))
        view.isSupervisorStill = true
        #expect(view.unhealthiness.count == 3 && view.unhealthiness[1].hasPrefix("the control thread"))
    }

    @Test func whatBlocksNothingIsANote() {
        var view = view
        view.absences = [.replyTable: "refused", .claims: "refused"]
        view.logFailure = "No space left on device"
        #expect(view.unreadiness == [])
        #expect(view.findings.map(\.what) == [.replies, .claim, .log])
        view.state.isStopping = true
        #expect(view.unreadiness == ["shuck is stopping"])
    }
}

@Suite struct OffloadFindingTests {
    private func text(
        _ offloads: TunDevice.Offloads, refused: TunDevice.Offloads = [], coalesces: Bool = true
    ) -> String? {
        Finding.offload(offloads, refused: refused, of: "shuck0", coalesces: coalesces)?.text
    }

    @Test func onlyWhatIsAskedForAndNotToBeHadIsNamed() {
        let all: TunDevice.Offloads = [.checksum, .tcp, .udp]
        #expect(text(all) == nil)
        #expect(text([]) == "shuck0: the kernel takes no TCP segments from it; large packets fail")
        #expect(text([], coalesces: false) == text([]))
        let refused = "shuck0: the kernel refused joined segments (udp): they are written singly"
        #expect(text(all, refused: [.udp]) == refused)
        #expect(text([.checksum, .tcp]) == "shuck0: UDP is written singly: joining it needs Linux 6.2")
        // What the kernel had not agreed to, it cannot refuse.
        #expect(text([.checksum, .tcp], refused: [.udp]) == text([.checksum, .tcp]))
        #expect(text(all, refused: [.udp], coalesces: false) == nil)
        #expect(text([.checksum, .tcp], coalesces: false) == nil)
    }
}

@Suite struct ReportTests {
    private let view: DaemonView

    init() throws { view = Views.forwarding(try #require(Views.configuration())) }

    private func report(_ view: DaemonView) -> StatusReport {
        var placement = PlacementFacts()
        placement.pagesElsewhere = [0: 3]
        return StatusReport(
            view, Views.counts(view.state.configuration), placement,
            lastDrops: [:])
    }

    @Test func countsAgree() {
        let report = report(view)
        #expect(report.packets.received == 30 && report.packets.injected == 10 && report.packets.passed == 13)
        #expect(report.packets.dropped == 5 && report.packets.replied == 2 && report.packets.ringDropped == 6)
        #expect(report.dropsByReason == ["ip_rpfilter": 3, "pkt_too_small": 2])
        #expect(report.injectedByMode == ["ipip": 9, "native": 1])
        #expect(report.workers.map(\.received) == [30])
        #expect(report.workers.map(\.state) == ["running"])
        #expect(report.workers.map(\.pagesElsewhere) == [3])
        #expect(report.placement?.count == 1)
    }

    @Test func statesAreThoseOfTheView() {
        var view = view
        view.devices[0].joins = ["tcp"]
        view.state.lastReloadSuccessful = false
        view.state.lastReloadProblems = ["shuck.yaml:1:1: wrong"]
        let report = report(view)
        #expect(report.ready && report.notReady == [] && report.uptime == 60 && report.mode == .active)
        #expect(report.interfaces.map(\.state) == [.receiving])
        #expect(report.interfaces.map(\.claimActive) == [.tcx])
        #expect(report.devices.map(\.state) == [.up])
        #expect(report.joining == "on, but shuck0 tcp only")
        #expect(report.lastReloadProblems == ["shuck.yaml:1:1: wrong"])
    }
}
