// The search for the largest packet that passes.

/// Halves the range between a size that passes and a size that does not. Follows what ICMP errors tell, and
/// checks it: the size above must fail.
public struct PathMTUSearch: Sendable, Equatable {
    /// Known to pass.
    public private(set) var passing: Int
    /// Known to fail, or more than the link can carry.
    private var failing: Int
    private var hint: Int?
    /// Whether `hint` is the size above what an error told, which is asked once.
    private var isCheck = false

    /// - Parameters:
    ///   - passing: a size that has passed.
    ///   - largest: the largest that the first link carries.
    public init(passing: Int, largest: Int) {
        self.passing = passing
        failing = max(largest, passing) + 1
        hint = largest
    }

    /// The next size to try; nil: `passing` is the largest.
    public var size: Int? {
        guard failing - passing > 1 else { return nil }
        if let hint, hint > passing, hint < failing { return hint }
        return passing + (failing - passing) / 2
    }

    public mutating func pass(_ size: Int) {
        let wasTold = size == hint && !isCheck
        passing = max(passing, size)
        (hint, isCheck) = wasTold ? (size + 1, true) : (nil, false)
    }

    /// - Parameter told: the largest packet that passes, as an ICMP error has it.
    public mutating func fail(_ size: Int, told: Int? = nil) {
        failing = min(failing, size)
        (hint, isCheck) = told == passing ? (passing + 1, true) : (told, false)
    }
}
