// An interface's rings, and the memory of their places.

import Forwarding
import Glibc
import HostPlan
import IP
import LinuxIO
import Synchronization

/// A configured interface that is there: its rings, one a worker.
final class OpenInterface {
    let specification: Resource.Rings
    let rings: [PacketRing]
    /// Of the rings' places.
    let memory: NamedMemory

    init(_ wanted: Resource.Rings) throws(SystemError) {
        specification = wanted
        // ARPHRD_ETHER and ARPHRD_LOOPBACK: the link layers that begin with an Ethernet header.
        guard wanted.hardwareType == 1 || wanted.hardwareType == 772 else {
            throw SystemError(
                "open", wanted.interface, errno: EOPNOTSUPP,
                hint: "it is no Ethernet device; name the device below it under interfaces")
        }
        let fanout = wanted.cpus.count > 1 ? FanoutGroup() : nil
        let memory = try NamedMemory(
            name: "shuck-places", byteCount: Self.placeBytes(wanted), cpu: wanted.cpus[0])
        rings = try wanted.cpus.map { (cpu) throws(SystemError) in
            try Placement.withMemory(onNodeOf: cpu) { () throws(SystemError) in
                try PacketRing(
                    interface: wanted.interface, index: wanted.index, slotSize: wanted.slotBytes,
                    slotCount: wanted.slotCount, fanout: fanout, place: Self.place(in: memory))
            }
        }
        self.memory = memory
    }

    /// Rings that another process opened and handed over.
    /// - Parameter descriptors: of the rings, then of the memory of their places.
    init(adopting descriptors: [Descriptor], _ held: Resource.Rings) throws(SystemError) {
        specification = held
        let memory = try NamedMemory(
            adopting: descriptors[held.cpus.count], byteCount: Self.placeBytes(held))
        rings = try descriptors.prefix(held.cpus.count).map { (descriptor) throws(SystemError) in
            try PacketRing(
                adopting: descriptor, interface: held.interface, index: held.index,
                slotSize: held.slotBytes, slotCount: held.slotCount, place: Self.place(in: memory))
        }
        self.memory = memory
    }

    private static func placeBytes(_ rings: Resource.Rings) -> Int {
        rings.cpus.count * NamedMemory.bytes(for: Atomic<UInt64>.self, RingPlace.words)
    }

    /// Each has cache lines of its own.
    private static func place(in memory: NamedMemory) -> RingPlace {
        RingPlace(memory.take(Atomic<UInt64>.self, RingPlace.words))
    }

    var descriptors: [Descriptor] { rings.map(\.descriptor) + [memory.file] }

    func receive(_ natives: Set<Address>) throws(SystemError) {
        let filter = TapFilter.frames(natives: natives)
        for ring in rings { try ring.startReceiving(filter) }
    }
}
