// What sysfs says of an interface of this host.

import HostPlan
import Testing

@testable import Daemon

@Suite struct HardwareTests {
    @Test func aVirtualInterfaceStandsOnNoHardware() {
        for name in ["lo", "there is none"] {
            let hardware = InterfaceHardware.read(name)
            #expect(hardware.nodes.isEmpty && hardware.interrupts.isEmpty)
            #expect(hardware.receiveQueues == (name == "lo" ? 1 : nil))
        }
    }
}
