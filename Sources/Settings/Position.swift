// A place in a configuration file.

struct Position: Hashable, Sendable, Comparable {
    /// Index into the files that were loaded.
    var file: Int
    /// From 1.
    var line: Int
    /// From 1, in Unicode scalars, as libyaml counts them.
    var column: Int

    static func < (left: Position, right: Position) -> Bool {
        (left.file, left.line, left.column) < (right.file, right.line, right.column)
    }
}
