// Makes what workers share once for each NUMA node that has workers, on that node: no lookup crosses nodes.

import LinuxIO
import Synchronization

/// The nodes that have workers.
final class WorkerNodes {
    /// For each worker the place of its node among what `make` returns.
    let places: [Int]
    /// Empty where all memory is equally near.
    private let builders: [NodeThread]

    init(cpus: [Int]) throws(SystemError) {
        let nodes = Placement.nodes
        guard nodes.count > 1 else {
            places = cpus.map { _ in 0 }
            builders = []
            return
        }
        var order: [Int?] = []
        var places: [Int] = []
        var builders: [NodeThread] = []
        for cpu in cpus {
            let node = nodes.first { $0.value.contains(cpu) }?.key
            if let place = order.firstIndex(of: node) {
                places.append(place)
            } else {
                places.append(order.count)
                order.append(node)
                builders.append(try NodeThread(cpu: cpu))
            }
        }
        self.places = places
        self.builders = builders
    }

    /// What `body` makes of a place, for each; equal, but that each lies on its own node.
    func make<R: Sendable>(_ body: @escaping @Sendable (Int) -> R) -> [R] {
        if builders.isEmpty { return [body(0)] }
        return builders.enumerated().map { place, builder in builder.run { body(place) } }
    }
}

/// A thread that works for others with memory of one node. glibc gives each thread a heap of its
/// own, so what this one makes lies there.
private final class NodeThread {
    private final class Orders: Sendable {
        /// nil: the end.
        let work = Mutex<(@Sendable () -> Void)?>(nil)
        let given: Wakeup
        let done: Wakeup

        init() throws(SystemError) {
            given = try Wakeup()
            done = try Wakeup()
        }
    }

    private let orders: Orders
    private let thread: WorkerThread

    init(cpu: Int) throws(SystemError) {
        let orders = try Orders()
        self.orders = orders
        thread = try WorkerThread(name: "shuck-node-\(cpu)") {
            Placement.withMemory(onNodeOf: cpu) {
                while true {
                    orders.given.wait()
                    guard let work = orders.work.withLock({ $0 }) else { return }
                    work()
                    orders.done.signal()
                }
            }
        }
    }

    deinit {
        orders.work.withLock { $0 = nil }
        orders.given.signal()
        thread.join()
    }

    func run<R: Sendable>(_ body: @escaping @Sendable () -> R) -> R {
        let result = Mutex<R?>(nil)
        orders.work.withLock { work in
            work = {
                let made = body()
                result.withLock { $0 = made }
            }
        }
        orders.given.signal()
        orders.done.wait()
        return result.withLock { $0! }
    }
}
