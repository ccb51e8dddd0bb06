// Which ring is served when, where a worker has several: none waits until another is empty.

/// A batch is shared out evenly among the rings that have frames; what one does not need goes to the
/// others. The next batch begins with another ring, so that with more rings than a batch has frames
/// each is served in turn.
struct RingTurns {
    /// The ring that the next batch begins with.
    private(set) var first = 0

    /// Fills one batch.
    /// - Parameters:
    ///   - rings: how many there are, at least 1.
    ///   - busy: how many of them have frames.
    ///   - batch: frames that fit.
    ///   - take: takes up to so many frames of a ring; how many it took.
    /// - Returns: frames taken.
    @inline(__always)
    mutating func serve(
        rings: Int, busy: Int, batch: Int, take: (_ ring: Int, _ limit: Int) -> Int
    ) -> Int {
        guard busy > 0 else { return 0 }
        let start = first < rings ? first : 0
        var count = 0
        var ring = start
        let share = max(batch / busy, 1)
        repeat {
            count &+= take(ring, min(share, batch &- count))
            ring = Self.next(ring, rings)
        } while ring != start && count < batch
        first = count < batch ? Self.next(start, rings) : ring
        // What is left of the batch, for those that have more than their share.
        ring = start
        repeat {
            if count == batch { break }
            count &+= take(ring, batch &- count)
            ring = Self.next(ring, rings)
        } while ring != start
        return count
    }

    @inline(__always)
    private static func next(_ ring: Int, _ rings: Int) -> Int {
        ring &+ 1 == rings ? 0 : ring &+ 1
    }
}
