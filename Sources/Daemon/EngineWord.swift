// The engine's words to its supervisor.

/// What the engine says.
enum EngineWord: Codable {
    /// What became of an order; a document (`EngineAnswer`) comes with this message.
    case answer
    /// At each tick, and when it changes. With the count of it as a document (`EngineCount`) where that has
    /// changed.
    case state(EngineState)
    /// Parts of what was provided that it could not take, by number.
    case missing([Int])
    /// Somebody asks for the configuration on disk.
    case reload(UInt64)
}
