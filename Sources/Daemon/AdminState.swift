// The state that the control thread shares with the admin endpoint, and what that asks of it.

import LinuxIO
import NIOCore
import Synchronization

final class AdminState: Sendable {
    /// What the control thread is asked, and where its answer goes.
    enum Request: Sendable {
        case reload(EventLoopPromise<ReloadOutcome>)
        /// The mirror of the routes is the control thread's alone. nil: the interface is not configured.
        case why(RouteAnswer.Inquiry, EventLoopPromise<RouteAnswer?>)
    }

    /// nil before the first assignment was published.
    let snapshot = Mutex<Snapshot?>(nil)
    private let requests = Mutex<[Request]>([])
    let wakeup: Wakeup

    init() throws(SystemError) { wakeup = try Wakeup() }

    /// Hands a request to the control thread, which answers it.
    func request<R: Sendable>(
        on loop: EventLoop, _ make: (EventLoopPromise<R>) -> Request
    ) -> EventLoopFuture<R> {
        let promise = loop.makePromise(of: R.self)
        requests.withLock { $0.append(make(promise)) }
        wakeup.signal()
        return promise.futureResult
    }

    func takeRequests() -> [Request] {
        requests.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
    }
}
