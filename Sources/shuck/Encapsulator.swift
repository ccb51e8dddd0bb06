// Encapsulator, the balancer of a self-test.

import Foundation
import IP
import LinuxIO
import SelfTesting

/// A thread in the balancer's namespace that puts an outer header before what the kernel routes to a device.
final class Encapsulator {
    private let thread: WorkerThread
    private let end: Wakeup

    /// Opens the device. The calling thread stands in the balancer's namespace.
    init(hasIPv6: Bool) throws {
        let device = try TunDevice(name: TestNetwork.encapsulator, queues: 1)
        device.setReading(true)
        let netlink = try NetlinkSocket()
        try netlink.setUp(device.name, mtu: TestNetwork.encapsulatorMTU)
        for prefix in TestNetwork.encapsulated where prefix.isIPv4 || hasIPv6 {
            try netlink.addRoute(to: prefix, through: device.name)
        }
        let queue = device.queues[0]
        let end = try Wakeup()
        self.end = end
        let sockets = try RawSockets(sendsIPv4: true, sendsIPv6: hasIPv6)
        thread = try WorkerThread(name: "selftest-lb") {
            var packet = [UInt8](repeating: 0, count: 65_536)
            while true {
                let woken = Host.waitReadable([queue.number, end.descriptor.number], milliseconds: -1)
                if woken[1] { return }
                while true {
                    let count = read(queue.number, &packet, packet.count)
                    guard count > PacketRing.virtioHeaderBytes else { break }
                    let inner = Array(packet[PacketRing.virtioHeaderBytes..<count])
                    guard let (outer, node) = TestNetwork.encapsulated(inner) else { continue }
                    _ = sockets.send(outer, to: node.bytes)
                }
            }
        }
    }

    deinit {
        end.signal()
        thread.join()
    }
}
