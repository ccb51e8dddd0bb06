// What a worker is told to run on.

import Forwarding
import LinuxIO
import Settings

/// What a worker runs on from one batch border to the next. Immutable.
final class Assignment: Sendable {
    struct Port: Sendable {
        /// Index into the policy's interfaces.
        let interface: UInt16
        let ring: PacketRing
    }

    struct Device: Sendable {
        /// This worker's queue; nil: the device is absent.
        let queue: Descriptor?
        /// What may be joined for it.
        let joins: Coalescer.Kinds
        /// Where to say that the kernel refused it.
        let refusals: TunDevice.Refusals?
    }

    /// Whether the worker's work is over.
    enum Ending: String, Codable {
        case none
        /// Empty the rings, then end.
        case drained
        /// End at once: another process goes on with the rings.
        case handedOver
    }

    let generation: UInt64
    let world: ForwardingTables
    let configuration: Configuration
    let ports: [Port]
    /// In the policy's order.
    let devices: [Device]
    /// nil: no device needs them.
    let icmpErrors: ICMPErrors?
    /// nil: no probe is rewritten.
    let probeReturn: ProbeReturn?
    /// nil: no limit.
    let limits: InjectionLimits?
    let counters: CounterBlock
    let examples: DropExamples
    let ending: Ending

    /// - Parameter worker: the number of its ring and of its queue.
    init(
        _ configuration: Configuration, _ plumbing: Plumbing, worker: Int, generation: UInt64,
        world: ForwardingTables,
        counters: CounterBlock, examples: DropExamples, ending: Ending = .none
    ) {
        self.configuration = configuration
        self.generation = generation
        self.world = world
        self.counters = counters
        self.examples = examples
        self.ending = ending
        ports = configuration.interfaces.enumerated().compactMap { index, name in
            plumbing.interface(name).map { Port(interface: UInt16(index), ring: $0.rings[worker]) }
        }
        devices = configuration.devices.map { settings in
            let device = plumbing.device(settings.name)
            return Device(
                queue: device?.queues[worker],
                joins: configuration.workers.coalesce ? device?.joins ?? [] : [], refusals: device?.refusals)
        }
        icmpErrors = plumbing.icmpErrors
        probeReturn = plumbing.probeReturn
        limits = plumbing.limits
    }
}

extension TunDevice {
    /// What its kernel cuts, as far as is known.
    var joins: Coalescer.Kinds {
        let offloads = usableOffloads
        // A joined packet's checksums are made when it is cut.
        guard offloads.contains(.checksum) else { return [] }
        return (offloads.contains(.tcp) ? Coalescer.Kinds.tcp : [])
            .union(offloads.contains(.udp) ? .udp : [])
    }
}
