// What workers wait at until the engine is ready for frames.

import Synchronization

/// Closed at first; opened once.
final class Gate: Sendable {
    private let isOpen = Atomic<Bool>(false)

    func open() { isOpen.store(true, ordering: .releasing) }

    /// For a start, which takes milliseconds.
    func wait(pause: () -> Void) {
        while !isOpen.load(ordering: .acquiring) { pause() }
    }
}
