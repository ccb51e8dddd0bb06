// The supervisor's words to its engine, on a connection that only these two have.

/// What the supervisor says.
enum EngineOrder: Codable {
    enum Purpose: String, Codable {
        /// Prepare all that workers need.
        case prepare
        /// Start workers.
        case start
        /// Answer on the admin socket.
        case serve
        /// Another configuration: all of it or none.
        case take
        /// What was opened or went, under the same configuration.
        case follow
        /// What is only reported.
        case note
    }

    /// A document (`ProvisionDocument`) comes with this message. `follow` and `note` are not answered.
    case provision(Purpose)
    /// At each tick: the supervisor goes on.
    case life
    /// Workers end, and the admin endpoint answers no more; answered.
    case end(Assignment.Ending)
    /// What became of the reload that was asked for; a document (`ReloadOutcome`) comes with it.
    case reloaded(UInt64)
}
