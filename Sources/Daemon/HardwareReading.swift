// Reads the devices below an interface from sysfs: their NUMA nodes, interrupts and queues.

import Foundation
import Glibc
import HostPlan
import LinuxIO
import Routing

extension InterfaceHardware {
    /// Looks at the host as it is now.
    /// - Parameter index: of the name in this network namespace; nil: the kernel is asked.
    static func read(_ name: String, index: Int32? = nil) -> InterfaceHardware {
        let below = interfacesBelow(name, index.map { UInt32($0) } ?? if_nametoindex(name))
        let folders = Set(below.compactMap(deviceFolder))
        let nodes = folders.compactMap { Host.read($0 + "/numa_node").flatMap { Int($0) } }
        let numbers = Set(folders.flatMap(interruptNumbers))
        let counts =
            numbers.isEmpty
            ? [:] : InterruptCount.parse(Host.read("/proc/interrupts") ?? "", of: numbers)
        var hardware = InterfaceHardware(name)
        // -1: the firmware tells no node.
        hardware.nodes = Set(nodes.filter { $0 >= 0 }).sorted()
        hardware.interrupts = numbers.sorted().map { number in
            var interrupt = Interrupt(number)
            (interrupt.name, interrupt.count) = (counts[number]?.name ?? "", counts[number]?.count)
            interrupt.cpus = handlers(of: number)
            return interrupt
        }
        hardware.receiveQueues = receiveQueues(name, below)
        return hardware
    }

    private static func receiveQueues(_ name: String, _ below: Set<String>) -> Int? {
        guard !below.isEmpty else { return nil }
        let devices = below.filter { deviceFolder($0) != nil }
        let counted = devices.isEmpty ? [name] : devices
        return counted.reduce(0) { sum, name in
            sum + Host.entries("/sys/class/net/\(name)/queues").filter { $0.hasPrefix("rx-") }.count
        }
    }

    /// The interface itself and, by the links that sysfs has for them, all that it stands on.
    private static func interfacesBelow(_ name: String, _ index: UInt32) -> Set<String> {
        // sysfs may be that of another network namespace: then its names are others' interfaces.
        guard let found = Host.read("/sys/class/net/\(name)/ifindex"), UInt32(found) == index else {
            return []
        }
        var below: Set<String> = []
        var open = [name]
        while let next = open.popLast() {
            guard below.insert(next).inserted else { continue }
            let prefix = "lower_"
            open += Host.entries("/sys/class/net/\(next)").filter { $0.hasPrefix(prefix) }
                .map { String($0.dropFirst(prefix.count)) }
        }
        return below
    }

    /// The folder of the device on the bus. A virtio NIC's own has neither node nor interrupts;
    /// those are its PCI device's, one above.
    private static func deviceFolder(_ interface: String) -> String? {
        guard let path = realpath("/sys/class/net/\(interface)/device", nil) else { return nil }
        defer { free(path) }
        var folder = String(cString: path)
        while folder.hasPrefix("/sys/devices/") {
            if Host.read(folder + "/irq") != nil { return folder }
            folder = String(folder[..<folder.lastIndex(of: "/")!])
        }
        return nil
    }

    /// Message-signalled interrupts, one a vector; a device without any has its one line.
    private static func interruptNumbers(_ folder: String) -> [Int] {
        let vectors = Host.entries(folder + "/msi_irqs").compactMap { Int($0) }
        if !vectors.isEmpty { return vectors }
        return [Host.read(folder + "/irq").flatMap { Int($0) } ?? 0].filter { $0 > 0 }
    }

    /// Where the interrupt arrives; where the kernel does not say that, where it may.
    private static func handlers(of number: Int) -> [Int] {
        for file in ["effective_affinity_list", "smp_affinity_list"] {
            if let text = Host.read("/proc/irq/\(number)/\(file)"),
                let cpus = NumberList.parse(text), !cpus.isEmpty
            {
                return cpus
            }
        }
        return []
    }
}
