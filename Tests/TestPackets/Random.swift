// Numbers that look random and are the same in every run.

import Glibc

struct SeedProblem: Error, CustomStringConvertible {
    let seed: String
    var description: String { "SHUCK_SEED is \(seed): it must be a number or random" }
}

/// Steele, Lea and Flood's SplitMix64: the same numbers from the same seed, everywhere.
public struct Random: RandomNumberGenerator {
    private var state: UInt64
    public init(_ seed: UInt64) { state = seed }

    /// A test's seed: the usual one, so that a run that passes passes again; another where `SHUCK_SEED` is a
    /// number or, for campaigns, `random`.
    public static func seed(usually usual: UInt64) throws -> UInt64 {
        guard let chosen = getenv("SHUCK_SEED").map({ String(cString: $0) }) else { return usual }
        if chosen == "random" { return UInt64.random(in: 1...UInt64(UInt32.max)) }
        guard let seed = UInt64(chosen) else { throw SeedProblem(seed: chosen) }
        return seed
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }

    public mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
    public mutating func chance(_ oneIn: Int) -> Bool { below(oneIn) == 0 }
    public mutating func chance(_ probability: Double) -> Bool {
        Double.random(in: 0..<1, using: &self) < probability
    }
    public mutating func pick<T>(_ items: [T]) -> T { items[below(items.count)] }
    public mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}
