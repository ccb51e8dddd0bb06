// What is said of a host before anything opens, from links and a configuration as values.

import Routing
import Settings
import Testing

@testable import HostPlan

@Suite("Findings on a host")
struct HostFindingsTests {
    private func configuration(otherRemotes: String) throws -> Configuration {
        let text = """
            interfaces: [eth0]
            tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/28],
              otherRemotes: \(otherRemotes), destinations: [{prefix: 10.0.0.1}]}]

            """
        return try #require(Configuration.load(files: [("c.yaml", text)]).configuration)
    }

    @Test(
        "a tunnel device of the kernel beside otherRemotes: drop is a warning",
        arguments: [
            (768, true, "drop", 1), (769, true, "drop", 1), (776, true, "drop", 1),
            (768, false, "drop", 0), (768, true, "pass", 0), (1, true, "drop", 0),
        ])
    func overlays(hardwareType: Int, isUp: Bool, otherRemotes: String, count: Int) throws {
        let link = Link(
            index: 7, name: "tunl0", mtu: 1480, isUp: isUp, hardwareType: UInt16(hardwareType))
        let warnings = try configuration(otherRemotes: otherRemotes).overlays([link]).map(\.description)
        #expect(warnings.count == count)
        #expect(warnings.allSatisfy { $0.contains("tunl0") && $0.contains("otherRemotes: pass") })
    }
}
