// The devices below an interface: their NUMA nodes and their interrupts.

/// The hardware of an interface: its own device, or those below a bond, a bridge or a VLAN. A virtual
/// interface such as a veth has none.
public struct InterfaceHardware: Equatable, Sendable, Codable {
    public struct Interrupt: Equatable, Sendable, Codable {
        public let number: Int
        /// As its driver calls it; empty when /proc/interrupts does not tell.
        public var name = ""
        /// Since the host started; nil when /proc/interrupts does not tell.
        public var count: UInt64?
        /// CPUs that may handle it.
        public var cpus: [Int] = []

        public init(_ number: Int) { self.number = number }
    }

    public let name: String
    /// NUMA nodes of its devices, ascending.
    public var nodes: [Int] = []
    public var interrupts: [Interrupt] = []
    /// Receive queues of its devices, of the interface itself where it stands on none; nil where
    /// sysfs is that of another network namespace.
    public var receiveQueues: Int?

    public init(_ name: String) { self.name = name }

    /// Interrupts with at least a hundredth of the interface's count: the others signal events of the
    /// device, not frames. All of them when the kernel gives no counts.
    public var busyInterrupts: [Interrupt] {
        let all = interrupts.reduce(UInt64(0)) { $0 &+ ($1.count ?? 0) }
        return interrupts.filter { interrupt in
            guard let count = interrupt.count else { return true }
            return count > 0 && count >= all / 100
        }
    }
}
